"""The DataLoader: a data set, a recipe and a backend, assembled."""

from __future__ import annotations

import os
from collections.abc import Iterable, Iterator
from dataclasses import replace
from pathlib import Path
from types import GenericAlias
from typing import Any, ClassVar

import numpy as np
import torch
from numpy.typing import NDArray
from torch.utils.data import default_collate, default_convert

from dalipipe.backends import CacheMode, Dtype, Finish, Job, MemoryFormat, Outcome, Output, resolve_backend
from dalipipe.errors import ConfigError, RecipeError
from dalipipe.loading.arguments import (
    STATE_VERSION,
    available_threads,
    check_range,
    check_sampling,
    check_settable,
    check_state,
    check_stream,
    check_unused,
    checked_epoch,
    checked_seed,
    chosen_shard,
    own_collate,
)
from dalipipe.loading.course import TOGETHER, Course, Place, Seeds
from dalipipe.loading.quarantine import BadFile, ErrorPolicy, OnError, Quarantine
from dalipipe.loading.roads import NO_RECIPE, chosen_road, pinned
from dalipipe.loading.samplers import RankBatches, RankSampler, largest_batch, usual_batch_sampler, usual_sampler
from dalipipe.recipes import Recipe
from dalipipe.sampling import Batch, Cut, Order, OwnOrder, SamplerOrder, Shard
from dalipipe.sources import Source, fingerprint


class DataLoader:
    """Yields batches of images and labels, augmented by a recipe; stands in for torch.utils.data.DataLoader.

        data set ─► order of the epoch ─► this rank's batches of indices ─► backend ─► batches

    Each pass over the loader is one epoch; with `shuffle` each has its own order, and random ops decide anew. Under
    torch.distributed each rank gets its part of every global batch, unless a sampler is given: see `sampling.Shard`.

    Args:
        dataset: A folder in ImageFolder's layout, any `Source`, any data set with `__getitem__` and `__len__`, or an
            `IterableDataset`. torchvision's ImageFolder, CIFAR10 and the like are read directly where a recipe does all
            of their transform; any other is asked for its samples, see `loading.roads`.
        batch_size: Samples a batch (on each rank), >= 1; None yields single samples, (C, H, W) and int.
        shuffle: Whether each epoch has a random order, a function of `seed` and the epoch alone.
        sampler: Iterable of sample indices, instead of `shuffle`. A sample that comes again is augmented anew.
        batch_sampler: Iterable of lists of indices, instead of batch_size, shuffle, sampler and drop_last.
        num_workers: As num_threads where it is not 0: there are threads, not processes.
        collate_fn: Makes a batch of a list of samples, whose images are rows of what the backend has made; by default
            torch's own.
        pin_memory: Copy batches to page-locked memory, where CUDA works.
        drop_last: Leave out a last (global) batch that is not full.
        worker_init_fn, multiprocessing_context: No meaning here, which a warning says: there are no worker processes.
        generator: What each epoch's seed is drawn from, where `seed` is not given.
        prefetch_factor, prefetch: Batches prepared ahead, >= 1; default 2.
        timeout, persistent_workers: No meaning here: threads always persist.
        pin_memory_device, in_order: No meaning here: batches always come in order.
        recipe: Name of a recipe, path of a TOML file, or a Recipe; by default what the data set's transform says.
        backend: "auto", "dali-gpu", "dali-cpu", "dali-cpu-stock" or "torchvision".
        seed: Of every random decision, 0 to 2**64 - 1; by default each epoch draws one from `generator`, or else from
            torch's global generator (torch.manual_seed), when it is iterated.
        num_threads: Threads that decode and augment; by default one for each CPU this process may use.
        device_id: CUDA device of dali-gpu.
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
            which nothing is left does not come. "substitute": another sample of the same class, drawn at random,
            stands in its place, so that batches stay as large. Everything else is as without that file, and it is not
            opened again in later epochs.
        max_bad: Most bad files with "skip" and "substitute": a number, or a fraction of all as a float from 0 to 1;
            more end the epoch with DecodeError. By default any number but all.
        quarantine: File in which each bad file is listed when it is found, as a line of JSON with path, reason and
            epoch. Ranks after the first write FILE.rank1 and so on, before the suffix.

    Yields:
        Of a data set that is read directly, a list of
        images: (n, C, H, W) float32, on `device`; uint8 where the recipe neither rescales nor normalises. C is 3, or 1
            where the recipe makes grey images, as one taken from MNIST's transform does. A list of such, one for each
            view, where the recipe makes several views of each image.
        labels: (n,) int64, on `device`.
        Of one that is asked, a batch of the structure that its samples have, as torch's `default_collate` makes it.

    Raises:
        ConfigError: an argument outside its range, or one that is not supported, with what to do instead.
        SourceError: a data set that can't be used.
        RecipeError: a recipe that can't be found or can't work.
        BackendError: a backend that can't run here, or lacks an op.
        DecodeError: while iterating; names every bad file of the batch, or says that too many are bad.
    """

    _made = False
    __class_getitem__: ClassVar[Any] = classmethod(GenericAlias)  # torch's is generic: scripts write DataLoader[Any]

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
        check_unused(worker_init_fn, multiprocessing_context)
        check_sampling(batch_size, shuffle, sampler, batch_sampler, drop_last, world_size)
        threads = num_threads if num_threads is not None else (num_workers or available_threads())
        ahead = prefetch if prefetch is not None else (2 if prefetch_factor is None else prefetch_factor)
        check_range("num_workers", num_workers, 0)
        sizes = {"num_threads": threads, "prefetch": ahead, "batch_size": 1 if batch_size is None else batch_size}
        for name, value in sizes.items():
            check_range(name, value, 1)
        self._road = chosen_road(dataset, recipe, own_collate(collate_fn, in_batches=batch_size is not None))
        self.source = self._road.source
        self.dataset = self.source if isinstance(dataset, str | os.PathLike) else dataset
        self.backend = resolve_backend(backend)
        self.batch_size = None if batch_sampler is not None or batch_size is None else int(batch_size)
        self.shuffle, self.drop_last = bool(shuffle), drop_last
        self.num_workers, self.pin_memory = num_workers, pin_memory
        self.timeout, self.prefetch_factor = timeout, prefetch_factor
        self.persistent_workers, self.pin_memory_device, self.in_order = persistent_workers, pin_memory_device, in_order
        self.worker_init_fn, self.multiprocessing_context = worker_init_fn, multiprocessing_context
        self.collate_fn = collate_fn or (default_convert if batch_size is None else default_collate)
        self._own = sampler is None and batch_sampler is None  # whether the loader itself decides on the order
        streams = self._road.order() is not None
        check_stream(streams, shuffle, not self._own, on_error)
        self._wanted = (rank, world_size, self.shuffle if pad is None else pad, streams or not self._own)
        self._sampler = sampler
        if sampler is None and not streams:
            self._sampler = usual_sampler(self.source, self.shuffle, generator)
        self._batches = batch_sampler
        if self.batch_size is not None and not streams:
            self._batches = usual_batch_sampler(self._sampler, self.batch_size, drop_last)
        self._course = self._make_course(Seeds(checked_seed(seed, world_size), generator, self.shuffle))
        self._closed = False
        self._taken: tuple[Source, str] | None = None
        self.last_indices: NDArray[np.int64] | None = None  # the source's, of the batch handed out last
        self.last_is_padding = False  # whether that holds only samples that other ranks have too
        job = Job(
            self._road.cached(cache, cache_gb, int(threads)),
            self._road.recipe or NO_RECIPE,
            batch_size=largest_batch(batch_sampler) if batch_sampler is not None else self.batch_size or TOGETHER,
            num_threads=int(threads),
            prefetch=int(ahead),
            device_id=device_id,
            output=Output(dtype, memory_format),
        )
        self._quarantine = Quarantine(self.source, policy)
        self._quarantine.rank = self.shard.rank
        self._fetcher = self._road.fetcher(job, self.backend, self._quarantine)
        self.device = self._fetcher.device
        self._made = True

    def __setattr__(self, name: str, value: Any) -> None:
        """Set an attribute.

        Raises:
            ConfigError: one that would not be noticed any more.
        """
        if self._made:
            check_settable(name, value)
        elif name in ("sampler", "batch_sampler"):  # of a class derived from this one, which has yet to call __init__
            name = f"early {name}"
        super().__setattr__(name, value)

    def _make_course(self, seeds: Seeds) -> Course:
        shard = chosen_shard(*self._wanted)
        cut = Cut(self.batch_size or 1, self.drop_last, shard)
        lists = self.batch_size is None and self._batches is not None
        order: Order = self._road.order() or OwnOrder(
            len(self.source), self.shuffle, getattr(self.source, "order", None)
        )
        if not self._own:
            decides = self._batches if lists else self._sampler
            order = SamplerOrder(decides, len(self.source), in_batches=lists)
        return Course(order, cut, seeds, "list" if lists else "sample" if self.batch_size is None else "batch")

    @property
    def epoch(self) -> int:
        """Number of the epoch that begins next."""
        return self._course.epoch

    @property
    def shard(self) -> Shard:
        """This rank's part of every global batch."""
        return self._course.cut.shard

    @property
    def sampler(self) -> Any:
        """What torch's loader would have here: the sampler given, or else one as long as this rank's samples."""
        if not self._made:
            return vars(self).get("early sampler")
        return RankSampler(self) if self._own and self.shard.world_size > 1 else self._sampler

    @property
    def batch_sampler(self) -> Any:
        """What torch's loader would have here: lists of samples; None where batch_size is."""
        if not self._made:
            return vars(self).get("early batch_sampler")
        if self._own and self.shard.world_size > 1 and self._batches is not None:
            return RankBatches(self)
        return self._batches

    @property
    def seed(self) -> int | None:
        """The seed given, or else that of the epoch that began last; None before the first."""
        return self._course.seed

    @property
    def generator(self) -> torch.Generator | None:
        """What each epoch's seed is drawn from, where none was given; None for torch's global generator."""
        return self._course.seeds.generator

    @generator.setter
    def generator(self, generator: torch.Generator | None) -> None:
        self._course.seeds.generator = generator

    @property
    def recipe(self) -> Recipe:
        """What is done to the images; without ops where the data set is asked, whose own transforms decide."""
        return self._fetcher.job.recipe

    @property
    def job(self) -> Job:
        """What the backend runs."""
        return self._fetcher.job

    @property
    def finish(self) -> Finish:
        """A module that rescales and normalises what a loader with dtype="uint8" hands out."""
        return Finish(self.recipe)

    def __len__(self) -> int:
        """Return the number of batches that this rank has in an epoch; of samples where batch_size is None.

        Raises:
            TypeError: an `IterableDataset` that doesn't know its own.
        """
        if self._road.order() is not None:
            return self._course.cut.count(len(self.dataset))
        if self._course.unit == "list":
            return len(self._batches)  # type: ignore[arg-type]
        return self._course.cut.count(len(self._sampler))  # type: ignore[arg-type]

    def set_epoch(self, epoch: int) -> None:
        """Set the number of the next epoch, on which the order and the random decisions depend.

        What is left of an epoch that `load_state_dict` went back to still comes, where that is the epoch.

        Raises:
            ConfigError: not a whole number from 0 to 2**32 - 1.
        """
        self._course.set_epoch(checked_epoch(epoch))

    def batches(self, epoch: int, skip: int = 0) -> Iterator[Batch]:
        """Yield this rank's batches of an epoch as indices, without beginning it.

        Args:
            epoch: Number of the pass.
            skip: Position in the epoch's order to begin at: samples, or batches of a batch sampler.
        """
        return self._course.batches(epoch, skip)

    def __iter__(self) -> Iterator[Any]:
        """Yield the batches of the next epoch, or what is left of the one that `load_state_dict` went back to.

        Raises:
            ConfigError: the loader is closed.
        """
        if self._closed:
            raise ConfigError("DataLoader: is closed and can't be iterated. Make a new one.")
        return self._epoch(self._course.draw())

    def _follow(self) -> None:
        """Take the data set as it is now; where its transform has become one that no recipe does, it is asked."""
        try:
            self._road.follow(self._fetcher)
        except RecipeError:
            other = self._road.instead()
            if other is None or self.job.source is not self.source:  # there is a cache
                raise
            job = replace(self.job, source=other.source, recipe=NO_RECIPE)
            self._quarantine.source = other.source
            self._fetcher.close()
            fetcher = other.fetcher(job, self.backend, self._quarantine)
            vars(self).update(_road=other, source=other.source, _fetcher=fetcher)

    def _epoch(self, drawn: int | None) -> Iterator[Any]:
        # An epoch counts from its first batch on: a library may ask for an iterator and drop it.
        self._course.reshard(chosen_shard(*self._wanted))  # torch.distributed may have been initialised meanwhile
        self._quarantine.rank = self.shard.rank
        self._follow()
        place = self._course.begin(drawn)
        results = self._fetcher.run(self._course.behind(place))
        try:
            for result in results:
                yield from self._hand_out(place, result)
            self._course.end(place)
        finally:
            results.close()  # type: ignore[attr-defined]

    def _hand_out(self, place: Place, result: Outcome) -> Iterator[Any]:
        batch, course = result.batch, self._course
        self.last_indices = batch.indices
        done = pinned if self.pin_memory else _as_it_is
        if course.unit != "sample":
            self.last_is_padding = self.shard.rank >= batch.position - batch.begin
            course.place = replace(place, position=batch.position)
            yield done(self._road.batch(result))
            return
        places = batch.places(self.shard.world_size)
        for sample, position in zip(self._road.singles(result), places, strict=True):
            self.last_is_padding = self.shard.rank > (position - batch.begin - 1) % self.shard.world_size
            course.place = replace(place, position=position)
            yield done(sample)

    def explain(self) -> str:
        """Return which steps run on the backend, which in Python and why, and what those cost here, in ms an image.

        It tells more after some batches; one of a data set that is asked has it asked for its first sample, if need be.
        """
        return "\n".join(self._road.explained(self.backend))

    @property
    def bad_files(self) -> tuple[BadFile, ...]:
        """The samples that could not be used so far, with path, reason and the epoch in which each was found."""
        return tuple(self._quarantine.files.values())

    def add_bad_files(self, files: Iterable[BadFile]) -> None:
        """Know what the loaders of other ranks could not use: it isn't opened here either.

        Raises:
            DecodeError: they are more than may be.
            ConfigError: the list of them can't be written.
        """
        self._quarantine.merge(files)

    def load_bad_files(self, state: Any) -> None:
        """Know the bad files of a loader's state, its "bad", and no others.

        Raises:
            StateError: it is malformed.
            ConfigError: the list of them can't be written.
        """
        self._quarantine.restore(state)

    @property
    def place(self) -> tuple[int, int]:
        """Epoch of the batch that was handed out last, and where in its order that batch ended."""
        return self._course.place.epoch, self._course.place.position

    def state_dict(self) -> dict[str, Any]:
        """Return where the loader is, as JSON: the batches handed out count, not those prepared ahead.

        It is under 1 KB unless a random sampler or a generator is given, whose state is kept too, or many files are
        bad. With a seed it is the same on every rank but for the bad files, of which each rank lists those that it met.
        """
        return {
            "version": STATE_VERSION,
            **self._course.state(),
            "shuffle": self.shuffle,
            "length": len(self.source),
            "data": self._fingerprint(),
            "recipe": self._road.digest(),
            "bad": self._quarantine.state(),
        }

    def _fingerprint(self) -> str:
        """Return the source's, which is taken once."""
        if self._taken is None or self._taken[0] is not self.source:
            self._taken = (self.source, fingerprint(self.source))
        return self._taken[1]

    def load_state_dict(self, state: dict[str, Any]) -> None:
        """Go back to where `state_dict` was taken: the next iteration yields what was left of that epoch.

        Batch size, world size, threads and backend may differ: exactly the remaining samples come, with the same random
        decisions. So it is with later epochs where there is a seed or a generator; else they draw from torch's.

        Raises:
            StateError: the state is malformed, or of another data set, recipe or order.
        """
        check_state(state, self.state_dict())
        self._course.order.check(state["order"], state["position"])
        self._quarantine.restore(state.get("bad", []))
        self._course.load(state)

    def close(self) -> None:
        """Release threads and memory. The loader can't be iterated again; an epoch that runs may end."""
        self._closed = True
        self._fetcher.close()

    def __enter__(self) -> DataLoader:
        """Return the loader."""
        return self

    def __exit__(self, *_exception: Any) -> None:
        """Close the loader."""
        self.close()


def _as_it_is(handed: Any) -> Any:
    return handed
