"""What every subject of a benchmark is given, and what it is."""

from __future__ import annotations

from collections.abc import Iterable
from contextlib import AbstractContextManager
from dataclasses import dataclass
from typing import Protocol

import numpy as np
from numpy.typing import NDArray

from dalipipe.benchmark.meter import Batch
from dalipipe.recipes import Recipe


@dataclass(frozen=True)
class Work:
    """What to load, and with what.

    Attributes:
        root: A folder in ImageFolder's layout.
        recipe: What is done to the images.
        batch_size: Images in a batch.
        threads: Threads, or worker processes.
        seed: Of the random decisions, where the subject takes one.
    """

    root: str
    recipe: Recipe
    batch_size: int
    threads: int
    seed: int = 0


class Subject(Protocol):
    """Something that can be measured: it lists its files when it is made, and opens a fresh loader each time."""

    def open(self, recipe: Recipe, indices: NDArray[np.int64]) -> AbstractContextManager[Iterable[Batch]]:
        """Open a loader over some images, in that order."""
        ...
