"""From uniforms and the true size of an image to whole boxes, angles and matrices; pure, compiled by Numba.

`resolve` runs the table of a `Program` (dalipipe.decisions.program) for one sample and writes one *record* a step
(`dalipipe.decisions.records`): what is to be done, and with which numbers. Every backend reads the same records, so a
decision is taken in one place.

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
from dalipipe.decisions.records import ARGS, DO, IN_H, IN_W, OUT_H, OUT_W, Do, Status
from dalipipe.recipes.ops.containers import DEPTH

STATICS = 20
CODE, OFFSET, LIMIT, ARGUMENTS = 0, 1, 2, 3
GATES = ARGUMENTS + STATICS  # for each container around a step: place of its uniform, and the range it must lie in
COLUMNS = GATES + 3 * DEPTH


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

# How a step is resolved. Those up to RANDOM_CROP change the size.
RANDOM_RESIZED_CROP, RESIZE_SHORTER, RESIZE_FIXED, CENTER_CROP, PAD, RANDOM_CROP = range(1, 7)
FLIP_X, FLIP_Y, ROTATION, AFFINE, ERASING, PERSPECTIVE = range(7, 13)  # keep size and levels
ALWAYS, CHANCE, JITTER, BLUR, POLICY = range(13, 18)


@compiled
def _resolve_size(code, s, u, record):
    """Write the record of an op that changes the size; return its status."""
    height, width, args = int(record[IN_H]), int(record[IN_W]), record[ARGS:]
    if code in (RANDOM_RESIZED_CROP, RESIZE_FIXED, RESIZE_SHORTER):
        record[DO] = Do.CROP_RESIZE.value
        args[0], args[1], args[2], args[3], args[4] = 0, 0, height, width, s[2]
        record[OUT_H], record[OUT_W] = s[0], s[1]
        if code == RANDOM_RESIZED_CROP:
            args[0], args[1], args[2], args[3] = random_resized_crop_box(u, height, width, s[2:4], s[4:6])
            args[4] = s[6]
        elif code == RESIZE_SHORTER:
            record[OUT_H], record[OUT_W] = resized_size(height, width, int(s[0]), int(s[1]))
        return 0
    record[DO] = Do.CROP_PAD.value
    if code == PAD:
        record[OUT_H], record[OUT_W] = height + s[1] + s[3], width + s[0] + s[2]
        args[0], args[1], args[2], args[3], args[4] = -s[1], -s[0], s[4], s[5], s[6]
        return 0
    record[OUT_H], record[OUT_W] = s[0], s[1]
    if code == CENTER_CROP:
        args[0], args[1] = center_crop_corner(height, width, int(s[0]), int(s[1]))
        return 0
    top, left, fits = random_crop_corner(u, height, width, (int(s[0]), int(s[1])), s[2:6], s[6] > 0)
    args[0], args[1], args[2], args[3], args[4] = top, left, s[7], s[8], s[9]
    return 0 if fits else Status.CROP_EXCEEDS_IMAGE.value


@compiled
def _resolve_motion(code, s, u, record):
    """Write the record of an op that keeps the size."""
    height, width, args = record[IN_H], record[IN_W], record[ARGS:]
    if code in (FLIP_X, FLIP_Y):
        if u[0] < s[0]:
            record[DO] = Do.FLIP.value
            args[0], args[1] = code == FLIP_X, code == FLIP_Y
        return
    if code == ERASING:
        if u[0] < s[0] and erasing_box(u[1:], record[IN_H], record[IN_W], s[1:5], args):
            record[DO] = Do.ERASE.value
            args[4:8] = s[5:9]
        return
    if code == PERSPECTIVE:
        if u[0] < s[0]:
            found = perspective_map(u[1:], int(height), int(width), s[1])
            if np.abs(found).max() < _STEEPEST:
                record[DO] = Do.PERSPECTIVE.value
                args[:8] = found
                args[8:12] = s[2:6]
        return
    angle, shift_x, shift_y, scale, shear_x, shear_y = between(u[0], s[0], s[1]), 0.0, 0.0, 1.0, 0.0, 0.0
    if code == ROTATION:
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
    if code == ALWAYS:
        record[DO] = s[0]
    elif code == CHANCE:
        if u[0] < s[1]:
            record[DO] = s[0]
            args[0] = s[2]
    elif code == JITTER:
        part, count, chosen = int(s[0]), int(s[1]), 0
        for at in range(count):  # the one whose uniform is the part-th smallest
            before = 0
            for other in range(count):
                before += u[other] < u[at] or (u[other] == u[at] and other < at)
            if before == part:
                chosen = at
        record[DO] = s[2 + 3 * chosen]
        args[0] = between(u[count + chosen], s[3 + 3 * chosen], s[4 + 3 * chosen])
    elif code == BLUR:
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
        if code <= RANDOM_CROP:
            found = _resolve_size(code, s, u, record)
            if makes_too_much(record, table[step, LIMIT], code not in (RESIZE_SHORTER, PAD)):
                found = Status.MAKES_TOO_MUCH.value
        elif code == POLICY:
            _resolve_policy(s, u, record)
        elif code > PERSPECTIVE:
            found = _resolve_colour(code, s, u, record)
        else:
            _resolve_motion(code, s, u, record)
        status = found if status == 0 else status
        height, width = int(record[OUT_H]), int(record[OUT_W])
    return status
