"""What the checks of other libraries share: a loader whose labels are sample numbers, and a run of two processes."""

import json
import os
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest

from dalipipe import DataLoader, Recipe
from dalipipe.recipes import ops
from dalipipe.sources import ArraySource

ROOT = Path(__file__).resolve().parents[2]
RECIPE = Recipe(name="test", ops=(ops.RandomCrop(size=(7, 5)), ops.Normalize(mean=(0.5,) * 3, std=(0.25,) * 3)))


@pytest.fixture
def make_loader():
    """make_loader(count=19, **arguments) -> a shuffled loader of batches of 4; a sample's label is its number."""
    made = []

    def make(count=19, **arguments):
        pixels = np.arange(count * 11 * 9 * 3, dtype=np.uint32).astype(np.uint8).reshape(count, 11, 9, 3)
        defaults = {"batch_size": 4, "shuffle": True, "recipe": RECIPE, "seed": 5, "num_threads": 2}
        made.append(DataLoader(ArraySource(pixels, range(count)), **{**defaults, **arguments}))
        return made[-1]

    yield make
    for loader in made:
        loader.close()


@pytest.fixture(scope="session")
def two_processes(tmp_path_factory):
    """What both ranks of `two_processes.py` saw under torchrun with gloo."""
    folder = tmp_path_factory.mktemp("two_processes")
    torchrun = [sys.executable, "-m", "torch.distributed.run", "--standalone", "--nproc-per-node=2"]
    done = subprocess.run(
        [*torchrun, Path(__file__).with_name("two_processes.py"), folder],
        env={**os.environ, "OMP_NUM_THREADS": "1", "PYTHONPATH": str(ROOT)},
        capture_output=True,
        text=True,
        timeout=240,
    )
    assert done.returncode == 0, done.stderr[-3000:]
    return [json.loads((folder / f"{rank}.json").read_text()) for rank in range(2)]
