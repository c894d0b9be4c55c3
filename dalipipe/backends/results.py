"""What becomes of a batch, and what an executor of batches is."""

from __future__ import annotations

from collections import deque
from collections.abc import Generator, Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field, replace
from itertools import accumulate, islice
from typing import Any, Protocol, Self

import torch

from dalipipe.sampling import Batch


@dataclass(frozen=True)
class Result:
    """What became of one batch.

    Attributes:
        batch: The samples asked for.
        images: (n, C, H, W) of the samples that could be processed, in order.
        labels: (n,) int64 of the same samples.
        failures: Reason for each position of `batch` that could not be processed.
        others: The further views of the same samples, each (n, C, H, W).
    """

    batch: Batch
    images: torch.Tensor
    labels: torch.Tensor
    failures: Mapping[int, str] = field(default_factory=dict)
    others: tuple[torch.Tensor, ...] = ()

    @property
    def views(self) -> tuple[torch.Tensor, ...]:
        """All views of the samples."""
        return self.images, *self.others

    def put(self, rows: list[int], other: Result) -> None:
        """Take the images of another result, in place, one for each of some rows."""
        for mine, its in zip(self.views, other.views, strict=True):
            mine[rows] = its

    def joined(self, batch: Batch, more: Sequence[Self]) -> Self:
        """Return what became of a batch that went through in parts, of which this is the first."""
        parts = (self, *more)
        images, *others = (torch.cat(of_one) for of_one in zip(*(part.views for part in parts), strict=True))
        labels = torch.cat([part.labels for part in parts])
        failures = failures_of(parts)
        return replace(self, batch=batch, images=images, labels=labels, failures=failures, others=tuple(others))

    def chosen(self, batch: Batch, rows: list[int] | None = None, *, channels_last: bool = False) -> Self:
        """Return some of what could be processed, as what became of a batch without failures.

        Args:
            batch: The samples that it is to be.
            rows: Which; by default all.
            channels_last: Whether the channels of a pixel lie side by side, which choosing may have lost.
        """
        form = torch.channels_last if channels_last else torch.contiguous_format
        labels, *views = (part if rows is None else part[rows] for part in (self.labels, *self.views))
        images, *others = (view.contiguous(memory_format=form) for view in views)
        return replace(self, batch=batch, images=images, labels=labels, failures={}, others=tuple(others))


class Outcome(Protocol):
    """What became of one batch, whatever is handed out of it."""

    @property
    def batch(self) -> Batch:
        """The samples asked for."""
        ...

    @property
    def failures(self) -> Mapping[int, str]:
        """Reason for each position of the batch that could not be processed."""
        ...

    def joined(self, batch: Batch, more: Sequence[Self]) -> Self:
        """See `Result`."""
        ...

    def chosen(self, batch: Batch, rows: list[int] | None = None, *, channels_last: bool = False) -> Self:
        """See `Result`."""
        ...


def failures_of(parts: Sequence[Outcome]) -> dict[int, str]:
    """Return the failures in the parts of a batch, by position in the batch."""
    starts = accumulate((len(part.batch) for part in parts), initial=0)
    return {start + at: why for start, part in zip(starts, parts, strict=False) for at, why in part.failures.items()}


class Executor(Protocol):
    """A compiled recipe, ready to run one epoch at a time."""

    @property
    def device(self) -> torch.device:
        """Where the images end up."""
        ...

    def run(self, batches: Iterable[Batch]) -> Iterator[Any]:
        """Yield one result for each batch, in order: an `Outcome`, of images a `Result`.

        A bad file is reported in its batch's result and costs nothing else. Closing the iterator early gives up what
        was prepared ahead; the executor can then run again.
        """
        ...

    def none(self, batch: Batch) -> Outcome:
        """Return what becomes of a batch without samples."""
        ...

    def close(self) -> None:
        """Release threads and memory."""
        ...


def in_parts(executor: Executor, batches: Iterable[Batch], most: int) -> Generator[Any, None, None]:
    """Yield one result for each batch, in order; those of more than `most` samples go through in parts."""
    waiting: deque[tuple[Batch, int]] = deque()  # and how many parts each has

    def parts() -> Iterator[Batch]:
        for batch in batches:
            cut = batch.parts(most)
            waiting.append((batch, len(cut)))
            yield from cut

    def empty() -> Iterator[Any]:
        while waiting and waiting[0][1] == 0:
            yield executor.none(waiting.popleft()[0])

    results: Any = executor.run(parts())
    try:
        for result in results:
            yield from empty()
            batch, count = waiting.popleft()
            yield result if count == 1 else result.joined(batch, list(islice(results, count - 1)))
        yield from empty()
    finally:
        results.close()
