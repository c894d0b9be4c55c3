"""Where `dalipipe train` writes: never among the images, never beside another writer; and how one goes on."""

import json
import os
import shutil
import subprocess

import pytest
from typer.testing import CliRunner

from dalipipe.cli import app
from dalipipe.training.run import learning
from dalipipe.training.run.lock import held
from dalipipe.training.run.saving import quoted

pytestmark = pytest.mark.usefixtures("quick")


def run(*arguments):
    return CliRunner().invoke(app, [str(argument) for argument in arguments])


@pytest.fixture
def photos(make_image_folder, tmp_path, tiny, monkeypatch):
    """Eight images in the classes ant and bee, in the folder where people are; a recipe above."""
    (tmp_path / "tiny.toml").write_text(tiny)
    folder = make_image_folder("photos", classes=("ant", "bee"), sizes=((17, 11),))
    monkeypatch.chdir(folder)
    return folder


def options(*more, epochs=1):
    return ["--recipe", "../tiny.toml", "--weights", "none", "--epochs", epochs, "--batch-size", 4,
            "--backend", "torchvision", "--threads", 1, "--no-report", *more]  # fmt: skip


def seen(folder):
    """The classes and numbers of images of each run below a folder."""
    found = [json.loads(path.read_text()) for path in sorted(folder.glob("**/summary.json"))]
    return [(one["classes"], one["train_images"] + one["val_images"]) for one in found]


def test_the_default_output_is_not_among_the_images(photos, monkeypatch):
    monkeypatch.setattr("dalipipe.training.place.time.strftime", lambda _: "20300101-120000")  # both in one second
    for _ in range(2):
        result = run("train", ".", *options())
        assert (result.exit_code, result.stderr) == (0, ""), result.output
        assert f"output    {photos.parent / 'runs'}" in result.stdout
    assert sorted(path.name for path in photos.iterdir()) == ["ant", "bee"]
    assert seen(photos.parent) == [(["ant", "bee"], 8)] * 2


def test_outputs_among_the_images_are_no_data(photos, caplog):
    for name in ("runs/one", "runs/two", "ant/three"):
        result = run("train", ".", *options("--output", name))
        assert result.exit_code == 0, result.output
        shutil.copy(next((photos / "ant").glob("*.jpg")), photos / name / "mistakes.png")
    assert seen(photos) == [(["ant", "bee"], 8)] * 3
    assert "left out 2 runs of dalipipe train ('runs/one', 'runs/two')" in caplog.text
    result = run("train", "--resume", "--output", "ant/three")
    assert (result.exit_code, result.stdout.startswith("finished already")) == (0, True)


@pytest.mark.parametrize("output", [".", "ant", "../photos/bee"])
def test_a_folder_of_images_is_no_output(photos, output):
    result = run("train", ".", *options("--output", output))
    assert (result.exit_code, result.stderr.count("\n")) == (2, 1)
    assert "--output: must not be a folder of DATA" in result.stderr
    assert not list(photos.glob("**/config.toml"))


@pytest.mark.parametrize("arguments", [["train", ""], ["train", ".", "--output", ""], ["train", "--set", "output="]])
def test_no_letters_are_no_path(photos, arguments):
    result = run(*arguments, *options())
    assert (result.exit_code, result.stderr.count("\n")) == (2, 1), result.output
    assert "must be a path, got ''" in result.stderr


def test_a_name_that_no_configuration_can_hold_is_refused(photos):
    result = run("train", ".", *options("--output", os.fsdecode(b"run-\xff")))
    assert (result.exit_code, result.stderr.count("\n")) == (2, 1), result.output
    assert "--output: must be a name in UTF-8" in result.stderr


@pytest.mark.parametrize("more", [(), ("--resume",), ("--folds", 2)])
def test_a_second_run_is_refused_in_one_line(photos, more):
    with held(photos.parent / "run"):
        result = run("train", ".", *options("--output", "../run", *more))
    assert (result.exit_code, result.stderr.count("\n")) == (2, 1)
    assert "--output: must have one writer" in result.stderr
    assert f"(process {os.getpid()} on " in result.stderr
    assert not (photos.parent / "run").exists()
    assert run("train", ".", *options("--output", "../run")).exit_code == 0


def test_an_output_whose_folds_are_written_is_held(photos):
    with held(photos.parent / "run/fold-2"):
        result = run("train", ".", *options("--output", "../run", "--folds", 2))
    assert (result.exit_code, "fold-2', where another run writes" in result.stderr) == (2, True)


ODD = ["plain", "it's a run", '$HOME `x` "y" \\z', "-dash", "new\nline", "tab\tand'quote", b"not-utf8-\xff", "caf\xe9"]


@pytest.mark.parametrize("name", ODD)
def test_a_shell_reads_the_path_of_a_run(tmp_path, name):
    path = tmp_path / os.fsdecode(name)
    done = subprocess.run(["bash", "-c", f"printf %s {quoted(path)}"], capture_output=True, check=True, timeout=60)
    assert done.stdout == os.fsencode(path)
    assert quoted(path).isprintable()


def test_what_the_message_names_goes_on_from_anywhere(photos, monkeypatch):
    """With the options that were given, however relative, and a name that a shell has to be told."""
    learn, left = learning.learn, [1]

    def learn_and_stop(*arguments):
        learn(*arguments)
        left[0] -= 1
        if left[0] == 0:
            os.kill(os.getpid(), 15)

    monkeypatch.setattr(learning, "learn", learn_and_stop)
    first = run("train", ".", *options("--output", "../it's\na run", epochs=2))
    assert (first.exit_code, first.stderr.count("\n")) == (143, 1)
    command = first.stderr.rpartition("Go on with: dalipipe ")[2]
    split = subprocess.run(["bash", "-c", f"printf '%s\\0' {command}"], capture_output=True, check=True, timeout=60)
    monkeypatch.chdir("/")
    second = run(*split.stdout.decode().split("\0")[:-1])
    assert second.exit_code == 0, second.output
    assert second.stdout.startswith("resumed: epoch 1, ")
    assert seen(photos.parent) == [(["ant", "bee"], 8)]


def test_what_calling_everything_by_one_name_would_be_right_for_is_said(photos):
    for path in list((photos / "ant").iterdir())[2:]:
        path.unlink()
    result = run("train", ".", *options("--output", "../run"))
    summary = json.loads((photos.parent / "run/summary.json").read_text())
    assert [one["images"] for one in summary["evaluation"]["per_class"]] == [1, 1]
    assert summary["evaluation"]["baseline"] == {"class": "ant", "acc": 0.5}
    assert "the classes are unequal" not in result.stderr
    assert "To call all of them ant, the largest class, would be right for 50.0%." in result.stdout
    assert ("The network does no better." in result.stdout) == (summary["best"]["val_acc"] <= 0.5)
