"""The pixel ops of a recipe as numbers: one row a step, for `dalipipe.decisions.geometry.resolve`."""

from __future__ import annotations

import math
from collections.abc import Iterator
from dataclasses import dataclass
from functools import lru_cache

import numpy as np
from numpy.typing import NDArray

from dalipipe.decisions import policies
from dalipipe.decisions.geometry import (
    AFFINE,
    ALWAYS,
    ARGUMENTS,
    BLUR,
    CENTER_CROP,
    CHANCE,
    CODE,
    COLUMNS,
    ERASING,
    FLIP_X,
    FLIP_Y,
    GATES,
    GREY,
    JITTER,
    LIMIT,
    OFFSET,
    PAD,
    PERSPECTIVE,
    POLICY,
    RANDOM_CROP,
    RANDOM_RESIZED_CROP,
    RESIZE_FIXED,
    RESIZE_SHORTER,
    ROTATION,
    resolve,
)
from dalipipe.decisions.records import BILINEAR, NEAREST, RECORD, Do, Status
from dalipipe.limits import pixel_limit
from dalipipe.recipes import Recipe, ops

_JITTERS = {"brightness": Do.BRIGHTNESS, "contrast": Do.CONTRAST, "saturation": Do.SATURATION, "hue": Do.HUE}
_INTERPOLATIONS = {"nearest": NEAREST, "bilinear": BILINEAR}


@dataclass(frozen=True)
class Program:
    """The pixel ops of a recipe as numbers.

    Attributes:
        table: (n, COLUMNS) float64, a row a step: how it is resolved, where its uniforms begin, the most px that it may
            make, its arguments, and what must be drawn for it to be done at all.
        positions: (n,) position in the recipe of the op that each step belongs to.
        ops: (n,) op behind each step: one of the recipe's, or one within a container.
        counts: uniforms that each op of the whole recipe draws, for `plan.uniforms`.
        tail: how many of the last steps work on what leaves the ops of the range, not on levels.
        channels: (n + 1,) of the image before each step, and after the last. A backend may have one channel as three
            equal ones: what would treat those otherwise has a primitive of its own, or is left out.
    """

    table: NDArray[np.float64]
    positions: tuple[int, ...]
    ops: tuple[ops.Op, ...]
    counts: tuple[int, ...]
    tail: int = 0
    channels: tuple[int, ...] = (3,)

    def __len__(self) -> int:
        """Return the number of steps."""
        return len(self.table)

    def gated(self, row: int) -> bool:
        """Return whether a step is left out for some samples."""
        return bool(self.table[row, GATES + 2] > 0)

    def resolve(self, uniforms: NDArray[np.float64], height: int, width: int) -> tuple[NDArray[np.float64], Status]:
        """Return the records of one sample and its status.

        Shapes: uniforms (sum(counts),) -> records (n, RECORD) float64.
        """
        records = np.zeros((len(self), RECORD))
        status = resolve(self.table, uniforms, height, width, records)
        return records, Status(status)


def _statics(op: ops.Op, part: int, channels: int) -> tuple[int, list[float]]:
    """Return how an op is resolved and its arguments as numbers; `part` counts the steps of one that has several."""
    if isinstance(op, ops.ColourOp | ops.GaussianBlur):
        code, arguments = _colour_statics(op, part)
        return code, _on_grey(code, arguments) if channels == 1 else arguments
    match op:
        case ops.RandomResizedCrop():
            return RANDOM_RESIZED_CROP, [*op.size, *op.scale, *op.ratio, op.antialias]
        case ops.Resize(size=int(size)):
            return RESIZE_SHORTER, [size, op.max_size or 0, op.antialias]
        case ops.Resize(size=(height, width)):
            return RESIZE_FIXED, [height, width, op.antialias]
        case ops.CenterCrop():
            return CENTER_CROP, [*op.size]
        case ops.Pad():
            return PAD, [*op.padding, *op.fill]
        case ops.RandomCrop():
            return RANDOM_CROP, [*op.size, *op.padding, op.pad_if_needed, *op.fill]
        case ops.RandomHorizontalFlip():
            return FLIP_X, [op.p]
        case ops.RandomVerticalFlip():
            return FLIP_Y, [op.p]
        case ops.RandomRotation():
            center = op.center or (math.nan, math.nan)
            return ROTATION, [*op.degrees, *center, _INTERPOLATIONS[op.interpolation], *op.fill]
        case ops.RandomAffine():
            center = op.center or (math.nan, math.nan)
            ranges = [*op.degrees, *(op.translate or (0, 0)), *(op.scale or (1, 1)), *(op.shear or (0, 0, 0, 0))]
            return AFFINE, [*ranges, *center, _INTERPOLATIONS[op.interpolation], *op.fill]
        case ops.RandomPerspective():
            return PERSPECTIVE, [op.p, op.distortion_scale, _INTERPOLATIONS[op.interpolation], *op.fill]
        case ops.Policy():
            return POLICY, [*_policy(op), part, _INTERPOLATIONS[op.interpolation], *op.fill, channels == 1]
        case ops.RandomErasing():
            return ERASING, [op.p, *op.scale, *op.ratio, *op.value, 0]
    raise TypeError(f"geometry has no resolve for {op.op}; add one beside the others")


def _colour_statics(op: ops.ColourOp | ops.GaussianBlur, part: int) -> tuple[int, list[float]]:
    match op:
        case ops.ColorJitter():
            bands = [(_JITTERS[name], *band) for name, band in op.active]
            return JITTER, [part, len(bands), *(number for band in bands for number in band)]
        case ops.GaussianBlur():
            return BLUR, [*op.kernel_size, *op.sigma]
        case ops.Grayscale():
            return ALWAYS, [Do.GRAYSCALE]
        case ops.RandomGrayscale():
            return CHANCE, [Do.GRAYSCALE, op.p]
        case ops.RandomInvert():
            return CHANCE, [Do.INVERT, op.p]
        case ops.RandomSolarize():
            return CHANCE, [Do.SOLARIZE, op.p, op.threshold]
        case ops.RandomPosterize():
            return CHANCE, [Do.POSTERIZE, op.p, op.bits]
        case ops.RandomAutocontrast():
            return CHANCE, [Do.AUTOCONTRAST, op.p]
        case ops.RandomEqualize():
            return CHANCE, [Do.EQUALIZE, op.p]
        case ops.RandomAdjustSharpness():
            return CHANCE, [Do.SHARPNESS, op.p, op.sharpness_factor]
    raise TypeError(f"geometry has no resolve for {op.op}; add one beside the others")


def _on_grey(code: int, arguments: list[float]) -> list[float]:
    """Return the arguments of a colour op with the primitives that it is on an image of one channel."""
    at = {ALWAYS: [0], CHANCE: [0], JITTER: range(2, len(arguments), 3)}.get(code, [])
    return [GREY.get(Do(int(v)), v) if place in at else v for place, v in enumerate(arguments)]


def _policy(op: ops.Policy) -> tuple[int, int, int]:
    """Return which policy it is, how many magnitudes there are, and which of them where it is fixed."""
    match op:
        case ops.RandAugment():
            return policies.RAND_AUGMENT, op.num_magnitude_bins, op.magnitude
        case ops.TrivialAugmentWide():
            return policies.TRIVIAL_AUGMENT_WIDE, op.num_magnitude_bins, 0
        case ops.AutoAugment():
            return policies.AUTO_AUGMENT, policies.IMAGENET_BINS, 0
    raise TypeError(f"geometry has no policy {op.op}; add one beside the others")


_Step = tuple[ops.Op, int, int, tuple[float, ...]]


def _steps(op: ops.Op, offset: int, gates: tuple[float, ...]) -> Iterator[_Step]:
    """Yield the ops that an op comes down to, which part of it, where its uniforms begin, and the gates before it."""
    if not isinstance(op, ops.Container):
        for part in range(op.steps):
            yield op, part, offset, gates
        return
    inner = offset + 1
    for child, low, high in op.branches():
        # A gate that is always open would only cost time; one that never opens lies where nothing is drawn.
        gate = () if low <= 0 and high >= 1 else (float(offset), low, high) if low < high else (float(offset), 2.0, 2.0)
        yield from _steps(child, inner, (*gates, *gate))
        inner += child.uniforms


def program(recipe: Recipe) -> Program:
    """Return the program of a recipe's pixel ops, under the present `pixel_limit`."""
    limit = pixel_limit()
    return _program(recipe, math.inf if limit is None else float(limit))


@lru_cache(maxsize=64)
def _program(recipe: Recipe, limit: float) -> Program:
    counts = tuple(op.uniforms for op in recipe.ops)
    starts = np.concatenate([[0], np.cumsum(counts)]).astype(np.int64)
    stages = recipe.stages
    channels = recipe.channels
    positions = tuple(position for position, stage in enumerate(stages) if stage != "range")
    steps = [(at, *step) for at in positions for step in _steps(recipe.ops[at], int(starts[at]), ())]
    table = np.zeros((len(steps), COLUMNS))
    for row, (position, op, part, offset, gates) in zip(table, steps, strict=True):
        row[CODE], arguments = _statics(op, part, channels[position])
        row[OFFSET], row[LIMIT] = offset, limit
        if stages[position] == "tail":
            arguments[-4:] = *recipe.as_it_leaves(position, op.value), 1  # type: ignore[attr-defined]
        row[ARGUMENTS : ARGUMENTS + len(arguments)] = arguments
        row[GATES : GATES + len(gates)] = gates
    return Program(
        table,
        tuple(step[0] for step in steps),
        tuple(step[1] for step in steps),
        counts,
        stages.count("tail"),
        (*(channels[step[0]] for step in steps), channels[-1]),
    )
