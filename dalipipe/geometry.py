"""From uniforms and the true size of an image to whole boxes, angles and matrices; pure, compiled by Numba.

A recipe's pixel ops become a `Program`: one row of numbers a step. `resolve` runs it for one sample and writes one
*record* a step: what is to be done (a primitive, see `Do`) and with which numbers. Every backend reads the same
records, so a decision is taken in one place. A record is RECORD float64 numbers:

    [DO]               the primitive; Do.NOTHING where the op decided not to act
    [IN_H] [IN_W]      size of the incoming image in px
    [OUT_H] [OUT_W]    size of the outgoing image in px
    [ARGS:]            the primitive's arguments (see `Do`)

Formulas are torchvision's, rounding included (Python's `round`, half to even); each function names its source.
"""

from __future__ import annotations

import math
from collections.abc import Iterator
from dataclasses import dataclass
from enum import IntEnum
from functools import lru_cache

import numpy as np
from numba import njit
from numpy.typing import NDArray

from dalipipe import ops
from dalipipe.boxes import (
    affine_matrix,
    between,
    center_crop_corner,
    erasing_box,
    random_crop_corner,
    random_resized_crop_box,
    resized_size,
)
from dalipipe.ops.containers import DEPTH
from dalipipe.recipe import Recipe

RECORD = 24
STATICS = 20
CODE, OFFSET, ARGUMENTS = 0, 1, 2
GATES = ARGUMENTS + STATICS  # for each container around a step: place of its uniform, and the range it must lie in
COLUMNS = GATES + 3 * DEPTH
DO, IN_H, IN_W, OUT_H, OUT_W, ARGS = 0, 1, 2, 3, 4, 5


class Do(IntEnum):
    """The primitives that a backend must be able to do, and their arguments from [ARGS] on."""

    NOTHING = 0
    CROP_RESIZE = 1  # top, left, height, width of the box, which lies inside the image; 1 for antialias. Bilinear.
    CROP_PAD = 2  # top, left of the window (may lie outside); red, green, blue level outside
    FLIP = 3  # 1 to mirror left and right; 1 to mirror top and bottom
    # six entries of the output-to-input matrix in px, pixel centres at + 0.5; interpolation; red, green, blue level
    # outside; and what the matrix was made of: clockwise angle in degrees, shift x, y in px, scale, shear x, y in
    # degrees, centre x, y in px
    AFFINE = 4
    ERASE = 5  # top, left, height, width of the box; red, green, blue; 1 where those are what leaves the recipe


class Status(IntEnum):
    """Why a sample can't be processed; 0 where it can."""

    OK = 0
    CROP_EXCEEDS_IMAGE = 1


STATUS_REASONS = {
    Status.CROP_EXCEEDS_IMAGE: "the image is smaller than the window of RandomCrop, and pad_if_needed is off"
}

NEAREST, BILINEAR = 0, 1
_INTERPOLATIONS = {"nearest": NEAREST, "bilinear": BILINEAR}

# How a step is resolved. Those up to _RANDOM_CROP change the size.
_RANDOM_RESIZED_CROP, _RESIZE_SHORTER, _RESIZE_FIXED, _CENTER_CROP, _RANDOM_CROP = range(1, 6)
_FLIP_X, _FLIP_Y, _ROTATION, _AFFINE, _ERASING = range(6, 11)


@dataclass(frozen=True)
class Program:
    """The pixel ops of a recipe as numbers.

    Attributes:
        table: (n, COLUMNS) float64, a row a step: how it is resolved, where its uniforms begin, its arguments, and
            what must be drawn for it to be done at all.
        positions: (n,) position in the recipe of the op that each step belongs to.
        ops: (n,) op behind each step: one of the recipe's, or one within a container.
        counts: uniforms that each op of the whole recipe draws, for `plan.uniforms`.
        tail: how many of the last steps work on what leaves the ops of the range, not on levels.
    """

    table: NDArray[np.float64]
    positions: tuple[int, ...]
    ops: tuple[ops.Op, ...]
    counts: tuple[int, ...]
    tail: int = 0

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


def _statics(op: ops.Op) -> tuple[int, list[float]]:
    """Return how an op is resolved and its arguments as numbers."""
    match op:
        case ops.RandomResizedCrop():
            return _RANDOM_RESIZED_CROP, [*op.size, *op.scale, *op.ratio, op.antialias]
        case ops.Resize(size=int(size)):
            return _RESIZE_SHORTER, [size, op.max_size or 0, op.antialias]
        case ops.Resize(size=(height, width)):
            return _RESIZE_FIXED, [height, width, op.antialias]
        case ops.CenterCrop():
            return _CENTER_CROP, [*op.size]
        case ops.RandomCrop():
            return _RANDOM_CROP, [*op.size, *op.padding, op.pad_if_needed, *op.fill]
        case ops.RandomHorizontalFlip():
            return _FLIP_X, [op.p]
        case ops.RandomVerticalFlip():
            return _FLIP_Y, [op.p]
        case ops.RandomRotation():
            center = op.center or (math.nan, math.nan)
            return _ROTATION, [*op.degrees, *center, _INTERPOLATIONS[op.interpolation], *op.fill]
        case ops.RandomAffine():
            center = op.center or (math.nan, math.nan)
            ranges = [*op.degrees, *(op.translate or (0, 0)), *(op.scale or (1, 1)), *(op.shear or (0, 0, 0, 0))]
            return _AFFINE, [*ranges, *center, _INTERPOLATIONS[op.interpolation], *op.fill]
        case ops.RandomErasing():
            return _ERASING, [op.p, *op.scale, *op.ratio, *op.value, 0]
    raise TypeError(f"geometry has no resolve for {op.op}; add one beside the others")


def _steps(op: ops.Op, offset: int, gates: tuple[float, ...]) -> Iterator[tuple[ops.Op, int, tuple[float, ...]]]:
    """Yield the ops that an op comes down to, where the uniforms of each begin, and the gates before it."""
    if not isinstance(op, ops.Container):
        yield op, offset, gates
        return
    inner = offset + 1
    for child, low, high in op.branches():
        # A gate that is always open would only cost time; one that never opens lies where nothing is drawn.
        gate = () if low <= 0 and high >= 1 else (float(offset), low, high) if low < high else (float(offset), 2.0, 2.0)
        yield from _steps(child, inner, (*gates, *gate))
        inner += child.uniforms


@lru_cache(maxsize=64)
def program(recipe: Recipe) -> Program:
    """Return the program of a recipe's pixel ops."""
    counts = tuple(op.uniforms for op in recipe.ops)
    starts = np.concatenate([[0], np.cumsum(counts)]).astype(np.int64)
    stages = recipe.stages
    positions = tuple(position for position, stage in enumerate(stages) if stage != "range")
    steps = [(at, *step) for at in positions for step in _steps(recipe.ops[at], int(starts[at]), ())]
    table = np.zeros((len(steps), COLUMNS))
    for row, (position, op, offset, gates) in zip(table, steps, strict=True):
        row[CODE], arguments = _statics(op)
        row[OFFSET] = offset
        if stages[position] == "tail":
            arguments[-4:] = *recipe.as_it_leaves(position, op.value), 1  # type: ignore[attr-defined]
        row[ARGUMENTS : ARGUMENTS + len(arguments)] = arguments
        row[GATES : GATES + len(gates)] = gates
    return Program(
        table, tuple(step[0] for step in steps), tuple(step[1] for step in steps), counts, stages.count("tail")
    )


@njit(cache=True)
def _resolve_size(code, s, u, record):
    """Write the record of an op that changes the size; return its status."""
    height, width = int(record[IN_H]), int(record[IN_W])
    args = record[ARGS:]
    if code in (_RANDOM_RESIZED_CROP, _RESIZE_FIXED, _RESIZE_SHORTER):
        record[DO] = Do.CROP_RESIZE.value
        args[0], args[1], args[2], args[3] = 0, 0, height, width
        if code == _RANDOM_RESIZED_CROP:
            args[0], args[1], args[2], args[3] = random_resized_crop_box(u, height, width, s[2:4], s[4:6])
            record[OUT_H], record[OUT_W], args[4] = s[0], s[1], s[6]
        elif code == _RESIZE_FIXED:
            record[OUT_H], record[OUT_W], args[4] = s[0], s[1], s[2]
        else:
            record[OUT_H], record[OUT_W] = resized_size(height, width, int(s[0]), int(s[1]))
            args[4] = s[2]
        return 0
    record[DO] = Do.CROP_PAD.value
    record[OUT_H], record[OUT_W] = s[0], s[1]
    if code == _CENTER_CROP:
        args[0], args[1] = center_crop_corner(height, width, int(s[0]), int(s[1]))
        return 0
    top, left, fits = random_crop_corner(u, height, width, (int(s[0]), int(s[1])), s[2:6], s[6] > 0)
    args[0], args[1], args[2], args[3], args[4] = top, left, s[7], s[8], s[9]
    return 0 if fits else Status.CROP_EXCEEDS_IMAGE.value


@njit(cache=True)
def _resolve_motion(code, s, u, record):
    """Write the record of an op that keeps the size."""
    height, width = record[IN_H], record[IN_W]
    args = record[ARGS:]
    if code in (_FLIP_X, _FLIP_Y):
        if u[0] < s[0]:
            record[DO] = Do.FLIP.value
            args[0], args[1] = code == _FLIP_X, code == _FLIP_Y
        return
    if code == _ERASING:
        if u[0] < s[0] and erasing_box(u[1:], record[IN_H], record[IN_W], s[1:5], args):
            record[DO] = Do.ERASE.value
            args[4:8] = s[5:9]
        return
    record[DO] = Do.AFFINE.value
    angle, shift_x, shift_y, scale, shear_x, shear_y = between(u[0], s[0], s[1]), 0.0, 0.0, 1.0, 0.0, 0.0
    if code == _ROTATION:
        angle = -angle  # torchvision's rotate is counter-clockwise, its affine clockwise
        s = s[2:]
    else:
        shift_x = np.rint(between(u[1], -1.0, 1.0) * s[2] * width)
        shift_y = np.rint(between(u[2], -1.0, 1.0) * s[3] * height)
        scale = between(u[3], s[4], s[5])
        shear_x, shear_y = between(u[4], s[6], s[7]), between(u[5], s[8], s[9])
        s = s[10:]
    center_x, center_y = (width * 0.5, height * 0.5) if math.isnan(s[0]) else (s[0], s[1])
    args[0], args[1], args[2], args[3], args[4], args[5] = affine_matrix(
        angle, (shift_x, shift_y), scale, (shear_x, shear_y), (center_x, center_y)
    )
    args[6], args[7], args[8], args[9] = s[2], s[3], s[4], s[5]
    args[10], args[11], args[12], args[13] = angle, shift_x, shift_y, scale
    args[14], args[15], args[16], args[17] = shear_x, shear_y, center_x, center_y


@njit(cache=True)
def _is_open(row, uniforms):
    """Return whether every gate before a step is open: a uniform lies in [low, high) for each."""
    for gate in range(GATES, COLUMNS, 3):
        low, high = row[gate + 1], row[gate + 2]
        if high > 0 and not low <= uniforms[int(row[gate])] < high:
            return False
    return True


@njit(cache=True)
def resolve(table, uniforms, height, width, records):
    """Write the records of one sample; return its Status.

    Args:
        table: (n, COLUMNS) from the Program.
        uniforms: (total,) float64 of the sample.
        height: Of the image as decoded, px.
        width: Of the image as decoded, px.
        records: (n, RECORD) float64, written.
    """
    status = 0
    for step in range(len(table)):
        code, s, u = table[step, CODE], table[step, ARGUMENTS:], uniforms[int(table[step, OFFSET]) :]
        record = records[step]
        record[:] = 0.0
        record[IN_H], record[IN_W], record[OUT_H], record[OUT_W] = height, width, height, width
        if not _is_open(table[step], uniforms):
            continue
        if code <= _RANDOM_CROP:
            status = max(status, _resolve_size(code, s, u, record))
        else:
            _resolve_motion(code, s, u, record)
        height, width = int(record[OUT_H]), int(record[OUT_W])
    return status


@njit(cache=True)
def axis_support(index, box, out_size, antialias):
    """Return (first, one past the last) input px that output px `index` of a resize depends on, along one axis.

    Source: Pillow's precompute_coeffs with the triangle filter, which torch's antialiased interpolate follows.
    """
    scale = box / out_size
    stretch = max(scale, 1.0) if antialias else 1.0
    center = scale * (index + 0.5)
    return max(int(center - stretch + 0.5), 0), min(int(center + stretch + 0.5), box)


@njit(cache=True)
def _clip(first, last, size):
    """Return (first, count) of the px from first to last that lie in an axis, and one px of it where none do."""
    first, last = min(max(first, 0), size - 1), min(max(last, 0), size - 1)
    return first, last - first + 1


@njit(cache=True)
def _affine_reach(row, first_x, first_y, height, width):
    """Return the least and the greatest coordinate of one axis that a region looks at, with a px to spare."""
    low, high = np.inf, -np.inf
    for y in (first_y + 0.5, first_y + height - 0.5):
        for x in (first_x + 0.5, first_x + width - 0.5):
            at = row[0] * x + row[1] * y + row[2] - 0.5
            low, high = min(low, at), max(high, at)
    return math.floor(low) - 1, math.floor(high) + 2


@njit(cache=True)
def _set_region(region, top, left, height, width):
    region[0], region[1], region[2], region[3] = top, left, height, width


@njit(cache=True)
def regions(records, out_height, out_width, needed):
    """Write which region of each image between two steps the later steps look at.

    Args:
        records: (n, RECORD) float64.
        out_height: Of the final image, px.
        out_width: Of the final image, px.
        needed: (n + 1, 4) int64, written: top, left, height, width, in px of the image before step i; all of the last.
    """
    top, left, height, width = 0, 0, out_height, out_width
    _set_region(needed[len(records)], top, left, height, width)
    for step in range(len(records) - 1, -1, -1):
        record = records[step]
        args, in_h, in_w = record[ARGS:], int(record[IN_H]), int(record[IN_W])
        if record[DO] == Do.FLIP.value:
            left = in_w - left - width if args[0] > 0 else left
            top = in_h - top - height if args[1] > 0 else top
        elif record[DO] == Do.CROP_PAD.value:
            y, x = top + int(args[0]), left + int(args[1])
            top, height = _clip(y, y + height - 1, in_h)
            left, width = _clip(x, x + width - 1, in_w)
        elif record[DO] == Do.CROP_RESIZE.value:
            out_h, out_w, smooth = int(record[OUT_H]), int(record[OUT_W]), args[4] > 0
            last_y, last_x = top + height - 1, left + width - 1
            low_y, low_x = axis_support(top, args[2], out_h, smooth)[0], axis_support(left, args[3], out_w, smooth)[0]
            high_y, high_x = (
                axis_support(last_y, args[2], out_h, smooth)[1],
                axis_support(last_x, args[3], out_w, smooth)[1],
            )
            top, height = int(args[0]) + low_y, int(high_y) - low_y
            left, width = int(args[1]) + low_x, int(high_x) - low_x
        elif record[DO] == Do.AFFINE.value:
            low_y, high_y = _affine_reach(args[3:6], left, top, height, width)
            low_x, high_x = _affine_reach(args[0:3], left, top, height, width)
            top, height = _clip(low_y, high_y, in_h)
            left, width = _clip(low_x, high_x, in_w)
        _set_region(needed[step], top, left, height, width)
