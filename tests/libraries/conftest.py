"""What the checks of other libraries share: a loader whose labels are sample numbers, and a run of two processes."""

import numpy as np
import pytest

from dalipipe import DataLoader, Recipe
from dalipipe.recipes import ops
from dalipipe.sources import ArraySource
from tests.warm import run_ranks

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
def two_processes():
    """What both ranks saw that trained together, with gloo."""
    from tests.libraries.two_processes import with_both  # here, since Lightning takes seconds to import

    return run_ranks(with_both, 2)
