"""How a data set's samples come to be batches: directly from its files or arrays, or by asking the data set itself.

    direct   a folder, torchvision's own classes, a Source ─► paths, bytes or pixels ─► one backend ─► (images, labels)
    asked    any other ─► its own samples, with views ─► a backend for each recipe ─► batches of the same structure

The direct road is taken where it is known that the data set does nothing else, and where a recipe can do all of its
transform; where not, the data set is asked.
"""

from __future__ import annotations

import logging
from collections.abc import Callable
from dataclasses import replace
from functools import partial
from typing import Any, Protocol

import numpy as np
import torch
from torch.utils.data import IterableDataset, default_convert

from dalipipe.asking import (
    AskedExecutor,
    AskedSource,
    Asker,
    Row,
    SamplesResult,
    StreamOrder,
    StreamSource,
    default_collated,
    explained,
    installed,
    lent,
    mapped,
    seed_all,
)
from dalipipe.backends import CacheMode, Job, Result, describe_step, with_cache
from dalipipe.decisions import randomness
from dalipipe.errors import ConfigError, RecipeError, SourceError
from dalipipe.loading.arguments import chosen_recipe
from dalipipe.loading.fetching import Fetcher
from dalipipe.loading.quarantine import Quarantine
from dalipipe.recipes import Recipe
from dalipipe.recipes.translation import notes_of
from dalipipe.sampling import Batch, Order
from dalipipe.sources import Source, describe
from dalipipe.sources.changes import Watch
from dalipipe.sources.torch_datasets import as_source

_log = logging.getLogger("dalipipe")

_TOLD_AFTER = 3  # batches, so that what is told was measured

Collate = Callable[[Any], Any]

NO_RECIPE = Recipe(name="the data set's own", description="", ops=())
"""Stands where the transforms of a data set decide."""


class Road(Protocol):
    """How the samples of one data set come to be what a loader hands out.

    Attributes:
        source: The samples.
        recipe: What is done to their images; None where the data set decides.
    """

    source: Source
    recipe: Recipe | None

    def cached(self, mode: CacheMode | None, budget_gb: float | None, threads: int) -> Source:
        """Return the source with a cache, where one is wanted."""
        ...

    def fetcher(self, job: Job, backend: str, quarantine: Quarantine) -> Fetcher:
        """Return what runs a job."""
        ...

    def follow(self, fetcher: Fetcher) -> None:
        """Take what the data set's transform says now, as an epoch begins."""
        ...

    def batch(self, result: Any) -> Any:
        """Return what is handed out of a result."""
        ...

    def singles(self, result: Any) -> list[Any]:
        """Return the samples of a result, each as it is handed out by itself."""
        ...

    def digest(self) -> str:
        """Return what a state keeps of the recipe."""
        ...

    def explained(self, backend: str) -> list[str]:
        """Return, line by line, what runs where."""
        ...

    def instead(self) -> Road | None:
        """Return the road to take where this one leads on no more; None where there is none."""
        ...

    def order(self) -> Order | None:
        """Return the order that the data set itself has; None where the loader decides on it."""
        ...


def chosen_road(dataset: Any, recipe: Any, collate_fn: Collate | None) -> Road:
    """Return the road of a data set.

    Args:
        dataset: As the loader got it.
        recipe: The loader's own; None where the data set's transform decides.
        collate_fn: The user's own; None for torch's.

    Raises:
        SourceError: it is no data set that can be used.
        RecipeError: a given recipe can't be found or can't work.
        ConfigError: neither recipe nor transform.
    """
    given = None if recipe is None else Recipe.load(recipe)
    try:
        return DirectRoad(dataset, given, collate_fn)
    except (SourceError, RecipeError, ConfigError) as error:
        if not _can_be_asked(dataset) or (isinstance(error, ConfigError) and collate_fn is None):
            raise
        _log.debug("the data set is asked for each sample, since %s", error)
        return AskedRoad(dataset, given, collate_fn)


def _can_be_asked(dataset: Any) -> bool:
    if isinstance(dataset, IterableDataset):
        return True
    kind = type(dataset)
    if isinstance(dataset, str | bytes | type) or hasattr(dataset, "__fspath__"):
        return False
    return hasattr(kind, "__getitem__") and hasattr(kind, "__len__")


class DirectRoad:
    """The road of a data set whose files or arrays are known.

    Args:
        dataset: As the loader got it.
        recipe: The loader's own; None where the data set's transform decides.
        collate_fn: The user's own; None for (images, labels).

    Raises:
        SourceError: it can't be used, or not in this way.
        RecipeError: its transform can't be made a recipe.
        ConfigError: it has no transform, and there is no recipe.
    """

    def __init__(self, dataset: Any, recipe: Recipe | None, collate_fn: Collate | None) -> None:
        self.source, transform = as_source(dataset, with_transform=recipe is None)
        self.recipe: Recipe | None = chosen_recipe(recipe, transform, self.source)
        self._watch = Watch(dataset, with_transform=recipe is None, is_source=self.source is dataset)
        self._dataset, self._collate = dataset, collate_fn

    def cached(self, mode: CacheMode | None, budget_gb: float | None, threads: int) -> Source:
        """See `Road`."""
        assert self.recipe is not None
        return with_cache(self.source, self.recipe, mode, budget_gb, threads)

    def fetcher(self, job: Job, backend: str, quarantine: Quarantine) -> Fetcher:
        """See `Road`."""
        return Fetcher(job, backend, quarantine)

    def follow(self, fetcher: Fetcher) -> None:
        """Take the recipe that the data set's transform says now; refuse a data set that was changed otherwise."""
        transform = self._watch.transform()
        given = None if self._watch.with_transform else self.recipe
        recipe = chosen_recipe(given, transform, self.source)
        if recipe != self.recipe:
            self.recipe = recipe
            fetcher.restart(replace(fetcher.job, recipe=recipe))

    def batch(self, result: Result) -> Any:
        """See `Road`."""
        if self._collate is None:
            return [_of_views(list(result.views)), result.labels]
        return _collated(self._collate, self._samples(result), result.batch)

    def _samples(self, result: Result) -> list[Any]:
        images = (_of_views(list(views)) for views in zip(*result.views, strict=True))
        return list(zip(images, result.labels.tolist(), strict=True))

    def singles(self, result: Result) -> list[Any]:
        """See `Road`."""
        if self._collate is None:
            return [[image, label] for image, label in self._samples(result)]
        return [_collated(self._collate, sample, result.batch, at) for at, sample in enumerate(self._samples(result))]

    def explained(self, backend: str) -> list[str]:
        """See `Road`."""
        assert self.recipe is not None
        lines = [f"{describe(self.source)} is read directly, and all that is done to its images runs on {backend}:"]
        for numbers, view in self.recipe.kinds.items():
            lines += [f"view {numbers}:"] if self.recipe.other_ops else []
            steps = zip(view.ops, describe_step(view, backend), strict=True)
            lines += [f"  {op.op}: {step}" for op, step in steps]
        notes = notes_of(self.recipe)
        return [*lines, notes] if notes else lines

    def digest(self) -> str:
        """See `Road`."""
        assert self.recipe is not None
        return self.recipe.fingerprint()

    def instead(self) -> Road | None:
        """See `Road`: the data set may be asked."""
        return AskedRoad(self._dataset, None, self._collate) if _can_be_asked(self._dataset) else None

    def order(self) -> None:
        """See `Road`."""
        return


class AskedRoad:
    """The road of a data set that is asked for its samples.

    Args:
        dataset: Has `__getitem__` and `__len__`, or is an `IterableDataset`.
        recipe: What is done to its images, in the place of its transforms; None for these.
        collate_fn: The user's own; None for torch's.
    """

    def __init__(self, dataset: Any, recipe: Recipe | None, collate_fn: Collate | None) -> None:
        self._streams = isinstance(dataset, IterableDataset)
        self.source: Any = StreamSource(dataset) if self._streams else AskedSource(dataset)
        self.recipe = recipe
        self._collate = collate_fn
        self._asker: Asker | None = None
        self._order = StreamOrder() if self._streams else None
        self._backend, self._handed = "", 0

    def cached(self, mode: CacheMode | None, budget_gb: float | None, threads: int) -> Source:
        """Return the source; there is no cache.

        Raises:
            ConfigError: one is wanted.
        """
        if mode is not None:
            raise ConfigError(
                f"DataLoader: cache={mode!r} needs images that belong to the data set, and this one is asked for each"
                " sample anew. Leave cache= out, or keep what is costly in the data set itself."
            )
        source: Source = self.source
        return source

    def fetcher(self, job: Job, backend: str, quarantine: Quarantine) -> Fetcher:
        """See `Road`."""
        if job.output.dtype == "uint8":
            raise ConfigError(
                'DataLoader: dtype="uint8" needs one recipe for all images, and this data set is asked for its samples,'
                ' each with transforms of its own. Choose "float32" or "float16".'
            )
        asker = Asker(self.source.dataset, job, self.recipe, self.source.paths)
        self._asker, self._backend = asker, backend
        if self._order is not None:
            self._order.join(asker)
        return Fetcher(job, backend, quarantine, partial(AskedExecutor, asker))

    def follow(self, fetcher: Fetcher) -> None:
        """See `Road`."""
        if self._asker is not None:
            self._asker.plans.clear()
        if not self._streams and len(self.source.dataset) != len(self.source):
            raise ConfigError(
                f"DataLoader: the data set had {len(self.source)} samples when the loader was made, got"
                f" {len(self.source.dataset)} now. Make a new loader."
            )

    def _tell(self) -> None:
        """Log, once and after some batches, what runs where: at level INFO of the logger "dalipipe"."""
        self._handed += 1
        if self._handed == _TOLD_AFTER and _log.isEnabledFor(logging.INFO):
            _log.info("%s", " ".join(self.explained(self._backend)))

    def batch(self, result: SamplesResult) -> Any:
        """See `Road`."""
        self._tell()
        if self._collate is None:
            return default_collated(result.samples)
        return _collated(self._collate, [mapped(sample, _tensor) for sample in result.samples], result.batch)

    def singles(self, result: SamplesResult) -> list[Any]:
        """See `Road`."""
        samples = [mapped(sample, _tensor) for sample in result.samples]
        if self._collate is None:
            return [default_convert(sample) for sample in samples]
        return [_collated(self._collate, sample, result.batch, at) for at, sample in enumerate(samples)]

    def explained(self, backend: str) -> list[str]:
        """See `Road`. A data set that wasn't asked yet is asked for its first sample."""
        asker = self._asker
        assert asker is not None
        if not asker.account.asking.count and len(self.source):
            with installed():
                asker.ask(Batch(0, np.zeros(1, np.int64), np.zeros(1, np.int64)))
        return list(explained(type(self.source.dataset).__name__, backend, asker.plans, asker.account))

    def instead(self) -> None:
        """See `Road`."""
        return

    def order(self) -> Order | None:
        """See `Road`."""
        return self._order

    def digest(self) -> str:
        """See `Road`."""
        return "the data set's own" if self.recipe is None else self.recipe.fingerprint()


def _of_views(views: list[Any]) -> Any:
    """Return the images of a recipe: a list where it makes several views."""
    return views[0] if len(views) == 1 else views


def _tensor(leaf: Any) -> Any:
    return leaf.tensor if isinstance(leaf, Row) else leaf


def _collated(collate: Collate, samples: Any, batch: Batch, at: int = 0) -> Any:
    """Return what a function of the user's makes of samples; what it draws belongs to the batch."""
    (words,) = randomness.words(
        batch.seed or 0, batch.epoch, [batch.begin % 2**32], [int(batch.indices[0]) if len(batch) else 0],
        randomness.COLLATE_POSITION, at,
    )  # fmt: skip
    with lent():
        seed_all(words)
        return collate(samples)


def pinned(handed: Any) -> Any:
    """Return what is handed out with the tensors on the CPU copied to page-locked memory, where CUDA works."""
    if not torch.cuda.is_available():
        return handed

    def pin(leaf: Any) -> Any:
        return leaf.pin_memory() if isinstance(leaf, torch.Tensor) and leaf.device.type == "cpu" else leaf

    return mapped(handed, pin)
