"""The DataLoader: a source, a recipe and a backend, assembled."""

from __future__ import annotations

import os
from collections.abc import Iterator
from numbers import Integral
from pathlib import Path
from typing import TYPE_CHECKING, Any

import torch

from dalipipe import plan
from dalipipe.backends import (
    CacheMode,
    Dtype,
    Executor,
    Finish,
    Job,
    MemoryFormat,
    Output,
    Result,
    compile_recipe,
    resolve_backend,
    with_cache,
)
from dalipipe.errors import BackendError, ConfigError, DecodeError
from dalipipe.recipe import Recipe
from dalipipe.sampling import Batch, batched
from dalipipe.sources import FolderSource, Source
from dalipipe.sources.base import name_of

if TYPE_CHECKING:
    from nvidia.dali.plugin.pytorch import DALIGenericIterator


def _is_whole(value: object) -> bool:
    """Return whether a value is an integer, Python's or numpy's."""
    return isinstance(value, Integral)


def available_threads() -> int:
    """Return how many CPUs this process may run on."""
    return len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count() or 1


class DataLoader:
    """Yields batches of images and labels, augmented by a recipe.

        source ─► order of the epoch ─► batches of indices ─► backend ─► (images, labels)

    Each pass over the loader is one epoch; with `shuffle` each has its own order, and random ops decide anew.

    Args:
        source: A folder in ImageFolder's layout, or any `Source`.
        batch_size: Samples a batch, >= 1.
        shuffle: Whether each epoch has a random order, a function of `seed` and the epoch alone.
        recipe: Name of a recipe, path of a TOML file, or a Recipe.
        backend: "auto", "dali-gpu", "dali-cpu-stock" or "torchvision".
        seed: Of every random decision, 0 to 2**64 - 1.
        num_threads: Threads that decode and augment; by default one for each CPU this process may use.
        drop_last: Leave out a last batch that is not full.
        device_id: CUDA device of dali-gpu.
        prefetch: Batches prepared ahead, >= 1.
        dtype: "float32" (the default), "float16", or "uint8": whole levels, neither rescaled nor normalised; the module
            `finish` does the rest on the device.
        memory_format: "contiguous" or "channels_last"; the shape is NCHW either way.
        cache: "ram": keep every decoded image in memory; "auto": keep those that fit; None: keep nothing. Images are
            decoded when the first epoch begins; random decisions and pixels are the same.
        cache_gb: Most memory for the cache, in 10**9 bytes; by default half of what is free.

    Yields:
        images: (n, 3, H, W) float32, on `device`; uint8 where the recipe neither rescales nor normalises.
        labels: (n,) int64, on `device`.

    Raises:
        ConfigError: an argument outside its range.
        RecipeError: a recipe that can't be found or can't work.
        BackendError: a backend that can't run here, or lacks an op.
        DecodeError: while iterating; names every bad file of the batch.
    """

    def __init__(
        self,
        source: Source | str | Path,
        batch_size: int = 1,
        shuffle: bool = False,
        *,
        recipe: Recipe | str | Path,
        backend: str = "auto",
        seed: int = 0,
        num_threads: int | None = None,
        drop_last: bool = False,
        device_id: int = 0,
        prefetch: int = 2,
        dtype: Dtype | None = None,
        memory_format: MemoryFormat = "contiguous",
        cache: CacheMode | None = None,
        cache_gb: float | None = None,
    ) -> None:
        threads = available_threads() if num_threads is None else num_threads
        for name, value in (("batch_size", batch_size), ("num_threads", threads), ("prefetch", prefetch)):
            if not _is_whole(value) or value < 1:
                raise ConfigError(f"DataLoader: {name} must be a whole number of at least 1, got {value!r}. Change it.")
        if not _is_whole(seed) or not 0 <= seed < 2**64:
            raise ConfigError(f"DataLoader: seed must be 0 to 2**64 - 1, got {seed!r}. Choose another.")
        seed, batch_size, threads, prefetch = int(seed), int(batch_size), int(threads), int(prefetch)
        self.source: Source = FolderSource(source) if isinstance(source, str | Path) else source
        self.recipe = Recipe.load(recipe)
        self.backend = resolve_backend(backend)
        self.batch_size = batch_size
        self.shuffle = shuffle
        self.seed = seed
        self.drop_last = drop_last
        self.epoch = 0
        self._closed = False
        kept = with_cache(self.source, cache, cache_gb, threads)
        output = Output(dtype, memory_format)
        self.job = Job(kept, self.recipe, seed, batch_size, threads, prefetch, device_id, output)
        self._idle: list[Executor] = [compile_recipe(self.job, self.backend)]
        self.device = self._idle[0].device

    @property
    def finish(self) -> Finish:
        """A module that rescales and normalises what a loader with dtype="uint8" hands out."""
        return Finish(self.recipe)

    def __len__(self) -> int:
        """Return the number of batches in an epoch."""
        full, rest = divmod(len(self.source), self.batch_size)
        return full + (rest > 0 and not self.drop_last)

    def set_epoch(self, epoch: int) -> None:
        """Set the number of the next epoch, on which the order and the random decisions depend.

        Raises:
            ConfigError: not a whole number from 0 to 2**32 - 1.
        """
        if not _is_whole(epoch) or not 0 <= epoch < 2**32:
            raise ConfigError(f"DataLoader: epoch must be 0 to 2**32 - 1, got {epoch!r}. Count from 0.")
        self.epoch = int(epoch)

    def batches(self, epoch: int) -> Iterator[Batch]:
        """Yield the batches of an epoch as indices."""
        count = len(self.source)
        order = plan.permutation(count, self.seed, epoch).tolist() if self.shuffle else range(count)
        return batched(order, self.batch_size, epoch=epoch, drop_last=self.drop_last)

    def __iter__(self) -> Iterator[tuple[torch.Tensor, torch.Tensor]]:
        """Yield the batches of the next epoch.

        Raises:
            ConfigError: the loader is closed.
        """
        if self._closed:
            raise ConfigError("DataLoader: is closed and can't be iterated. Make a new one.")
        epoch = self.epoch
        self.epoch += 1
        return self._epoch(epoch)

    def _epoch(self, epoch: int) -> Iterator[tuple[torch.Tensor, torch.Tensor]]:
        executor = self._idle.pop() if self._idle else compile_recipe(self.job, self.backend)
        results = executor.run(self.batches(epoch))
        try:
            for result in results:
                if result.failures:
                    raise self._decode_error(result)
                yield result.images, result.labels
        finally:
            results.close()  # type: ignore[attr-defined]
            if self._closed:
                executor.close()
            else:
                self._idle.append(executor)

    def _decode_error(self, result: Result) -> DecodeError:
        bad = [
            f"{name_of(self.source, int(result.batch.indices[position]))!r} ({reason})"
            for position, reason in sorted(result.failures.items())
        ]
        files = "file" if len(bad) == 1 else "files"
        return DecodeError(
            f"{len(bad)} {files} can't be used: {', '.join(bad)}. Replace or remove {files} and run again."
        )

    def close(self) -> None:
        """Release threads and memory. The loader can't be iterated again; an epoch that runs may end."""
        self._closed = True
        for executor in self._idle:
            executor.close()
        self._idle.clear()

    def __enter__(self) -> DataLoader:
        """Return the loader."""
        return self

    def __exit__(self, *_exception: Any) -> None:
        """Close the loader."""
        self.close()


def dali_iterator(loader: DataLoader, epoch: int = 0) -> DALIGenericIterator:
    """Return the DALIGenericIterator itself, over one epoch of a loader with a DALI backend.

    Each step yields a list with one dict: "images" and "labels" as the loader has them, and "status", (n, 1) int32, 0
    for a sample that could be processed (`dalipipe.geometry.Status`). A bad file raises DALI's own RuntimeError.

    Args:
        loader: Its source, recipe, backend and batches are used; it stays usable.
        epoch: Number of the epoch, for the order and the random decisions.

    Raises:
        BackendError: the loader's backend is not one of DALI's.
    """
    if loader.backend == "torchvision":
        raise BackendError(
            'dali_iterator: the backend must be one of DALI\'s, got "torchvision". Use "dali-cpu-stock".'
        )
    from dalipipe.backends.dali_executor import DaliExecutor

    executor = compile_recipe(loader.job, loader.backend)
    assert isinstance(executor, DaliExecutor)
    return executor.iterator(loader.batches(epoch))
