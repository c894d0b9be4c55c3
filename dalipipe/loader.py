"""The DataLoader: a data set, a recipe and a backend, assembled."""

from __future__ import annotations

import os
from collections.abc import Iterable, Iterator
from dataclasses import replace
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
import torch
from numpy.typing import NDArray

from dalipipe.adapt import as_source, known_size
from dalipipe.arguments import (
    STATE_VERSION,
    available_threads,
    check_range,
    check_sampling,
    check_state,
    check_unsupported,
    chosen_seed,
    chosen_shard,
    whole,
)
from dalipipe.backends import (
    CacheMode,
    Dtype,
    Finish,
    Job,
    MemoryFormat,
    Output,
    Result,
    compile_recipe,
    resolve_backend,
    with_cache,
)
from dalipipe.delivery import Delivery
from dalipipe.errors import BackendError, ConfigError
from dalipipe.orders import Order, OwnOrder, SamplerOrder
from dalipipe.quarantine import BadFile, ErrorPolicy, OnError, Quarantine
from dalipipe.recipe import Recipe
from dalipipe.sampling import Batch, Cut, listed
from dalipipe.sources import fingerprint
from dalipipe.watch import Watch

if TYPE_CHECKING:
    from nvidia.dali.plugin.pytorch import DALIGenericIterator

_SINGLE = 16  # samples that travel together where batch_size is None


class DataLoader:
    """Yields batches of images and labels, augmented by a recipe; stands in for torch.utils.data.DataLoader.

        data set ─► order of the epoch ─► this rank's batches of indices ─► backend ─► (images, labels)

    Each pass over the loader is one epoch; with `shuffle` each has its own order, and random ops decide anew. Under
    torch.distributed each rank gets its part of every global batch, unless a sampler is given: see `sampling.Shard`.

    Args:
        dataset: A folder in ImageFolder's layout, a torchvision data set of images (or Subsets and concatenations of
            such),
            an in-memory one like CIFAR10, or any `Source`.
        batch_size: Samples a batch (on each rank), >= 1; None yields single samples, (3, H, W) and int.
        shuffle: Whether each epoch has a random order, a function of `seed` and the epoch alone.
        sampler: Iterable of sample indices, instead of `shuffle`. A sample that comes again is augmented anew.
        batch_sampler: Iterable of lists of indices, instead of batch_size, shuffle, sampler and drop_last.
        num_workers: As num_threads where it is not 0: there are threads, not processes.
        collate_fn: Not supported: batches are tensors already.
        pin_memory: Copy batches to page-locked memory, where CUDA works.
        drop_last: Leave out a last (global) batch that is not full.
        timeout: No meaning here.
        worker_init_fn: Not supported: there are no worker processes.
        multiprocessing_context: Not supported: there are no worker processes.
        generator: Its initial seed is `seed`, where that is not given.
        prefetch_factor: Batches prepared ahead, >= 1; default 2.
        persistent_workers: No meaning here: threads always persist.
        pin_memory_device: No meaning here.
        in_order: No meaning here: batches always come in order.
        recipe: Name of a recipe, path of a TOML file, or a Recipe; by default what the data set's transform says.
        backend: "auto", "dali-gpu", "dali-cpu", "dali-cpu-stock" or "torchvision".
        seed: Of every random decision, 0 to 2**64 - 1; by default torch's seed (torch.manual_seed).
        num_threads: Threads that decode and augment; by default one for each CPU this process may use.
        device_id: CUDA device of dali-gpu.
        prefetch: As prefetch_factor.
        dtype: "float32" (the default), "float16", or "uint8": whole levels, neither rescaled nor normalised; the module
            `finish` does the rest on the device.
        memory_format: "contiguous" or "channels_last"; the shape is NCHW either way.
        cache: "ram": keep every decoded image in memory; "auto": keep those that fit; None: keep nothing. Images are
            decoded when the first epoch begins; random decisions and pixels are the same.
        cache_gb: Most memory for the cache, in 10**9 bytes; by default half of what is free.
        rank: This process's part, 0 to world_size - 1; by default torch.distributed's.
        world_size: Number of parts; by default torch.distributed's, or 1.
        pad: Whether a last global batch of fewer samples than ranks is padded, so that all ranks have the same number
            of batches; by default where `shuffle` is true.
        on_error: What happens where a file can't be used. "raise": DecodeError. "skip": the batch is smaller; one of
            which nothing is left does not come. "substitute": another sample of the same class, chosen by the plan,
            stands in its place, so that batches stay as large. Everything else is as without that file, and it is not
            opened again in later epochs.
        max_bad: Most bad files with "skip" and "substitute": a number, or a fraction of all as a float from 0 to 1;
            more end the epoch with DecodeError. By default any number but all.
        quarantine: File in which each bad file is listed when it is found, as a line of JSON with path, reason and
            epoch. Ranks after the first write FILE.rank1 and so on, before the suffix.

    Yields:
        images: (n, 3, H, W) float32, on `device`; uint8 where the recipe neither rescales nor normalises.
        labels: (n,) int64, on `device`.

    Raises:
        ConfigError: an argument outside its range, or one that is not supported, with what to do instead.
        SourceError: a data set that can't be used.
        RecipeError: a recipe that can't be found or can't work.
        BackendError: a backend that can't run here, or lacks an op.
        DecodeError: while iterating; names every bad file of the batch, or says that too many are bad.
    """

    def __init__(
        self,
        dataset: Any,
        batch_size: int | None = 1,
        shuffle: bool | None = None,
        sampler: Iterable[int] | None = None,
        batch_sampler: Iterable[list[int]] | None = None,
        num_workers: int = 0,
        collate_fn: Any = None,
        pin_memory: bool = False,
        drop_last: bool = False,
        timeout: float = 0,
        worker_init_fn: Any = None,
        multiprocessing_context: Any = None,
        generator: torch.Generator | None = None,
        *,
        prefetch_factor: int | None = None,
        persistent_workers: bool = False,
        pin_memory_device: str = "",
        in_order: bool = True,
        recipe: Recipe | str | Path | None = None,
        backend: str = "auto",
        seed: int | None = None,
        num_threads: int | None = None,
        device_id: int = 0,
        prefetch: int | None = None,
        dtype: Dtype | None = None,
        memory_format: MemoryFormat = "contiguous",
        cache: CacheMode | None = None,
        cache_gb: float | None = None,
        rank: int | None = None,
        world_size: int | None = None,
        pad: bool | None = None,
        on_error: OnError = "raise",
        max_bad: int | float | None = None,
        quarantine: str | os.PathLike[str] | None = None,
    ) -> None:
        policy = ErrorPolicy(on_error, max_bad, None if quarantine is None else Path(quarantine))
        check_unsupported(collate_fn, worker_init_fn, multiprocessing_context)
        check_sampling(batch_size, shuffle, sampler, batch_sampler, drop_last)
        threads = num_threads if num_threads is not None else (num_workers or available_threads())
        ahead = prefetch if prefetch is not None else (2 if prefetch_factor is None else prefetch_factor)
        check_range("num_workers", num_workers, 0)
        sizes = {"num_threads": threads, "prefetch": ahead, "batch_size": 1 if batch_size is None else batch_size}
        for name, value in sizes.items():
            check_range(name, value, 1)
        self.dataset = dataset
        self.source, transform = as_source(dataset, with_transform=recipe is None)
        self.recipe = self._choose_recipe(recipe, transform)
        self._watch = Watch(dataset, with_transform=recipe is None)
        self.backend = resolve_backend(backend)
        self.batch_size = None if batch_sampler is not None or batch_size is None else int(batch_size)
        self.shuffle, self.sampler, self.batch_sampler = bool(shuffle), sampler, batch_sampler
        self.drop_last, self.num_workers, self.pin_memory = drop_last, num_workers, pin_memory
        self.timeout, self.generator, self.prefetch_factor = timeout, generator, prefetch_factor
        self.persistent_workers, self.pin_memory_device, self.in_order = persistent_workers, pin_memory_device, in_order
        self.collate_fn = self.worker_init_fn = self.multiprocessing_context = None
        self._wanted = (
            rank,
            world_size,
            self.shuffle if pad is None else pad,
            sampler is not None or batch_sampler is not None,
        )
        self._seed = seed
        self.shard = chosen_shard(*self._wanted)
        self.seed = chosen_seed(seed, generator, self.shard)
        self.epoch = 0
        self._place: tuple[int, int] = (0, 0)  # epoch, and position in its order, of what was handed out last
        self._resume: int | None = None
        self._closed = False
        self.last_indices: NDArray[np.int64] | None = None  # the source's, of the batch handed out last
        self.last_is_padding = False  # whether that holds only samples that other ranks have too
        most = _largest(batch_sampler) if batch_sampler is not None else self.batch_size or _SINGLE
        self._cut = Cut(self.batch_size or _SINGLE, drop_last, self.shard)
        self._order = self._make_order()
        kept = with_cache(self.source, self.recipe, cache, cache_gb, int(threads))
        output = Output(dtype, memory_format)
        self.job = Job(kept, self.recipe, self.seed, most, int(threads), int(ahead), device_id, output)
        self.quarantine = Quarantine(self.source, policy, self.seed)
        self.quarantine.rank = self.shard.rank
        self._delivery = Delivery(self.job, self.backend, self.quarantine)
        self.device = self._delivery.device

    def _choose_recipe(self, recipe: Recipe | str | Path | None, transform: Any) -> Recipe:
        if recipe is not None:
            return Recipe.load(recipe)
        if transform is None:
            raise ConfigError(
                "DataLoader: needs a recipe, and the data set has no transform to take it from. "
                'Give recipe="imagenet-train", say (`dalipipe recipes` lists them), or set the data set\'s transform.'
            )
        return Recipe.from_torchvision(transform, size=known_size(self.source))

    def _make_order(self) -> Order:
        if self.batch_sampler is not None:
            return SamplerOrder(self.batch_sampler)
        if self.sampler is not None:
            return SamplerOrder(self.sampler)
        return OwnOrder(len(self.source), self.seed, self.shuffle)

    @property
    def finish(self) -> Finish:
        """A module that rescales and normalises what a loader with dtype="uint8" hands out."""
        return Finish(self.recipe)

    def __len__(self) -> int:
        """Return the number of batches that this rank has in an epoch; of samples where batch_size is None."""
        if self.batch_sampler is not None:
            return len(self.batch_sampler)  # type: ignore[arg-type]
        length = len(self.source) if self.sampler is None else len(self.sampler)  # type: ignore[arg-type]
        if self.batch_size is None:
            return Cut(1, shard=self.shard).count(length)
        return self._cut.count(length)

    def set_epoch(self, epoch: int) -> None:
        """Set the number of the next epoch, on which the order and the random decisions depend.

        Raises:
            ConfigError: not a whole number from 0 to 2**32 - 1.
        """
        if not whole(epoch) or not 0 <= epoch < 2**32:
            raise ConfigError(f"DataLoader: epoch must be 0 to 2**32 - 1, got {epoch!r}. Count from 0.")
        self.epoch, self._resume = int(epoch), None
        self._place = (self.epoch, 0)

    def batches(self, epoch: int, skip: int = 0) -> Iterator[Batch]:
        """Yield this rank's batches of an epoch as indices.

        Args:
            epoch: Number of the pass.
            skip: Position in the epoch's order to begin at: samples, or batches of a batch sampler.
        """
        order = self._order.begin(epoch)
        if self.batch_sampler is not None:
            return listed(order, epoch, skip)
        return self._cut.batches(order, epoch, skip)

    def __iter__(self) -> Iterator[Any]:
        """Yield the batches of the next epoch, or what is left of the one that `load_state_dict` went back to.

        Raises:
            ConfigError: the loader is closed.
        """
        if self._closed:
            raise ConfigError("DataLoader: is closed and can't be iterated. Make a new one.")
        return self._epoch()

    def _reshard(self) -> None:
        """Take this rank's part where torch.distributed was initialised after the loader was made."""
        shard = chosen_shard(*self._wanted)
        if shard == self.shard:
            return
        self.shard, self.quarantine.rank = shard, shard.rank
        self._cut = replace(self._cut, shard=shard)
        if self._seed is None:
            self._reseed(chosen_seed(None, self.generator, shard))

    def _follow(self) -> None:
        """Take the recipe that the data set's transform says now; refuse a data set that was changed otherwise."""
        transform = self._watch.transform()
        if not self._watch.with_transform:
            return
        recipe = self._choose_recipe(None, transform)
        if recipe != self.recipe:
            self.recipe = recipe
            self._delivery.restart(replace(self._delivery.job, recipe=recipe))
            self.job = self._delivery.job

    def _epoch(self) -> Iterator[Any]:
        # An epoch counts from its first batch on: a library may ask for an iterator and drop it.
        self._reshard()
        self._follow()
        epoch, skip = self.epoch, self._resume or 0
        self.epoch, self._resume = epoch + 1, None
        self._place = (epoch, skip)
        results = self._delivery.run(self.batches(epoch, skip))
        try:
            for result in results:
                yield from self._hand_out(epoch, result)
            self._place = (epoch + 1, 0)
        finally:
            results.close()  # type: ignore[attr-defined]

    def _hand_out(self, epoch: int, result: Result) -> Iterator[Any]:
        images, labels, batch = result.images, result.labels, result.batch
        self.last_indices, self.last_is_padding = batch.indices, self.shard.rank >= batch.position - batch.begin
        if self.pin_memory and images.device.type == "cpu" and torch.cuda.is_available():
            images, labels = images.pin_memory(), labels.pin_memory()
        if self.batch_size is None and self.batch_sampler is None:
            places = batch.places(self.shard.world_size)
            for image, label, place in zip(images, labels.tolist(), places, strict=True):
                self._place = (epoch, place)
                yield image, label
            return
        self._place = (epoch, batch.position)
        yield images, labels

    @property
    def bad_files(self) -> tuple[BadFile, ...]:
        """The samples that could not be used so far, with path, reason and the epoch in which each was found."""
        return tuple(self.quarantine.files.values())

    @property
    def place(self) -> tuple[int, int]:
        """Epoch of the batch that was handed out last, and where in its order that batch ended."""
        return self._place

    def state_dict(self) -> dict[str, Any]:
        """Return where the loader is, as JSON: the batches handed out count, not those prepared ahead.

        It is under 1 KB unless a random sampler is given, whose generator is kept too, or many files are bad. It is the
        same on every rank but for the bad files, of which each rank lists those that it met.
        """
        epoch, position = self._place
        return {
            "version": STATE_VERSION,
            "epoch": epoch,
            "position": position,
            "seed": self.seed,
            "shuffle": self.shuffle,
            "length": len(self.source),
            "data": fingerprint(self.source),
            "recipe": self.recipe.fingerprint(),
            "order": self._order.state(),
            "bad": self.quarantine.state(),
        }

    def load_state_dict(self, state: dict[str, Any]) -> None:
        """Go back to where `state_dict` was taken: the next iteration yields what was left of that epoch.

        Batch size, world size, threads and backend may differ: exactly the remaining samples come, with the same random
        decisions.

        Raises:
            StateError: the state is malformed, or of another data set, recipe or order.
        """
        check_state(state, self.state_dict())
        self._order.check(state["order"], state["position"])
        self.quarantine.restore(state.get("bad", []))
        if state["seed"] != self.seed:
            self._reseed(chosen_seed(state["seed"], None, self.shard))
        self.epoch, self._resume = state["epoch"], state["position"]
        self._place = (state["epoch"], state["position"])
        self._order.restore(state["order"])

    def _reseed(self, seed: int) -> None:
        """Take another seed: the decisions of a state belong to the seed that it was saved under."""
        self.seed = seed
        self._order = self._make_order()
        self._delivery.reseed(seed)
        self.job = self._delivery.job

    def close(self) -> None:
        """Release threads and memory. The loader can't be iterated again; an epoch that runs may end."""
        self._closed = True
        self._delivery.close()

    def __enter__(self) -> DataLoader:
        """Return the loader."""
        return self

    def __exit__(self, *_exception: Any) -> None:
        """Close the loader."""
        self.close()


def _largest(batch_sampler: Iterable[list[int]]) -> int:
    """Return the size of the largest batch; only a sampler that does not say its batch size is listed for it."""
    size = getattr(batch_sampler, "batch_size", None)
    if size is None:
        size = max((len(batch) for batch in batch_sampler), default=1)
    return int(size)


def dali_iterator(loader: DataLoader, epoch: int = 0) -> DALIGenericIterator:
    """Return the DALIGenericIterator itself, over one epoch of a loader with a DALI backend.

    Each step yields a list with one dict: "images" and "labels" as the loader has them, and "status", (n, 1) int32, 0
    for a sample that could be processed (`dalipipe.records.Status`). A bad file raises DALI's own RuntimeError.

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
