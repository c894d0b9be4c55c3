"""Running a recipe on several backends and comparing what they make of the same images with the same decisions.

A step is compared alone: every backend gets the pixels that the reference has before that step, so that differences
don't add up and each is that step's own. The decisions of such a run are those of a recipe that holds the step and
nothing else, the same on all backends. The whole recipe is then compared from the files, decoding included.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass

import numpy as np
import torch
from numpy.typing import NDArray

from dalipipe.backends import Job, compile_recipe, cuda_works, dali_is_there
from dalipipe.backends.base import UNREADABLE, checked
from dalipipe.backends.torchvision import apply, decode, with_channels
from dalipipe.decisions import randomness
from dalipipe.decisions.program import Program, program
from dalipipe.errors import BackendError
from dalipipe.parity.comparison import Comparison, Gathered, Levels
from dalipipe.parity.steps import LARGEST_PX, Items, Step, framed, run, size_after, steps_of
from dalipipe.parity.tolerances import REFERENCE, TOLERANCES, Tolerance, combined, tolerance_of, tolerance_of_recipe
from dalipipe.recipes import Recipe
from dalipipe.recipes.primitives import Family
from dalipipe.sampling import Batch
from dalipipe.sources import Item, Source, name_of

_PORTION_BYTES = 64_000_000  # of pixels before the steps; what is compared takes some eight times as much
_PORTION = 64
BATCH = 16
_KEPT = 4  # worst images, for a picture
WHOLE = "whole recipe"

Progress = Callable[[str, int, int], None]


@dataclass(frozen=True)
class Settings:
    """What to compare.

    Attributes:
        backends: Which, beside the reference.
        draws: How often each image goes through the recipe.
        seed: Of the random decisions.
        threads: Threads of each backend.
        steps: Whether to compare each step alone as well as the whole.
    """

    backends: Sequence[str] = ("dali-cpu", "dali-cpu-stock")
    draws: int = 2
    seed: int = 0
    threads: int = 1
    steps: bool = True


def compare(
    source: Source,
    recipe: Recipe,
    settings: Settings,
    indices: Sequence[int] | None = None,
    progress: Progress | None = None,
) -> Comparison:
    """Compare backends with the reference on some images.

    Args:
        source: Where the images are.
        recipe: What is done to them.
        settings: What to compare.
        indices: Which images; by default all.
        progress: Is told what is done, how far it is, and how much there is.

    Raises:
        ConfigError: no such backend.
        BackendError: dali-gpu where there is no GPU.
        RecipeError: a recipe of several views: give one of its `kinds`.
    """
    recipe.require_one_view("parity")
    chosen = list(range(len(source)) if indices is None else indices)
    refused = refusals(recipe, settings.backends)
    comparison = _Comparing(source, recipe, settings, [name for name in settings.backends if name not in refused])
    done = 0
    for samples in comparison.portions(chosen):
        comparison.compare(samples)
        done += len({sample.index for sample in samples})
        if progress is not None:
            progress(recipe.name, done, len(chosen))
    rows = tuple(gathered.row(*key) for key, gathered in sorted(comparison.gathered.items(), key=_row_order))
    return Comparison(recipe.name, rows, refused, tuple(comparison.unreadable), len(chosen), settings.draws)


def _row_order(entry: tuple[tuple[str, int | None, str], Gathered]) -> tuple[str, float]:
    (_, position, backend), _ = entry
    return backend, np.inf if position is None else position


def refusals(recipe: Recipe, backends: Sequence[str]) -> dict[str, str]:
    """Return the backends that lack an op of the recipe, and what they say."""
    refused = {}
    for name in backends:
        try:
            compile_recipe(Job(Items([]), recipe), name).close()
        except BackendError as error:
            if not dali_is_there() or (name == "dali-gpu" and not cuda_works()):
                raise
            refused[name] = str(error)
    return refused


@dataclass(frozen=True)
class _Sample:
    """One draw of one image: its index and name, which draw, and the reference's pixels (H, W, C) before each op.

    `before` is empty where steps are not compared, or the reference has no picture.
    """

    index: int
    name: str
    draw: int
    before: tuple[NDArray[np.uint8], ...]


class _Comparing:
    """A recipe on some backends, portion by portion."""

    def __init__(self, source: Source, recipe: Recipe, settings: Settings, backends: Sequence[str]) -> None:
        self.source, self.recipe, self.settings, self.backends = source, recipe, settings, backends
        self.gathered: dict[tuple[str, int | None, str], Gathered] = {}
        self.unreadable: list[str] = []
        self._steps = steps_of(recipe) if settings.steps else []

    def portions(self, indices: Sequence[int]) -> Iterator[list[_Sample]]:
        """Yield the samples in portions that memory can hold."""
        portion: list[_Sample] = []
        for index in indices:
            samples = self._samples(index)
            if portion and (len(portion) >= _PORTION or _bytes_of([*portion, *samples]) > _PORTION_BYTES):
                yield portion
                portion = []
            portion = portion + samples
        if portion:
            yield portion

    def _samples(self, index: int) -> list[_Sample]:
        settings, parts, name = self.settings, program(self.recipe), name_of(self.source, index)
        try:
            image = decode(checked(self.source, index, self.recipe.input_channels), self.recipe)
        except UNREADABLE:
            self.unreadable.append(name)
            return []
        draws = np.arange(settings.draws)
        uniforms = randomness.uniforms(parts.counts, settings.seed, 0, np.full(settings.draws, index), draws)
        return [_Sample(index, name, draw, self._before(image, parts, uniforms[draw])) for draw in draws.tolist()]

    def _before(
        self, image: torch.Tensor, parts: Program, uniforms: NDArray[np.float64]
    ) -> tuple[NDArray[np.uint8], ...]:
        if not self._steps:
            return ()
        records, status = parts.resolve(uniforms, image.shape[-2], image.shape[-1])
        if status:
            return ()
        before, row = [], 0
        for position, stage in enumerate(self.recipe.stages):
            image = with_channels(image, self.recipe.channels[position])
            before.append(np.ascontiguousarray(image.permute(1, 2, 0).numpy()))
            while stage == "pixels" and row < len(records) and parts.positions[row] == position:
                image, row = apply(image, records[row]), row + 1
        return tuple(before)

    def compare(self, samples: Sequence[_Sample]) -> None:
        """Compare every step, and the whole, on some samples."""
        batches = list(batched([sample.index for sample in samples], [sample.draw for sample in samples]))
        job = self._job(self.source, self.recipe)
        expected = run(job, REFERENCE, batches)
        for backend in self.backends:
            gathered = self._gather(WHOLE, None, backend, tolerance_of_recipe(self.recipe, backend))
            _add(gathered, samples, run(job, backend, batches), expected)
        drawn = [sample for sample in samples if sample.before]
        for step in self._steps:
            chosen = [sample for sample in drawn if sample.draw == 0] if step.encoded else drawn
            if chosen:
                self._compare_step(step, chosen)

    def _compare_step(self, step: Step, samples: Sequence[_Sample]) -> None:
        before = [sample.before[max(0, step.position - 1)] for sample in samples]
        items: list[Item] = list(before)
        if step.encoded:
            items = [checked(self.source, sample.index) for sample in samples]
        seed = self.settings.seed
        sizes = [size_after(step, pixels.shape[:2], seed, index) for index, pixels in enumerate(before)]
        recipe = framed(step, sizes)
        if step.encoded:
            turned = self.recipe.apply_exif_orientation
            recipe = recipe.model_copy(update={"apply_exif_orientation": turned})
        height, width = recipe.output_shape[1:]
        counts = [3 * min(h, height) * min(w, width) for h, w in sizes]
        job = self._job(Items(items), recipe)
        batches = list(batched(range(len(items)), [0] * len(items)))
        expected = run(job, REFERENCE, batches)
        for backend in self.backends:
            found = run(job, backend, batches)
            limit = TOLERANCES[Family.COPY][backend] if step.encoded else tolerance_of(step.ops[-1], backend)
            if any(op.stage == "range" for op in step.ops[:-1]):
                limit = combined(
                    [(1.0, limit), (1.0, TOLERANCES[Family.RANGE][backend])]
                )  # floats, before they are erased
            _add(self._gather(step.name, step.position, backend, limit), samples, found, expected, counts)

    def _job(self, source: Source, recipe: Recipe) -> Job:
        return Job(source, recipe, self.settings.seed, BATCH, self.settings.threads)

    def _gather(self, step: str, position: int | None, backend: str, tolerance: Tolerance) -> Gathered:
        return self.gathered.setdefault(
            (step, position, backend), Gathered(tolerance, keep=_KEPT if position is None else 0)
        )


def _bytes_of(samples: Sequence[_Sample]) -> int:
    """Return how much memory the pixels before a step take, framed as all the samples are that differ in size."""
    kept = sum(array.nbytes for sample in samples for array in sample.before)
    framed_px = 0
    for arrays in zip(*(sample.before for sample in samples if sample.before), strict=True):
        height, width = (max(array.shape[axis] for array in arrays) for axis in (0, 1))
        framed_px = max(framed_px, min(height, LARGEST_PX) * min(width, LARGEST_PX))
    return max(kept, 3 * framed_px * len(samples))


def batched(indices: Sequence[int], occurrences: Sequence[int]) -> Iterator[Batch]:
    """Yield batches of epoch 0."""
    for begin in range(0, len(indices), BATCH):
        part = slice(begin, begin + BATCH)
        yield Batch(0, np.array(indices[part], np.int64), np.array(occurrences[part], np.int64))


def _add(
    gathered: Gathered,
    samples: Sequence[_Sample],
    found: Sequence[Levels | None],
    expected: Sequence[Levels | None],
    counts: Sequence[int] | None = None,
) -> None:
    for at, (sample, ours, theirs) in enumerate(zip(samples, found, expected, strict=True)):
        if ours is not None and theirs is not None:
            size = theirs.size if counts is None else counts[at]
            gathered.add((sample.name, sample.draw), ours, theirs, size)
        elif ours is not None or theirs is not None:
            gathered.add_missing((sample.name, sample.draw))
