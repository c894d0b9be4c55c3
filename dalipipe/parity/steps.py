"""The steps of a recipe, each made a recipe of its own that any backend can run."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from typing import Literal

import numpy as np
from numpy.typing import NDArray

from dalipipe.backends import Job, compile_recipe
from dalipipe.decisions import randomness
from dalipipe.decisions.program import program
from dalipipe.parity.comparison import Levels
from dalipipe.recipes import Recipe, ops
from dalipipe.recipes.primitives import OUT_H, OUT_W
from dalipipe.sampling import Batch
from dalipipe.sources import Item

LARGEST_PX = 2048  # of an image with a longer side that no op has cut yet, the centre is compared


@dataclass(frozen=True)
class Step:
    """A step that is run alone.

    Attributes:
        name: The op's, or "decode".
        position: Of the op in the recipe, from 1; 0 for decoding.
        ops: What is run: the op; one that rescales, normalises or follows such, with those before it.
        encoded: Whether it begins with the files and not with pixels.
        channels: Of the images that it gets.
    """

    name: str
    position: int
    ops: tuple[ops.Op, ...]
    encoded: bool = False
    channels: Literal[1, 3] = 3


@dataclass
class Items:
    """A source of items, all of one class."""

    items: Sequence[Item]

    def __post_init__(self) -> None:
        self.classes = [""]
        self.labels: NDArray[np.int64] = np.zeros(len(self.items), np.int64)

    def __len__(self) -> int:
        return len(self.items)

    def item(self, index: int) -> Item:
        """Return an item."""
        return self.items[index]


def steps_of(recipe: Recipe) -> list[Step]:
    """Return decoding and each op of a recipe."""
    steps = [Step("decode", 0, (), encoded=True)]
    late: tuple[ops.Op, ...] = ()
    for position, (op, stage) in enumerate(zip(recipe.ops, recipe.stages, strict=True), 1):
        late = (*late, op) if stage != "pixels" else late
        done = (op,) if stage == "pixels" else late
        steps.append(Step(op.op, position, done, channels=recipe.channels[position - 1]))
    return steps


def size_after(step: Step, size: tuple[int, ...], seed: int, index: int) -> tuple[int, int]:
    """Return (height, width) in px of what a step makes of sample `index`, given what it gets."""
    height, width = size
    for op in step.ops:
        if op.stage != "pixels":
            break
        records, _ = _resolve(
            Recipe(name=step.name, input_channels=step.channels, ops=(op,)), (height, width), seed, index
        )
        for record in records:
            height, width = int(record[OUT_H]), int(record[OUT_W])
    return height, width


def framed(step: Step, sizes: Iterable[tuple[int, int]]) -> Recipe:
    """Return the recipe of a step. One whose images differ in size is followed by a window that all fit into.

    Args:
        step: The step.
        sizes: (height, width) in px of the images after it.
    """
    spec = ops.ImageSpec(channels=step.channels)
    for op in step.ops:
        spec = op.check(spec)
    if spec.height is not None and spec.width is not None:
        return Recipe(name=step.name, input_channels=step.channels, ops=step.ops)
    heights, widths = zip(*sizes, strict=True)
    window = ops.CenterCrop(size=(min(max(heights), LARGEST_PX), min(max(widths), LARGEST_PX)))
    on_pixels = tuple(op for op in step.ops[:1] if op.stage == "pixels" and not _is_late(step))
    made = (*on_pixels, window, *step.ops[len(on_pixels) :])
    return Recipe(name=step.name, input_channels=step.channels, ops=made)


def _is_late(step: Step) -> bool:
    return any(op.stage == "range" for op in step.ops)


def _resolve(recipe: Recipe, size: tuple[int, ...], seed: int, index: int) -> tuple[NDArray[np.float64], int]:
    parts = program(recipe)
    uniforms = randomness.uniforms(parts.counts, seed, 0, [index])[0]
    return parts.resolve(uniforms, int(size[0]), int(size[1]))


def run(job: Job, backend: str, batches: Iterable[Batch]) -> list[Levels | None]:
    """Return the images of some batches in levels, (3, H, W) each, None for one that could not be processed.

    One channel comes three times.
    """
    images: list[Levels | None] = []
    scale = job.recipe.levels
    executor = compile_recipe(job, backend)
    try:
        for result in executor.run(batches):
            levels = result.images.cpu().double().numpy()
            if scale is not None:
                mean, std = (np.array(part).reshape(3, 1, 1) for part in scale)
                levels = levels * std + mean
            good = iter(np.broadcast_to(levels, (len(levels), 3, *levels.shape[2:])))
            images += [None if at in result.failures else next(good) for at in range(len(result.batch))]
    finally:
        executor.close()
    return images
