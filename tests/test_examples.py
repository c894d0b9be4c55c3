"""Every script in examples/ runs as it stands."""

import contextlib
import io
import os
import pickle
import re
import runpy
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest
from torchvision.datasets import CIFAR10

from tests.warm import run_ranks

EXAMPLES = Path(__file__).resolve().parents[1] / "examples"

TINY = """name = "tiny"
[[ops]]
op = "RandomResizedCrop"
size = 32
[[ops]]
op = "Normalize"
mean = [0.5]
std = [0.5]
"""


def run(script, *arguments):
    return subprocess.run(
        [sys.executable, EXAMPLES / script, *map(str, arguments)],
        env={**os.environ, "PYTHONPATH": str(EXAMPLES.parent), "OMP_NUM_THREADS": "1"},
        capture_output=True,
        text=True,
        timeout=240,
        check=False,
    )


@pytest.fixture
def run_here(monkeypatch, capsys):
    """run_here(script, *arguments) -> the lines that the script prints, run in this process, which is quicker."""

    def play(script, *arguments):
        monkeypatch.setattr(sys, "argv", [script, *map(str, arguments)])
        runpy.run_path(str(EXAMPLES / script), run_name="__main__")
        return capsys.readouterr().out.splitlines()

    return play


@pytest.fixture
def tiny(tmp_path):
    """A recipe of 32 px."""
    (tmp_path / "tiny.toml").write_text(TINY)
    return tmp_path / "tiny.toml"


def test_quickstart_trains_on_a_folder(make_image_folder):
    result = run("quickstart.py", make_image_folder(per_class=5))
    assert result.returncode == 0, result.stderr
    lines = result.stdout.splitlines()
    assert [line.split(":")[0] for line in lines] == [f"epoch {number}" for number in range(1, 9)]
    assert all(line.endswith("of 3 validation images right") for line in lines)


def test_vgg16_stops_early_and_keeps_the_best(run_here, make_image_folder, tiny):
    options = ("--weights", "none", "--recipe", tiny, "--batch-size", 4, "--epochs", 6, "--patience", 1)
    *epochs, best = run_here("vgg16_small_data.py", make_image_folder(per_class=5), *options)
    losses = [float(line.split("loss ")[1].split(",")[0]) for line in epochs if line.startswith("epoch")]
    assert best == f"best validation loss {min(losses):.4f}"
    stopped = "stopped" in epochs[-1]
    # Equal as they are printed may be better or worse.
    assert all(losses[number] <= min(losses[:number]) for number in range(1, len(losses) - stopped))
    assert losses[-1] >= min(losses[:-1]) if stopped else len(losses) == 6


def test_simclr_learns_and_probes(run_here, make_image_folder):
    options = ("--epochs", 2, "--batch-size", 4, "--size", 32)
    before, *epochs, after = run_here("simclr.py", make_image_folder(per_class=5), *options)
    assert before.startswith("random features: ") and after.startswith("features learnt without labels: ")
    assert [line.split(":")[0] for line in epochs] == ["epoch 1", "epoch 2"]
    assert all(0 < float(line.split("loss ")[1]) < 10 for line in epochs)


def test_cifar10_is_read_and_learnt_from(run_here, tmp_path, monkeypatch):
    folder = tmp_path / CIFAR10.base_folder
    folder.mkdir()
    names = [name for name, _ in [*CIFAR10.train_list, *CIFAR10.test_list]]
    rng = np.random.default_rng(0)
    for name in names:  # 10 rows each of 3 x 32 x 32 levels, the whole red plane first
        batch = {"data": rng.integers(0, 256, (10, 3072), dtype=np.uint8), "labels": list(range(10))}
        (folder / name).write_bytes(pickle.dumps(batch))
    meta = {"label_names": [f"class {number}" for number in range(10)]}
    (folder / "batches.meta").write_bytes(pickle.dumps(meta))
    for field in ("train_list", "test_list"):  # the checksums are those of the real files
        monkeypatch.setattr(CIFAR10, field, [[name, None] for name, _ in getattr(CIFAR10, field)])
    monkeypatch.setattr(CIFAR10, "meta", {**CIFAR10.meta, "md5": None})
    lines = run_here("cifar10_resnet18.py", "--data", tmp_path, "--epochs", 2, "--batch-size", 25)
    assert [line.split(":")[0] for line in lines] == ["epoch 1", "epoch 2"]
    assert all(line.endswith("of 10 test images right") for line in lines)


def test_a_lightning_module_is_fed(run_here, make_image_folder, tiny, tmp_path):
    options = ("--recipe", tiny, "--epochs", 1, "--batch-size", 4, "--accelerator", "cpu", "--output", tmp_path / "out")
    lines = run_here("lightning_module.py", make_image_folder(per_class=5), *options)
    assert re.fullmatch(r"validation accuracy [01]\.\d{3}", lines[-1])


def run_as_rank(script, arguments):
    """Return the lines that a script prints in this process."""
    with pytest.MonkeyPatch.context() as patch, contextlib.redirect_stdout(io.StringIO()) as printed:
        patch.setattr(sys, "argv", [script, *map(str, arguments)])
        runpy.run_path(str(EXAMPLES / script), run_name="__main__")
    return printed.getvalue().splitlines()


def test_two_processes_train_together_and_count_every_image_once(make_image_folder, tiny):
    arguments = (make_image_folder(per_class=5), "--recipe", tiny, "--epochs", 2, "--batch-size", 3)
    lines, others = run_ranks(run_as_rank, 2, "ddp.py", arguments)  # as torchrun starts them
    assert others == []
    assert [line.split(":")[0] for line in lines] == ["epoch 1", "epoch 2"]
    assert all(line.endswith("of 3 validation images right") for line in lines)


def test_every_example_has_its_test():
    tests = "".join(path.read_text() for path in Path(__file__).parent.rglob("test_*.py"))
    for script in EXAMPLES.glob("*.py"):
        called = rf'(run|run_here|run_ranks)\((run_as_rank, 2, )?"{script.name}"'
        assert re.search(rf'{called}|"examples/{script.name}"', tests), script.name


def test_those_that_train_on_images_are_short():
    for script in EXAMPLES.glob("*.py"):
        text = script.read_text()
        assert "DataLoader" not in text or "dalipipe.text" in text or len(text.splitlines()) < 90, script.name
