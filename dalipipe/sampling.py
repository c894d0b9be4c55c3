"""Which sample goes into which batch: decided in Python, before a backend runs."""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray


@dataclass(frozen=True)
class Batch:
    """The samples of one batch.

    Attributes:
        epoch: Number of the pass over the data.
        indices: (n,) int64, positions in the source.
        occurrences: (n,) int64, how often each sample came before within the epoch; 0 for a sampler that repeats none.
    """

    epoch: int
    indices: NDArray[np.int64]
    occurrences: NDArray[np.int64]

    def __len__(self) -> int:
        """Return the number of samples."""
        return len(self.indices)

    def select(self, keep: NDArray[np.bool_]) -> Batch:
        """Return the batch with only the samples where `keep` is true."""
        return Batch(self.epoch, self.indices[keep], self.occurrences[keep])


def batched(order: Iterable[int], batch_size: int, *, epoch: int, drop_last: bool) -> Iterator[Batch]:
    """Yield the batches of an epoch whose samples come in the given order.

    Args:
        order: Sample indices.
        batch_size: Samples in every batch but the last.
        epoch: Number of the pass, for the random decisions.
        drop_last: Leave out a last batch that is not full.
    """
    seen: dict[int, int] = {}
    pending: list[int] = []
    for index in order:
        pending.append(int(index))
        if len(pending) == batch_size:
            yield make_batch(pending, epoch, seen)
            pending = []
    if pending and not drop_last:
        yield make_batch(pending, epoch, seen)


def make_batch(indices: list[int], epoch: int, seen: dict[int, int]) -> Batch:
    """Return a batch and count each of its samples in `seen`."""
    occurrences = []
    for index in indices:
        occurrences.append(seen.get(index, 0))
        seen[index] = occurrences[-1] + 1
    return Batch(epoch, np.array(indices, dtype=np.int64), np.array(occurrences, dtype=np.int64))
