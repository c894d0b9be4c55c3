"""Running what a data set's samples leave to a backend.

    batches ─► asker ─► samples with views ─┬─► recipe A ─► its backend ─┬─► rows ─► the views ─► whole samples
                                            └─► recipe B ─► its backend ─┘

Each recipe (of items of one kind) is a branch: an executor of its own, which gets of every batch the rows that are its.
All go in step with the batches; one that has no row in a batch gets one px, which is thrown away.
"""

from __future__ import annotations

from collections import deque
from collections.abc import Callable, Generator, Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field, replace
from typing import Any, Self

import numpy as np
import torch
from PIL import Image

from dalipipe.asking.asker import Asker
from dalipipe.asking.images import become, mark_of, name_of
from dalipipe.asking.patches import installed
from dalipipe.asking.sample import Asked
from dalipipe.asking.structure import Row, mapped
from dalipipe.asking.views import View, view_of
from dalipipe.backends import ONE_PIXEL, Executor, Job, compile_recipe, failures_of, in_parts, of_view
from dalipipe.decisions.generators import lent
from dalipipe.recipes import Recipe
from dalipipe.sampling import Batch
from dalipipe.sources import Item

MOST_BRANCHES = 8
"""Recipes that have executors of their own; what further ones make, the reference makes at once."""

MOST_SIZES = 2
"""Executors for transforms that leave arrays the size they have: it is one size, or it is any."""


_NONE: Any = object()


class _Zeros:
    """The labels of any number of samples that have none here."""

    def __getitem__(self, indices: Any) -> Any:
        return np.zeros(len(indices), np.int64)


class _Brought:
    """A source whose items come with the batches.

    Args:
        kind: What they are.
    """

    classes: tuple[str, ...] = ()
    labels: Any = _Zeros()
    max_requests = 1

    def __init__(self, kind: str) -> None:
        self.kind = kind

    def __len__(self) -> int:
        return 1

    def item(self, index: int) -> Item:
        """Return nothing: see `Batch.items`."""
        raise AssertionError("items come with the batches")

    def name(self, index: int) -> str:
        """Return what to call a sample."""
        return f"sample {index}"


@dataclass(frozen=True)
class SamplesResult:
    """What became of one batch of a data set that was asked.

    Attributes:
        batch: The samples asked for.
        samples: Those that could be had, in order: what the data set gives, with a `Row` for each image that a backend
            has made.
        failures: Reason for each position of the batch that could not.
    """

    batch: Batch
    samples: list[Any]
    failures: Mapping[int, str] = field(default_factory=dict)

    def joined(self, batch: Batch, more: Sequence[Self]) -> Self:
        """See `Outcome`."""
        parts = (self, *more)
        samples = [sample for part in parts for sample in part.samples]
        return replace(self, batch=batch, samples=samples, failures=failures_of(parts))

    def chosen(self, batch: Batch, rows: list[int] | None = None, *, channels_last: bool = False) -> Self:
        """See `Outcome`."""
        samples = self.samples if rows is None else [self.samples[row] for row in rows]
        return replace(self, batch=batch, samples=samples, failures={})


@dataclass
class _Rows:
    """The rows of a batch that one branch makes: which sample each belongs to, and its views."""

    owners: list[int] = field(default_factory=list)
    views: list[tuple[View, ...]] = field(default_factory=list)


@dataclass
class _Round:
    """A batch that was asked for, or what was raised meanwhile; and the branches there were."""

    batch: Batch
    samples: list[Asked]
    rows: dict[_Branch, _Rows] = field(default_factory=dict)
    branches: tuple[_Branch, ...] = ()
    error: BaseException | None = None


class _Branch:
    """A recipe, with the executor that makes its rows.

    Args:
        job: What it runs.
        backend: On which.
        pull: Asks for one more batch; returns whether there was one.
        sized: Whether it is for images of one size.
    """

    def __init__(self, job: Job, backend: str, pull: Callable[[], bool], *, sized: bool) -> None:
        self.job, self._backend, self._pull, self.sized = job, backend, pull, sized
        self.waiting: deque[Batch] = deque()
        self._executor: Executor | None = None
        self._results: Generator[Any, None, None] | None = None

    def _feed(self) -> Iterator[Batch]:
        while self.waiting or self._pull():
            if self.waiting:
                yield self.waiting.popleft()

    def next(self) -> Any:
        """Return the result of its next rows."""
        if self._results is None:
            size = max([self.job.batch_size, *map(len, self.waiting)])
            if self._executor is None or size > self.job.batch_size:
                self.close_executor()
                self.job = replace(self.job, batch_size=size)
                self._executor = compile_recipe(self.job, self._backend)
            self._results = in_parts(self._executor, self._feed(), self.job.batch_size)
        return next(self._results)

    def end(self) -> None:
        """Give up what is under way."""
        if self._results is not None:
            self._results.close()
        self._results = None
        self.waiting.clear()

    def close(self) -> None:
        """Release threads and memory."""
        self.end()
        self.close_executor()

    def close_executor(self) -> None:
        """Release the executor; the next rows have a new one."""
        if self._executor is not None:
            self._executor.close()
        self._executor = None


class AskedExecutor:
    """Asks a data set for its samples, and has backends make their views.

    Args:
        asker: Asks the data set.
        job: What the backends run, but for source and recipe.
        backend: Their name.
    """

    def __init__(self, asker: Asker, job: Job, backend: str) -> None:
        self.asker, self.job, self._backend = asker, job, backend
        self.device = torch.device("cuda", job.device_id) if backend == "dali-gpu" else torch.device("cpu")
        self._branches: dict[tuple[str, ...], _Branch] = {}
        self._rounds: deque[_Round] = deque()
        self._batches: Iterator[Batch] | None = None

    def _pull(self) -> bool:
        """Ask for the samples of the next batch, and give each branch its rows; return whether there was one."""
        if self._batches is None:
            return False
        nothing = np.empty(0, np.int64)
        found = _Round(Batch(0, nothing, nothing), [])
        try:
            batch = next(self._batches, None)
            if batch is None:
                self._batches = None
                return False
            found.batch = batch
            found.samples = self.asker.ask(batch)
            self._divide(found)
        except Exception as error:  # comes up in the place of its batch
            self._batches, found.error = None, error
        self._rounds.append(found)
        return found.error is None

    def _divide(self, found: _Round) -> None:
        """Give each branch its rows of a batch."""
        for owner, sample in enumerate(found.samples):
            for views in _by_image(sample.views) if not sample.reason else ():
                branch = self._branch_of(views)
                if branch is not None:
                    rows = found.rows.setdefault(branch, _Rows())
                    rows.owners.append(owner)
                    rows.views.append(views)
        found.branches = tuple(self._branches.values())
        for branch in found.branches:
            branch.waiting.append(_batch_of(found, found.rows.get(branch), branch.job))

    def _branch_of(self, views: tuple[View, ...]) -> _Branch | None:
        """Return the branch that makes the views of an image; None where each is made when somebody looks at it."""
        item = views[0].image.item
        kind = "path" if isinstance(item, str) else "bytes" if isinstance(item, bytes) else "pixels"
        key = kind, *(view.plan.fingerprint for view in views)
        if key not in self._branches:
            if len(self._branches) >= MOST_BRANCHES or (views[0].plan.sized and self._sized() >= MOST_SIZES):
                return None
            source: Any = _Brought(kind)
            recipes = [view.plan.recipe for view in views if view.plan.recipe is not None]
            job = replace(self.job, source=source, recipe=Recipe.of_views(recipes[0].name, recipes))
            self._branches[key] = _Branch(job, self._backend, self._pull, sized=views[0].plan.sized)
        return self._branches[key]

    def _sized(self) -> int:
        return sum(branch.sized for branch in self._branches.values())

    def run(self, batches: Iterable[Batch]) -> Iterator[SamplesResult]:
        """Yield one result for each batch, in order. See `Executor`."""
        self._batches = iter(batches)
        used: set[_Branch] = set()
        try:
            with installed():
                while True:
                    while len(self._rounds) <= self.job.prefetch and self._pull():
                        pass
                    if not self._rounds:
                        return
                    found = self._rounds.popleft()
                    if found.error is not None:
                        raise found.error
                    made = {branch: branch.next() for branch in found.branches}
                    used.update(found.rows)
                    yield self._whole(found, made)
        finally:
            self._batches = None
            self._rounds.clear()
            for key, branch in tuple(self._branches.items()):
                branch.end()
                if branch not in used:  # no transform of this epoch has it any more
                    branch.close()
                    del self._branches[key]

    def _whole(self, found: _Round, made: dict[_Branch, Any]) -> SamplesResult:
        """Return the samples of a batch, with all views made."""
        missing: dict[int, str] = {}
        left: list[list[View]] = [[] for _ in found.samples]
        for branch, rows in found.rows.items():
            for owner, views in zip(rows.owners, rows.views, strict=True):
                left[owner].extend(view for view in views if view.plan.rest)
            result = made[branch]
            good = [at for at in range(len(rows.owners)) if at not in result.failures]
            for row, at in enumerate(good):
                image = rows.views[at][0].image
                if image.mark is not None and mark_of(image.item) != image.mark:
                    missing[rows.owners[at]] = "the file was changed while it was read"
                if any(self.asker.plans.notes(view.plan.rest) for view in rows.views[at]):
                    missing[rows.owners[at]] = "a step has kept what it did for another sample"
                for view, made_of_it in zip(rows.views[at], result.views, strict=True):
                    view.fill(Row(made_of_it, row))
            for at, why in result.failures.items():
                missing[rows.owners[at]] = why
                found.samples[rows.owners[at]].path = name_of(rows.views[at][0].image.item)
        samples, failures = [], {}
        with lent():
            for at, sample in enumerate(found.samples):
                structure, raised = _NONE, None
                if not sample.reason and at not in missing:
                    structure, raised = _finished(sample)
                    if sample.deferred and any(self.asker.plans.notes(view.plan.rest) for view in left[at]):
                        structure = _NONE
                if structure is _NONE:
                    sample.reason = sample.reason or missing.get(at, "")
                    structure = self._again(found.batch, at, sample, raised)
                if structure is _NONE:
                    failures[at] = sample.reason
                    self.asker.paths.setdefault(sample.index, sample.path)
                else:
                    samples.append(structure)
                sample.structure = None  # which holds views that hold the sample
        return SamplesResult(found.batch, samples, failures)

    def _again(self, batch: Batch, at: int, sample: Asked, raised: Exception | None) -> Any:
        """Return what becomes of a sample of which an image can't be used, where its images are opened at once.

        So the data set meets what is wrong, and may have an answer: many catch what Pillow raises.

        Args:
            batch: The sample's.
            at: Which of the batch's it is.
            sample: As it came.
            raised: What a step behind its recipe has raised.

        Raises:
            Exception: that, where it can't be asked for again; else what is raised then.
        """
        if sample.met:
            if raised is not None:
                raise raised
            return _NONE
        (other,) = self.asker.ask(batch.select(np.arange(len(batch)) == at), real=True)
        structure, raised = (_NONE, None) if other.reason else _finished(other)
        if raised is not None:
            raise raised
        sample.path = other.path or sample.path
        other.structure = None
        return structure

    def none(self, batch: Batch) -> SamplesResult:
        """Return what becomes of a batch without samples."""
        return SamplesResult(batch, [])

    def close(self) -> None:
        """Release threads and memory."""
        for branch in self._branches.values():
            branch.close()
        self._branches.clear()


def _finished(sample: Asked) -> tuple[Any, Exception | None]:
    """Return a sample with rows or values in the places of its views, and what was raised meanwhile.

    There is no sample where something was raised, and nothing was where a file turns out to be bad.
    """
    try:
        return mapped(sample.structure, _in_place), None
    except Exception as error:
        return _NONE, None if sample.to_blame(error) else error


def _in_place(leaf: Any) -> Any:
    view = view_of(leaf)
    if view is not None:
        return view.outcome()
    if isinstance(leaf, Image.Image):
        become(leaf)
    elif isinstance(leaf, torch.Tensor) and leaf.is_meta:
        raise LookupError("a tensor was copied before it was made")
    return leaf


def _by_image(views: list[View]) -> Iterator[tuple[View, ...]]:
    """Yield the views that a recipe can make, together those of one image that follow one another."""
    together: list[View] = []
    for view in views:
        if view.plan.recipe is None:
            continue
        last = together[-1] if together else None
        if last is not None and not (last.number + 1 == view.number and last.image.is_the(view.image)):
            yield tuple(together)
            together = []
        together.append(view)
    if together:
        yield tuple(together)


def _batch_of(found: _Round, rows: _Rows | None, job: Job) -> Batch:
    """Return the rows of a branch as a batch; of one px where it has none."""
    if rows is None:
        one = np.zeros(1, np.int64)
        return Batch(found.batch.epoch, one, one, seed=found.batch.seed, items=(_one_pixel(job),))
    numbers = np.array([views[0].number for views in rows.views], np.int64)
    owners = np.array(rows.owners, np.int64)
    return Batch(
        found.batch.epoch,
        found.batch.indices[owners],
        of_view(found.batch.occurrences[owners], numbers),
        seed=found.batch.seed,
        items=tuple(views[0].image.item for views in rows.views),
    )


def _one_pixel(job: Job) -> Item:
    kind = job.source.kind  # type: ignore[attr-defined]
    if kind == "pixels":
        return np.zeros((1, 1, job.recipe.input_channels), np.uint8)
    return str(ONE_PIXEL) if kind == "path" else ONE_PIXEL.read_bytes()
