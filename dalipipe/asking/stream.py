"""Data sets that can only be gone through: their samples come in order, and a place among them is a count."""

from __future__ import annotations

from collections.abc import Iterator
from itertools import count
from typing import Any

import numpy as np

from dalipipe.asking.asker import Asker
from dalipipe.asking.patches import installed
from dalipipe.asking.sample import Asked
from dalipipe.asking.source import AskedSource
from dalipipe.decisions import randomness
from dalipipe.decisions.generators import lent
from dalipipe.errors import StateError, shown
from dalipipe.sampling import Batch, Pass

_UNKNOWN = 2**31 - 1  # samples, as far as anybody knows


class StreamSource(AskedSource):
    """The samples of an `IterableDataset`, as many as it says or else nobody knows how many.

    Args:
        dataset: torch's or one that derives from it.
    """

    def __init__(self, dataset: Any) -> None:
        super().__init__(dataset, len(dataset) if hasattr(dataset, "__len__") else _UNKNOWN)


class StreamOrder:
    """The order in which an `IterableDataset` gives its samples; each is asked for when it is next in the order."""

    def __init__(self) -> None:
        self._asker: Asker | None = None
        self._skip = 0

    def join(self, asker: Asker) -> None:
        """Leave what comes, and is not in a batch yet, to an asker."""
        self._asker = asker
        asker.waiting = {}

    def begin(self, epoch: int, seed: int) -> Pass:
        """Return the samples of an epoch, by their numbers."""
        skip, self._skip = self._skip, 0
        return Pass(self._numbers(epoch, seed, skip))

    def _numbers(self, epoch: int, seed: int, skip: int) -> Iterator[int]:
        asker = self._asker
        assert asker is not None
        waiting: dict[int, Asked] = {}
        asker.waiting = waiting
        samples = iter(asker.dataset)
        with installed():
            for number in count():
                batch = Batch(epoch, np.array([number]), np.zeros(1, np.int64), seed=seed)
                sample = Asked(asker, batch, 0)
                (words,) = randomness.words(seed, epoch, [number], [0], randomness.ASK_POSITION)
                with lent():
                    if not sample.take(samples, words):
                        return
                if number >= skip:
                    waiting[number] = sample
                yield number

    def check(self, state: dict[str, Any], position: int) -> None:
        """Refuse a sampler's state.

        Raises:
            StateError: it is one.
        """
        if state:
            raise StateError(
                f"loader state: order must be empty where the data set is gone through, got {shown(state)}. Use what"
                " state_dict() gave, with the same data set."
            )

    def restore(self, state: dict[str, Any], position: int) -> None:
        """Make the next `begin` pass over the samples before a position: they are asked for and left out."""
        self._skip = position
