"""From uniforms and the true size of an image to whole boxes, angles and matrices; pure, compiled by Numba.

A recipe's pixel ops become a `Program`: one row of numbers a step. `resolve` runs it for one sample and writes one
*record* a step (`dalipipe.records`): what is to be done, and with which numbers. Every backend reads the same records,
so a decision is taken in one place.

Formulas are torchvision's, rounding included (Python's `round`, half to even); each function names its source.
"""

from __future__ import annotations

import math
from collections.abc import Iterator
from dataclasses import dataclass
from functools import lru_cache

import numpy as np
from numpy.typing import NDArray

from dalipipe import ops, policies
from dalipipe.boxes import (
    affine_matrix,
    between,
    center_crop_corner,
    erasing_box,
    makes_too_much,
    perspective_map,
    random_crop_corner,
    random_resized_crop_box,
    resized_size,
)
from dalipipe.compilation import compiled
from dalipipe.limits import pixel_limit
from dalipipe.ops.containers import DEPTH
from dalipipe.recipe import Recipe
from dalipipe.records import ARGS, BILINEAR, DO, IN_H, IN_W, NEAREST, OUT_H, OUT_W, RECORD, Do, Status

STATICS = 20
CODE, OFFSET, LIMIT, ARGUMENTS = 0, 1, 2, 3
GATES = ARGUMENTS + STATICS  # for each container around a step: place of its uniform, and the range it must lie in
COLUMNS = GATES + 3 * DEPTH

_JITTERS = {"brightness": Do.BRIGHTNESS, "contrast": Do.CONTRAST, "saturation": Do.SATURATION, "hue": Do.HUE}
_INTERPOLATIONS = {"nearest": NEAREST, "bilinear": BILINEAR}

_STEEPEST = 1e6  # greatest coefficient of a perspective: beyond it corners coincide, and the image is left as it is
_POLICY_DO = np.array(
    [
        *[Do.NOTHING] * policies.BRIGHTNESS,
        *(Do.BRIGHTNESS, Do.SATURATION, Do.CONTRAST, Do.SHARPNESS, Do.POSTERIZE, Do.SOLARIZE),
        *(Do.AUTOCONTRAST, Do.EQUALIZE, Do.INVERT),
    ],
    dtype=np.float64,
)
"""What stands for each transform of a policy that is no affine map."""

GREY = {
    Do.CONTRAST: Do.CONTRAST_GREY,
    Do.SATURATION: Do.NOTHING,
    Do.HUE: Do.NOTHING,
    Do.GRAYSCALE: Do.NOTHING,
}
"""What stands for a primitive where the image has one channel; others are the same."""

_POLICY_DO_GREY = np.array([GREY.get(Do(int(do)), do) for do in _POLICY_DO], dtype=np.float64)

# How a step is resolved. Those up to _RANDOM_CROP change the size.
_RANDOM_RESIZED_CROP, _RESIZE_SHORTER, _RESIZE_FIXED, _CENTER_CROP, _PAD, _RANDOM_CROP = range(1, 7)
_FLIP_X, _FLIP_Y, _ROTATION, _AFFINE, _ERASING, _PERSPECTIVE = range(7, 13)  # keep size and levels
_ALWAYS, _CHANCE, _JITTER, _BLUR, _POLICY = range(13, 18)


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
            return _RANDOM_RESIZED_CROP, [*op.size, *op.scale, *op.ratio, op.antialias]
        case ops.Resize(size=int(size)):
            return _RESIZE_SHORTER, [size, op.max_size or 0, op.antialias]
        case ops.Resize(size=(height, width)):
            return _RESIZE_FIXED, [height, width, op.antialias]
        case ops.CenterCrop():
            return _CENTER_CROP, [*op.size]
        case ops.Pad():
            return _PAD, [*op.padding, *op.fill]
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
        case ops.RandomPerspective():
            return _PERSPECTIVE, [op.p, op.distortion_scale, _INTERPOLATIONS[op.interpolation], *op.fill]
        case ops.Policy():
            return _POLICY, [*_policy(op), part, _INTERPOLATIONS[op.interpolation], *op.fill, channels == 1]
        case ops.RandomErasing():
            return _ERASING, [op.p, *op.scale, *op.ratio, *op.value, 0]
    raise TypeError(f"geometry has no resolve for {op.op}; add one beside the others")


def _colour_statics(op: ops.ColourOp | ops.GaussianBlur, part: int) -> tuple[int, list[float]]:
    match op:
        case ops.ColorJitter():
            bands = [(_JITTERS[name], *band) for name, band in op.active]
            return _JITTER, [part, len(bands), *(number for band in bands for number in band)]
        case ops.GaussianBlur():
            return _BLUR, [*op.kernel_size, *op.sigma]
        case ops.Grayscale():
            return _ALWAYS, [Do.GRAYSCALE]
        case ops.RandomGrayscale():
            return _CHANCE, [Do.GRAYSCALE, op.p]
        case ops.RandomInvert():
            return _CHANCE, [Do.INVERT, op.p]
        case ops.RandomSolarize():
            return _CHANCE, [Do.SOLARIZE, op.p, op.threshold]
        case ops.RandomPosterize():
            return _CHANCE, [Do.POSTERIZE, op.p, op.bits]
        case ops.RandomAutocontrast():
            return _CHANCE, [Do.AUTOCONTRAST, op.p]
        case ops.RandomEqualize():
            return _CHANCE, [Do.EQUALIZE, op.p]
        case ops.RandomAdjustSharpness():
            return _CHANCE, [Do.SHARPNESS, op.p, op.sharpness_factor]
    raise TypeError(f"geometry has no resolve for {op.op}; add one beside the others")


def _on_grey(code: int, arguments: list[float]) -> list[float]:
    """Return the arguments of a colour op with the primitives that it is on an image of one channel."""
    at = {_ALWAYS: [0], _CHANCE: [0], _JITTER: range(2, len(arguments), 3)}.get(code, [])
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


@compiled
def _resolve_size(code, s, u, record):
    """Write the record of an op that changes the size; return its status."""
    height, width, args = int(record[IN_H]), int(record[IN_W]), record[ARGS:]
    if code in (_RANDOM_RESIZED_CROP, _RESIZE_FIXED, _RESIZE_SHORTER):
        record[DO] = Do.CROP_RESIZE.value
        args[0], args[1], args[2], args[3], args[4] = 0, 0, height, width, s[2]
        record[OUT_H], record[OUT_W] = s[0], s[1]
        if code == _RANDOM_RESIZED_CROP:
            args[0], args[1], args[2], args[3] = random_resized_crop_box(u, height, width, s[2:4], s[4:6])
            args[4] = s[6]
        elif code == _RESIZE_SHORTER:
            record[OUT_H], record[OUT_W] = resized_size(height, width, int(s[0]), int(s[1]))
        return 0
    record[DO] = Do.CROP_PAD.value
    if code == _PAD:
        record[OUT_H], record[OUT_W] = height + s[1] + s[3], width + s[0] + s[2]
        args[0], args[1], args[2], args[3], args[4] = -s[1], -s[0], s[4], s[5], s[6]
        return 0
    record[OUT_H], record[OUT_W] = s[0], s[1]
    if code == _CENTER_CROP:
        args[0], args[1] = center_crop_corner(height, width, int(s[0]), int(s[1]))
        return 0
    top, left, fits = random_crop_corner(u, height, width, (int(s[0]), int(s[1])), s[2:6], s[6] > 0)
    args[0], args[1], args[2], args[3], args[4] = top, left, s[7], s[8], s[9]
    return 0 if fits else Status.CROP_EXCEEDS_IMAGE.value


@compiled
def _resolve_motion(code, s, u, record):
    """Write the record of an op that keeps the size."""
    height, width, args = record[IN_H], record[IN_W], record[ARGS:]
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
    if code == _PERSPECTIVE:
        if u[0] < s[0]:
            found = perspective_map(u[1:], int(height), int(width), s[1])
            if np.abs(found).max() < _STEEPEST:
                record[DO] = Do.PERSPECTIVE.value
                args[:8] = found
                args[8:12] = s[2:6]
        return
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
    center = (width * 0.5, height * 0.5) if math.isnan(s[0]) else (s[0], s[1])
    _write_affine(record, angle, (shift_x, shift_y, scale, shear_x, shear_y), center, s[2:6])


@compiled
def _write_affine(record, angle, rest, center, border):
    """Write an AFFINE record; `rest` is shift x, y, scale, shear x, y, `border` interpolation and fill."""
    args = record[ARGS:]
    record[DO] = Do.AFFINE.value
    args[0], args[1], args[2], args[3], args[4], args[5] = affine_matrix(
        angle, (rest[0], rest[1]), rest[2], (rest[3], rest[4]), center
    )
    args[6:10] = border[:4]
    args[10], args[11], args[12], args[13] = angle, rest[0], rest[1], rest[2]
    args[14], args[15], args[16], args[17] = rest[3], rest[4], center[0], center[1]


@compiled
def _resolve_colour(code, s, u, record):
    """Write the record of an op that changes levels; return its status."""
    args = record[ARGS:]
    if code == _ALWAYS:
        record[DO] = s[0]
    elif code == _CHANCE:
        if u[0] < s[1]:
            record[DO] = s[0]
            args[0] = s[2]
    elif code == _JITTER:
        part, count, chosen = int(s[0]), int(s[1]), 0
        for at in range(count):  # the one whose uniform is the part-th smallest
            before = 0
            for other in range(count):
                before += u[other] < u[at] or (u[other] == u[at] and other < at)
            if before == part:
                chosen = at
        record[DO] = s[2 + 3 * chosen]
        args[0] = between(u[count + chosen], s[3 + 3 * chosen], s[4 + 3 * chosen])
    elif code == _BLUR:
        record[DO] = Do.BLUR.value
        args[0], args[1], args[2] = s[0], s[1], between(u[0], s[2], s[3])
        if record[IN_W] <= s[0] // 2 or record[IN_H] <= s[1] // 2:
            record[DO] = Do.NOTHING.value
            return Status.BLUR_EXCEEDS_IMAGE.value
    if record[DO] == Do.SHARPNESS.value and min(record[IN_H], record[IN_W]) <= 2:
        record[DO] = Do.NOTHING.value  # all pixels are on the border, which stays as it is
    return 0


@compiled
def _resolve_policy(s, u, record):
    """Write the record of one step of a policy."""
    size = (record[IN_H], record[IN_W])
    what, magnitude = policies.draw(u, int(s[0]), int(s[3]), int(s[1]), int(s[2]), size)
    args = record[ARGS:]
    if policies.SHEAR_X <= what <= policies.ROTATE:
        middle = (0.5 * size[1], 0.5 * size[0])
        shear = math.degrees(math.atan(magnitude))
        if what == policies.SHEAR_X:
            _write_affine(record, 0.0, (0.0, 0.0, 1.0, shear, 0.0), (0.0, 0.0), s[4:8])
        elif what == policies.SHEAR_Y:
            _write_affine(record, 0.0, (0.0, 0.0, 1.0, 0.0, shear), (0.0, 0.0), s[4:8])
        elif what == policies.TRANSLATE_X:
            _write_affine(record, 0.0, (float(int(magnitude)), 0.0, 1.0, 0.0, 0.0), middle, s[4:8])
        elif what == policies.TRANSLATE_Y:
            _write_affine(record, 0.0, (0.0, float(int(magnitude)), 1.0, 0.0, 0.0), middle, s[4:8])
        else:
            _write_affine(record, -magnitude, (0.0, 0.0, 1.0, 0.0, 0.0), middle, s[4:8])
        return
    record[DO] = _POLICY_DO_GREY[what] if s[8] > 0 else _POLICY_DO[what]
    if policies.BRIGHTNESS <= what <= policies.SHARPNESS:
        args[0] = 1.0 + magnitude
    elif what == policies.POSTERIZE:
        args[0] = magnitude
    elif what == policies.SOLARIZE:
        args[0] = 255.0 * magnitude
    if what == policies.SHARPNESS and min(size[0], size[1]) <= 2:
        record[DO] = Do.NOTHING.value


@compiled
def _is_open(row, uniforms):
    """Return whether every gate before a step is open: a uniform lies in [low, high) for each."""
    for gate in range(GATES, COLUMNS, 3):
        low, high = row[gate + 1], row[gate + 2]
        if high > 0 and not low <= uniforms[int(row[gate])] < high:
            return False
    return True


@compiled
def resolve(table, uniforms, height, width, records):
    """Write the records of one sample; return its Status: what is the matter in the first step where something is.

    Args:
        table: (n, COLUMNS) from the Program.
        uniforms: (total,) float64 of the sample.
        height: Of the image as decoded, px.
        width: Of the image as decoded, px.
        records: (n, RECORD) float64, written.
    """
    status = 0
    for step in range(len(table)):
        found = 0
        code, s, u = table[step, CODE], table[step, ARGUMENTS:], uniforms[int(table[step, OFFSET]) :]
        record = records[step]
        record[:] = 0.0
        record[IN_H], record[IN_W], record[OUT_H], record[OUT_W] = height, width, height, width
        if not _is_open(table[step], uniforms):
            continue
        if code <= _RANDOM_CROP:
            found = _resolve_size(code, s, u, record)
            if makes_too_much(record, table[step, LIMIT], code not in (_RESIZE_SHORTER, _PAD)):
                found = Status.MAKES_TOO_MUCH.value
        elif code == _POLICY:
            _resolve_policy(s, u, record)
        elif code > _PERSPECTIVE:
            found = _resolve_colour(code, s, u, record)
        else:
            _resolve_motion(code, s, u, record)
        status = found if status == 0 else status
        height, width = int(record[OUT_H]), int(record[OUT_W])
    return status
