"""From uniforms and the true size of an image to whole boxes, angles and matrices; pure, compiled by Numba.

`resolve` runs the table of a `Program` (dalipipe.decisions.program) for one sample and writes one *record* a step
(`dalipipe.recipes.primitives`): what is to be done, and with which numbers. Every backend reads the same records, so
a decision is taken in one place.

Formulas are torchvision's, rounding included (Python's `round`, half to even); each function names its source.
"""

from __future__ import annotations

import math

import numpy as np

from dalipipe.compilation import compiled
from dalipipe.decisions import policies
from dalipipe.decisions.boxes import (
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
from dalipipe.decisions.status import Status
from dalipipe.recipes.layout import places
from dalipipe.recipes.ops.containers import DEPTH
from dalipipe.recipes.primitives import ARGS, DO, IN_H, IN_W, OUT_H, OUT_W, Primitive, on_grey, places_of
from dalipipe.recipes.rules import COLOURING, NUMBERS, SIZING, Rule
from dalipipe.recipes.rules import places_of as numbers_of

GATE = 3
"""Numbers of the gate of a container around a step: the place of its uniform, and the range that this must lie in."""

COLUMN = places("COLUMN", f"rule offset limit fixed numbers:{NUMBERS} gates:{GATE * DEPTH}")
"""Where the columns of a program's table begin: how a step is resolved, where its uniforms begin, the most px that it
may make and whether the recipe alone decides its size, the numbers of its rule, and the gates before it."""

COLUMNS = COLUMN.gates + GATE * DEPTH

_STEEPEST = 1e6  # greatest coefficient of a perspective: beyond it corners coincide, and the image is left as it is

_BOX, _WINDOW, _FLIP = (places_of(one) for one in (Primitive.CROP_RESIZE, Primitive.CROP_PAD, Primitive.FLIP))
_AFFINE, _ERASE, _MAP = (places_of(one) for one in (Primitive.AFFINE, Primitive.ERASE, Primitive.PERSPECTIVE))
_BLUR = places_of(Primitive.BLUR)

_RRC, _RESIZE, _CENTER = (numbers_of(one) for one in (Rule.RANDOM_RESIZED_CROP, Rule.RESIZE, Rule.CENTER_CROP))
_PAD, _CROP, _CHANCE = (numbers_of(one) for one in (Rule.PAD, Rule.RANDOM_CROP, Rule.CHANCE))
_ROTATED, _MOVED, _ERASED = (numbers_of(one) for one in (Rule.ROTATION, Rule.AFFINE, Rule.ERASING))
_BENT, _JITTER, _BLURRED = (numbers_of(one) for one in (Rule.PERSPECTIVE, Rule.JITTER, Rule.BLUR))
_POLICY = numbers_of(Rule.POLICY)

_POLICY_BECOMES = np.array(policies.BECOMES, dtype=np.float64)
_POLICY_BECOMES_GREY = np.array([on_grey(one) for one in policies.BECOMES], dtype=np.float64)


@compiled
def _resolve_size(rule, s, u, record):
    """Write the record of an op that changes the size; return its status."""
    height, width = int(record[IN_H]), int(record[IN_W])
    if rule == Rule.RANDOM_RESIZED_CROP.value:
        scale, ratio = s[_RRC.scale : _RRC.scale + 2], s[_RRC.ratio : _RRC.ratio + 2]
        top, left, box_height, box_width = random_resized_crop_box(u, height, width, scale, ratio)
        _write_box(record, (top, left, box_height, box_width), s[_RRC.antialias], s[_RRC.interpolation])
        record[OUT_H], record[OUT_W] = s[_RRC.size], s[_RRC.size + 1]
        return 0
    if rule == Rule.RESIZE.value:
        _write_box(record, (0, 0, height, width), s[_RESIZE.antialias], s[_RESIZE.interpolation])
        record[OUT_H], record[OUT_W] = s[_RESIZE.size], s[_RESIZE.size + 1]
        if s[_RESIZE.size + 1] == 0:
            size, limit = int(s[_RESIZE.size]), int(s[_RESIZE.max_size])
            record[OUT_H], record[OUT_W] = resized_size(height, width, size, limit)
        return 0
    record[DO] = Primitive.CROP_PAD.value
    if rule == Rule.PAD.value:
        left, top, right, bottom = s[_PAD.padding : _PAD.padding + 4]
        record[OUT_H], record[OUT_W] = height + top + bottom, width + left + right
        record[_WINDOW.top], record[_WINDOW.left] = -top, -left
        record[_WINDOW.fill : _WINDOW.fill + 3] = s[_PAD.fill : _PAD.fill + 3]
        return 0
    if rule == Rule.CENTER_CROP.value:
        record[OUT_H], record[OUT_W] = s[_CENTER.size], s[_CENTER.size + 1]
        corner = center_crop_corner(height, width, int(s[_CENTER.size]), int(s[_CENTER.size + 1]))
        record[_WINDOW.top], record[_WINDOW.left] = corner
        return 0
    record[OUT_H], record[OUT_W] = s[_CROP.size], s[_CROP.size + 1]
    size, padding = (int(s[_CROP.size]), int(s[_CROP.size + 1])), s[_CROP.padding : _CROP.padding + 4]
    top, left, fits = random_crop_corner(u, height, width, size, padding, s[_CROP.pad_if_needed] > 0)
    record[_WINDOW.top], record[_WINDOW.left] = top, left
    record[_WINDOW.fill : _WINDOW.fill + 3] = s[_CROP.fill : _CROP.fill + 3]
    return 0 if fits else Status.CROP_EXCEEDS_IMAGE.value


@compiled
def _write_box(record, box, antialias, interpolation):
    """Write a CROP_RESIZE record; `box` is top, left, height, width."""
    record[DO] = Primitive.CROP_RESIZE.value
    record[_BOX.top], record[_BOX.left], record[_BOX.height], record[_BOX.width] = box
    record[_BOX.antialias], record[_BOX.interpolation] = antialias, interpolation


@compiled
def _resolve_motion(rule, s, u, record):
    """Write the record of an op that keeps size and levels, and moves pixels or covers them."""
    height, width = record[IN_H], record[IN_W]
    if rule == Rule.FLIP_ACROSS.value or rule == Rule.FLIP_DOWN.value:
        if u[0] < s[0]:
            record[DO] = Primitive.FLIP.value
            record[_FLIP.across], record[_FLIP.down] = rule == Rule.FLIP_ACROSS.value, rule == Rule.FLIP_DOWN.value
    elif rule == Rule.ERASING.value:
        ranges, box = s[_ERASED.scale : _ERASED.scale + 4], record[_ERASE.top : _ERASE.top + 4]
        if u[0] < s[_ERASED.p] and erasing_box(u[1:], height, width, ranges, box):
            record[DO] = Primitive.ERASE.value
            record[_ERASE.value : _ERASE.value + 3] = s[_ERASED.value : _ERASED.value + 3]
            record[_ERASE.finished] = s[_ERASED.finished]
    elif rule == Rule.PERSPECTIVE.value:
        if u[0] < s[_BENT.p]:
            found = perspective_map(u[1:], int(height), int(width), s[_BENT.distortion_scale])
            if np.abs(found).max() < _STEEPEST:
                record[DO] = Primitive.PERSPECTIVE.value
                record[_MAP.coefficients : _MAP.coefficients + 8] = found
                record[_MAP.interpolation] = s[_BENT.interpolation]
                record[_MAP.fill : _MAP.fill + 3] = s[_BENT.fill : _BENT.fill + 3]
    elif rule == Rule.ROTATION.value:
        angle = -between(u[0], s[_ROTATED.degrees], s[_ROTATED.degrees + 1])  # counter-clockwise; affine is clockwise
        center = _center(s[_ROTATED.center], s[_ROTATED.center + 1], height, width)
        border = s[_ROTATED.interpolation : _ROTATED.interpolation + 4]
        _write_affine(record, angle, (0.0, 0.0, 1.0, 0.0, 0.0), center, border)
    else:
        angle = between(u[0], s[_MOVED.degrees], s[_MOVED.degrees + 1])
        shift_x = np.rint(between(u[1], -1.0, 1.0) * s[_MOVED.translate] * width)
        shift_y = np.rint(between(u[2], -1.0, 1.0) * s[_MOVED.translate + 1] * height)
        scale = between(u[3], s[_MOVED.scale], s[_MOVED.scale + 1])
        shear_x = between(u[4], s[_MOVED.shear], s[_MOVED.shear + 1])
        shear_y = between(u[5], s[_MOVED.shear + 2], s[_MOVED.shear + 3])
        center = _center(s[_MOVED.center], s[_MOVED.center + 1], height, width)
        border = s[_MOVED.interpolation : _MOVED.interpolation + 4]
        _write_affine(record, angle, (shift_x, shift_y, scale, shear_x, shear_y), center, border)


@compiled
def _center(x, y, height, width):
    """Return a centre in px; the middle of the image where it isn't given."""
    return (width * 0.5, height * 0.5) if math.isnan(x) else (x, y)


@compiled
def _write_affine(record, angle, rest, center, border):
    """Write an AFFINE record; `rest` is shift x, y, scale, shear x, y, `border` interpolation and fill."""
    record[DO] = Primitive.AFFINE.value
    shift_x, shift_y, scale, shear_x, shear_y = rest
    matrix = affine_matrix(angle, (shift_x, shift_y), scale, (shear_x, shear_y), center)
    for entry in range(6):
        record[_AFFINE.matrix + entry] = matrix[entry]
    record[_AFFINE.interpolation] = border[0]
    record[_AFFINE.fill : _AFFINE.fill + 3] = border[1:4]
    record[_AFFINE.angle], record[_AFFINE.scale] = angle, scale
    record[_AFFINE.shift], record[_AFFINE.shift + 1] = shift_x, shift_y
    record[_AFFINE.shear], record[_AFFINE.shear + 1] = shear_x, shear_y
    record[_AFFINE.center], record[_AFFINE.center + 1] = center


@compiled
def _resolve_colour(rule, s, u, record):
    """Write the record of an op that changes levels; return its status."""
    if rule == Rule.ALWAYS.value:
        record[DO] = s[0]
    elif rule == Rule.CHANCE.value:
        if u[0] < s[_CHANCE.p]:
            record[DO] = s[_CHANCE.primitive]
            low, high = s[_CHANCE.low], s[_CHANCE.high]
            record[ARGS] = between(u[1], low, high) if low < high else low
    elif rule == Rule.JITTER.value:
        part, count, chosen = int(s[_JITTER.part]), int(s[_JITTER.count]), 0
        for at in range(count):  # the one whose uniform is the part-th smallest
            before = 0
            for other in range(count):
                before += u[other] < u[at] or (u[other] == u[at] and other < at)
            if before == part:
                chosen = at
        band = _JITTER.bands + 3 * chosen
        record[DO], record[ARGS] = s[band], between(u[count + chosen], s[band + 1], s[band + 2])
    elif rule == Rule.BLUR.value:
        across, down = s[_BLURRED.kernel_size], s[_BLURRED.kernel_size + 1]
        if record[IN_W] <= across // 2 or record[IN_H] <= down // 2:
            return Status.BLUR_EXCEEDS_IMAGE.value
        record[DO] = Primitive.BLUR.value
        record[_BLUR.across], record[_BLUR.down] = across, down
        record[_BLUR.sigma] = between(u[0], s[_BLURRED.sigma], s[_BLURRED.sigma + 1])
    _leave_small(record)
    return 0


@compiled
def _leave_small(record):
    """Do nothing instead of sharpening where all pixels are on the border, which stays as it is."""
    if record[DO] == Primitive.SHARPNESS.value and min(record[IN_H], record[IN_W]) <= 2:
        record[DO] = Primitive.NOTHING.value


@compiled
def _resolve_policy(s, u, record):
    """Write the record of one step of a policy."""
    size = (record[IN_H], record[IN_W])
    policy, part = int(s[_POLICY.policy]), int(s[_POLICY.part])
    what, magnitude = policies.draw(u, policy, part, int(s[_POLICY.bins]), int(s[_POLICY.magnitude]), size)
    becomes = _POLICY_BECOMES_GREY[what] if s[_POLICY.grey] > 0 else _POLICY_BECOMES[what]
    if becomes == Primitive.AFFINE.value:
        middle, border = (0.5 * size[1], 0.5 * size[0]), s[_POLICY.interpolation : _POLICY.interpolation + 4]
        shear = math.degrees(math.atan(magnitude))
        if what == policies.SHEAR_X:
            _write_affine(record, 0.0, (0.0, 0.0, 1.0, shear, 0.0), (0.0, 0.0), border)
        elif what == policies.SHEAR_Y:
            _write_affine(record, 0.0, (0.0, 0.0, 1.0, 0.0, shear), (0.0, 0.0), border)
        elif what == policies.TRANSLATE_X:
            _write_affine(record, 0.0, (float(int(magnitude)), 0.0, 1.0, 0.0, 0.0), middle, border)
        elif what == policies.TRANSLATE_Y:
            _write_affine(record, 0.0, (0.0, float(int(magnitude)), 1.0, 0.0, 0.0), middle, border)
        else:
            _write_affine(record, -magnitude, (0.0, 0.0, 1.0, 0.0, 0.0), middle, border)
        return
    record[DO] = becomes
    if what in policies.FACTORS:
        record[ARGS] = 1.0 + magnitude
    elif what == policies.POSTERIZE:
        record[ARGS] = magnitude
    elif what == policies.SOLARIZE:
        record[ARGS] = 255.0 * magnitude
    _leave_small(record)


@compiled
def _is_open(row, uniforms):
    """Return whether every gate before a step is open: a uniform lies in [low, high) for each."""
    for gate in range(COLUMN.gates, COLUMNS, GATE):
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
        found, row, record = 0, table[step], records[step]
        rule, s, u = int(row[COLUMN.rule]), row[COLUMN.numbers : COLUMN.gates], uniforms[int(row[COLUMN.offset]) :]
        record[:] = 0.0
        record[IN_H], record[IN_W], record[OUT_H], record[OUT_W] = height, width, height, width
        if not _is_open(row, uniforms):
            continue
        if rule in SIZING:
            found = _resolve_size(rule, s, u, record)
            if makes_too_much(record, row[COLUMN.limit], row[COLUMN.fixed] > 0):
                found = Status.MAKES_TOO_MUCH.value
        elif rule in COLOURING:
            found = _resolve_colour(rule, s, u, record)
        elif rule == Rule.POLICY.value:
            _resolve_policy(s, u, record)
        else:
            _resolve_motion(rule, s, u, record)
        status = found if status == 0 else status
        height, width = int(record[OUT_H]), int(record[OUT_W])
    return status
