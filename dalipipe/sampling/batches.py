"""Which sample goes into which batch on which rank: decided in Python, before a backend runs.

The order of an epoch is one sequence of samples, the same on every rank. It is cut into global batches; each rank
takes its part of each of them. So the global batches do not depend on the world size, and a place in an epoch is one
number: how many samples of the order lie behind it.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from dataclasses import dataclass, replace
from itertools import compress

import numpy as np
from numpy.typing import NDArray

from dalipipe.sampling.orders import Counted
from dalipipe.sources import Item

_NONE: NDArray[np.int64] = np.empty(0, dtype=np.int64)
_MANY = 255  # the largest byte
_AT_ONCE = 8192  # samples of an order that is asked by place


@dataclass(frozen=True)
class Batch:
    """The samples of one batch.

    Attributes:
        epoch: Number of the pass over the data.
        indices: (n,) int64, positions in the source.
        occurrences: (n,) int64, how often each sample came before within the epoch; 0 for a sampler that repeats none.
        position: How many samples of the epoch's order lie behind this batch, other ranks' included.
        begin: How many lie before it.
        numbers: (n,) int64, which of the batch's samples these are, where some were left out; None where all are there.
        seed: Of the random decisions; None for the job's.
        items: The samples' images, where the batch brings them; None where the source is asked for them.
    """

    epoch: int
    indices: NDArray[np.int64]
    occurrences: NDArray[np.int64]
    position: int = 0
    begin: int = 0
    numbers: NDArray[np.int64] | None = None
    seed: int | None = None
    items: tuple[Item, ...] | None = None

    def __len__(self) -> int:
        """Return the number of samples."""
        return len(self.indices)

    def select(self, keep: NDArray[np.bool_]) -> Batch:
        """Return the batch with only the samples where `keep` is true."""
        numbers = np.arange(len(self)) if self.numbers is None else self.numbers
        return replace(
            self,
            indices=self.indices[keep],
            occurrences=self.occurrences[keep],
            numbers=numbers[keep],
            items=None if self.items is None else tuple(compress(self.items, keep.tolist())),
        )

    def merged(self, other: Batch, there: NDArray[np.bool_]) -> Batch:
        """Return the batch with the samples of another of the same size where `there` is true."""
        indices = np.where(there, other.indices, self.indices)
        return replace(self, indices=indices, occurrences=np.where(there, other.occurrences, self.occurrences))

    def parts(self, most: int) -> list[Batch]:
        """Return the batch in parts of at most `most` samples; none of an empty one."""
        if len(self) <= most:
            return [self] if len(self) else []
        cuts = [slice(first, first + most) for first in range(0, len(self), most)]
        return [
            replace(
                self,
                indices=self.indices[cut],
                occurrences=self.occurrences[cut],
                items=None if self.items is None else self.items[cut],
            )
            for cut in cuts
        ]

    def places(self, world_size: int) -> list[int]:
        """Return how many samples of the epoch's order lie behind each sample, counted by steps of all ranks."""
        numbers = range(len(self)) if self.numbers is None else self.numbers.tolist()
        return [min(self.begin + (number + 1) * world_size, self.position) for number in numbers]


@dataclass(frozen=True)
class Shard:
    """One rank's part of every global batch.

    A full global batch has `world_size` parts of the same size. The last one of an epoch, where it is not full, is
    divided as evenly as can be, without padding. Only where it has fewer samples than there are ranks do some get
    none: with `pad` its samples are repeated until each rank has one, so that every rank has the same number of
    batches.

    Attributes:
        rank: 0 to world_size - 1.
        world_size: Number of ranks, >= 1.
        pad: Whether to repeat samples so that every rank has a part: for training. Without, each sample comes exactly
            once: for evaluation.
    """

    rank: int = 0
    world_size: int = 1
    pad: bool = False

    def part(self, count: int) -> tuple[int, int]:
        """Return (first, one past the last) of this rank's samples in a global batch of `count`."""
        size, more = divmod(count, self.world_size)
        first = self.rank * size + min(self.rank, more)
        return first, first + size + (self.rank < more)

    def missing(self, count: int) -> int:
        """Return how many samples a global batch of `count` lacks to give each rank one, 0 without `pad`."""
        return max(0, self.world_size - count) if self.pad and count else 0


class _Seen:
    """How often each sample has come: a byte for each, and more where that is not enough."""

    def __init__(self) -> None:
        self._few = bytearray()
        self._many: dict[int, int] = {}

    def count(self, index: int) -> int:
        """Return how often a sample has come."""
        few = self._few[index] if index < len(self._few) else 0
        return few if few < _MANY else self._many.get(index, _MANY)

    def again(self, index: int) -> int:
        """Return how often a sample came before, and count it."""
        if index >= len(self._few):
            self._few.extend(bytes(index + 1 - len(self._few) + len(self._few) // 2))
        before = self._few[index]
        if before < _MANY:
            self._few[index] = before + 1
            return before
        before = self._many.get(index, _MANY)
        self._many[index] = before + 1
        return before


@dataclass(frozen=True)
class Cut:
    """How an order becomes batches.

    Attributes:
        batch_size: Samples in each of a rank's batches but the last.
        drop_last: Leave out a last global batch that is not full.
        shard: The rank's part.
    """

    batch_size: int
    drop_last: bool = False
    shard: Shard = Shard()

    def count(self, length: int) -> int:
        """Return how many batches this rank has of an epoch of `length` samples."""
        full, rest = divmod(length, self.batch_size * self.shard.world_size)
        if self.drop_last or rest == 0:
            return full
        first, stop = self.shard.part(rest + self.shard.missing(rest))
        return full + (stop > first)

    def samples(self, length: int) -> int:
        """Return how many samples this rank has of an epoch of `length`."""
        full, rest = divmod(length, self.batch_size * self.shard.world_size)
        first, stop = (0, 0) if self.drop_last or not rest else self.shard.part(rest + self.shard.missing(rest))
        return full * self.batch_size + stop - first

    def batches(self, order: Iterable[int], epoch: int, skip: int = 0, seed: int | None = None) -> Iterator[Batch]:
        """Yield this rank's batches of an epoch.

        Of an order that can be asked by place only this rank's part is, from the first batch that is wanted on.

        Args:
            order: Sample indices, the same on every rank.
            epoch: Number of the pass, for the random decisions.
            skip: How many samples of the order were dealt with before.
            seed: Of the random decisions; None for the job's.
        """
        if isinstance(order, Counted):
            return self._by_place(order, Batch(epoch, _NONE, _NONE, seed=seed), skip)
        return self._one_by_one(order, epoch, skip, seed)

    def _by_place(self, order: Counted, batch: Batch, skip: int) -> Iterator[Batch]:
        """Yield this rank's batches of an order without repetitions."""
        size = self.batch_size * self.shard.world_size
        full, rest = divmod(max(0, len(order) - skip), size)
        own = np.arange(*self.shard.part(size))
        at_once = max(1, _AT_ONCE // self.batch_size)
        first_time = np.zeros(self.batch_size, np.int64)
        for number in range(0, full, at_once):
            begins = skip + size * np.arange(number, min(full, number + at_once))
            indices = order.at((begins[:, None] + own).ravel()).reshape(len(begins), -1)
            for begin, row in zip(begins.tolist(), indices, strict=True):
                yield replace(batch, indices=row, occurrences=first_time, position=begin + size, begin=begin)
        if rest and not self.drop_last:
            begin = len(order) - rest
            numbers = np.arange(*self.shard.part(rest + self.shard.missing(rest)))
            if len(numbers):
                indices, again = order.at(begin + numbers % rest), numbers // rest
                yield replace(batch, indices=indices, occurrences=again, position=len(order), begin=begin)

    def _one_by_one(self, order: Iterable[int], epoch: int, skip: int, seed: int | None) -> Iterator[Batch]:
        """Yield this rank's batches of an order that is gone through."""
        size = self.batch_size * self.shard.world_size
        seen = _Seen()
        pending: list[tuple[int, int]] = []
        position = 0
        for index in order:
            occurrence = seen.again(index)
            position += 1
            if position > skip:
                pending.append((int(index), occurrence))
            if len(pending) == size:
                yield self._part(pending, Batch(epoch, _NONE, _NONE, position, position - size, seed=seed))
                pending = []
        if pending and not self.drop_last:
            again = [
                (pending[i % len(pending)][0], seen.count(pending[i % len(pending)][0]) + i // len(pending))
                for i in range(self.shard.missing(len(pending)))
            ]
            last = Batch(epoch, _NONE, _NONE, position, position - len(pending), seed=seed)
            if len(last := self._part(pending + again, last)):
                yield last

    def _part(self, samples: list[tuple[int, int]], whole: Batch) -> Batch:
        """Return a global batch with this rank's samples in it."""
        first, stop = self.shard.part(len(samples))
        mine = np.array(samples[first:stop], dtype=np.int64).reshape(-1, 2)
        indices, occurrences = np.ascontiguousarray(mine[:, 0]), np.ascontiguousarray(mine[:, 1])
        return replace(whole, indices=indices, occurrences=occurrences)


def batched(order: Iterable[int], batch_size: int, *, epoch: int, drop_last: bool) -> Iterator[Batch]:
    """Yield the batches of an epoch whose samples come in the given order, on one rank."""
    return Cut(batch_size, drop_last).batches(order, epoch)


def listed(batches: Iterable[Iterable[int]], epoch: int, skip: int = 0, seed: int | None = None) -> Iterator[Batch]:
    """Yield the batches that a batch sampler lists, without the first `skip`; positions count batches."""
    seen = _Seen()
    for position, indices in enumerate(batches, 1):
        numbers, occurrences = [], []
        for index in indices:
            numbers.append(int(index))
            occurrences.append(seen.again(numbers[-1]))
        if position > skip:
            mine, before = (np.array(each, dtype=np.int64) for each in (numbers, occurrences))
            yield Batch(epoch, mine, before, position, position - 1, seed=seed)


def together(batches: Iterable[Batch], most: int) -> Iterator[Batch]:
    """Yield batches of one sample in groups of at most `most`, so that a backend has enough to do at a time."""
    waiting: list[Batch] = []
    for batch in batches:
        waiting.append(batch)
        if len(waiting) == most:
            yield _joined(waiting)
            waiting = []
    if waiting:
        yield _joined(waiting)


def _joined(batches: list[Batch]) -> Batch:
    indices, occurrences = (
        np.concatenate([getattr(each, name) for each in batches]) for name in ("indices", "occurrences")
    )
    return replace(batches[0], indices=indices, occurrences=occurrences, position=batches[-1].position)
