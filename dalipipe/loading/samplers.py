"""What a loader of torch's has as `sampler` and `batch_sampler`, for scripts and libraries that ask ours for it."""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from typing import TYPE_CHECKING, Any, Protocol, cast

from torch.utils.data import BatchSampler, DistributedSampler, RandomSampler, Sampler, SequentialSampler

from dalipipe.errors import ConfigError
from dalipipe.loading.arguments import whole
from dalipipe.sampling import Batch, Cut, Shard
from dalipipe.sources import Source

if TYPE_CHECKING:
    import torch


class _Settled:
    """Refuses attributes that are set from outside, which the loader would not notice."""

    _settled = False

    def __setattr__(self, name: str, value: Any) -> None:
        if self._settled:
            raise ConfigError(
                f"DataLoader: its own sampler can't be changed, got {name} = {value!r}. Make a new loader, or give "
                "it a sampler of your own."
            )
        super().__setattr__(name, value)


class _InOrder(_Settled, SequentialSampler):
    pass


class _Shuffled(_Settled, RandomSampler):
    pass


class _Batches(_Settled, BatchSampler):
    pass


class Divided(Protocol):
    """A loader that gives each rank its part of every batch."""

    source: Source
    shuffle: bool
    batch_size: int | None
    drop_last: bool

    @property
    def epoch(self) -> int:
        """Number of the next epoch."""
        ...

    @property
    def shard(self) -> Shard:
        """This rank's part."""
        ...

    def __len__(self) -> int: ...

    def batches(self, epoch: int) -> Iterable[Batch]:
        """Return this rank's batches of an epoch."""
        ...

    def set_epoch(self, epoch: int) -> None:
        """Set the number of the next epoch."""
        ...


class RankSampler(_Settled, DistributedSampler[int]):
    """One rank's samples of the next epoch, where the loader divides each batch between ranks.

    Args:
        loader: Whose samples they are.
    """

    def __init__(self, loader: Divided) -> None:
        shard, source = loader.shard, cast(Any, range(len(loader.source)))
        super().__init__(source, shard.world_size, shard.rank, loader.shuffle, drop_last=loader.drop_last)
        self.epoch, self.loader = loader.epoch, loader
        self._settled = True

    def __len__(self) -> int:
        """Return how many samples this rank has in an epoch."""
        return Cut(self.loader.batch_size or 1, self.loader.drop_last, self.loader.shard).samples(
            len(self.loader.source)
        )

    def __iter__(self) -> Iterator[int]:
        """Yield the samples that this rank has in the next epoch."""
        for batch in self.loader.batches(self.loader.epoch):
            yield from batch.indices.tolist()

    def set_epoch(self, epoch: int) -> None:
        """Set the number of the loader's next epoch."""
        self.loader.set_epoch(epoch)


class RankBatches(_Settled, BatchSampler):
    """One rank's batches of the next epoch.

    Args:
        loader: Whose batches they are.
    """

    def __init__(self, loader: Divided) -> None:
        super().__init__(RankSampler(loader), loader.batch_size or 1, loader.drop_last)
        self.loader = loader
        self._settled = True

    def __len__(self) -> int:
        """Return how many batches this rank has in an epoch."""
        return len(self.loader)

    def __iter__(self) -> Iterator[list[int]]:
        """Yield the batches that this rank has in the next epoch."""
        for batch in self.loader.batches(self.loader.epoch):
            yield batch.indices.tolist()


def usual_sampler(source: Source, shuffle: bool, generator: torch.Generator | None) -> Sampler[int]:
    """Return the sampler that torch's loader makes where none is given."""
    length = range(len(source))
    sampler = _Shuffled(length, generator=generator) if shuffle and len(source) else _InOrder(length)
    sampler._settled = True
    return sampler


def usual_batch_sampler(sampler: Any, batch_size: int, drop_last: bool) -> BatchSampler:
    """Return the batch sampler that torch's loader makes where none is given."""
    batches = _Batches(sampler, batch_size, drop_last)
    batches._settled = True
    return batches


def largest_batch(batch_sampler: Iterable[list[int]]) -> int:
    """Return the size of the largest batch as far as that is known without asking a sampler for its batches."""
    if isinstance(batch_sampler, list | tuple):
        return max([1, *map(len, batch_sampler)])
    size: Any = getattr(batch_sampler, "batch_size", None)
    return int(size) if whole(size) and size > 0 else 1
