"""Runs that are stopped and gone on with, as people do it."""

import os
import re
import signal
import sys

import pytest
import torch
from typer.testing import CliRunner

from dalipipe.cli import app, main
from dalipipe.training.run import learning
from tests.warm import Served


def run(*arguments):
    return CliRunner().invoke(app, [str(argument) for argument in arguments])


@pytest.fixture
def folder(make_image_folder, tmp_path, tiny):
    """Eight images in the classes ant and bee, of which six are trained on, in two batches; a recipe."""
    make_image_folder("photos", classes=("ant", "bee"), sizes=((17, 11),))
    (tmp_path / "tiny.toml").write_text(tiny)
    return tmp_path


def options(folder, epochs, output="run"):
    given = {"recipe": folder / "tiny.toml", "weights": "none", "epochs": epochs, "batch_size": 4,
             "backend": "torchvision", "output": folder / output, "set": "report=false"}  # fmt: skip
    pairs = [(f"--{name.replace('_', '-')}", value) for name, value in given.items()]
    return [folder / "photos", *(part for pair in pairs for part in pair)]


def command(arguments, errors):
    """Be the command, with its standard error in a file."""
    os.dup2(os.open(errors, os.O_WRONLY | os.O_CREAT), 2)
    sys.stderr = open(2, "w", closefd=False)  # noqa: SIM115 - for as long as the process lives
    sys.argv = ["dalipipe", *arguments]
    main()


def test_a_signal_ends_a_run_in_order(folder):
    signum = signal.SIGINT  # SIGTERM: see below, without a process of its own
    arguments = ["train", *map(str, options(folder, 100_000))]
    process = Served(command, arguments, folder / "errors")
    for line in process.stdout:
        if line.lstrip().startswith("1 "):  # the row of the first epoch
            os.kill(process.pid, signum)
            break
    assert process.wait() == 130
    stderr = (folder / "errors").read_text()
    where = re.fullmatch(
        rf"stopped by {signum.name} before (epoch \d+, (batch \d|validation))\. "
        rf"Go on with: dalipipe train --resume --output {re.escape(str(folder / 'run'))}\n",
        stderr,
    )
    assert where
    assert torch.load(folder / "run/last.pt", weights_only=True)["epoch"] >= 1
    assert list((folder / "run/checkpoints").iterdir())


def stop_once(monkeypatch, batch):
    """Let a signal come when a batch has been learnt, once."""
    learn, left = learning.learn, [batch]

    def learn_and_stop(*arguments):
        learn(*arguments)
        left[0] -= 1
        if left[0] == 0:
            os.kill(os.getpid(), signal.SIGTERM)

    monkeypatch.setattr(learning, "learn", learn_and_stop)


def test_a_run_that_was_stopped_goes_on_with_its_own_options(folder, quick, monkeypatch):
    whole = run("train", *options(folder, 3, "whole"))
    stop_once(monkeypatch, batch=4)  # the second of the second epoch
    first = run("train", *options(folder, 3))
    command = f"dalipipe train --resume --output {folder / 'run'}"
    assert first.exit_code == 143
    assert first.stderr == f"stopped by SIGTERM before epoch 2, validation. Go on with: {command}\n"
    second = run(*command.split()[1:])
    assert second.exit_code == 0, second.output
    assert second.stdout.startswith("resumed: epoch 2, validation\n")
    assert second.stderr == ""
    names = ("whole", "run")
    assert len({(folder / name / "metrics.jsonl").read_bytes() for name in names}) == 1
    one, other = (torch.load(folder / name / "last.pt", weights_only=True)["state_dict"] for name in names)
    assert all(torch.equal(one[key], other[key]) for key in one)
    row = next(line for line in whole.stdout.splitlines() if line.startswith("    3 "))
    assert row[:40] in second.stdout

    third = run(*command.split()[1:])
    assert (third.exit_code, third.stderr) == (0, "")
    assert third.stdout.startswith(f"finished already: {folder / 'run'}\n")
    assert "Best: epoch" in third.stdout


def test_what_is_wrong_with_a_run_to_go_on_with_is_one_line(folder, quick, monkeypatch):
    stop_once(monkeypatch, batch=3)
    run("train", *options(folder, 3))
    other = run("train", "--resume", "--output", folder / "run", "--lr", "0.5", "--epochs", "4")
    assert (other.exit_code, other.stderr.count("\n")) == (2, 1)
    assert other.stderr.startswith("error: --resume: options must be those that the run in")
    assert "epochs was 3, got 4; lr was 0.005, got 0.5. Leave them out" in other.stderr
    old, new = sorted((folder / "run/checkpoints").iterdir())
    new.write_bytes(b"")
    again = run("train", "--resume", "--output", folder / "run")
    assert again.exit_code == 0, again.output
    assert again.stderr.startswith(f"warning: {new}: must be a file that torch.save wrote")
    assert again.stderr.endswith(f"The one before is used: {old.name}.\n")
    assert again.stderr.count("\n") == 1
    assert again.stdout.startswith("resumed: epoch 2, batch 1\n")
