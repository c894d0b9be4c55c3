"""Uniforms and the size of an image become boxes, corners and matrices; pure, compiled by Numba.

Formulas are torchvision's, rounding included (Python's `round`, half to even); each function names its source.
"""

from __future__ import annotations

import math

import numpy as np

from dalipipe.compilation import compiled
from dalipipe.recipes.ops.sizing import ATTEMPTS, shorter_side_size
from dalipipe.recipes.primitives import DO, OUT_H, OUT_W, Primitive, places_of

resized_size = compiled(shorter_side_size)

_BOX = places_of(Primitive.CROP_RESIZE)
_WINDOW = places_of(Primitive.CROP_PAD)


@compiled
def makes_too_much(record, limit, fixed):
    """Return whether a step that changes the size makes more px than a limit; then its record becomes harmless.

    So it is for the backends that run it all the same.

    Args:
        record: (RECORD,) float64 of a CROP_RESIZE or CROP_PAD. A resize makes an image between its two passes too,
            whichever comes first.
        limit: px.
        fixed: Whether the recipe itself names the size that comes out, which doesn't count.
    """
    out_px = record[OUT_H] * record[OUT_W]
    resizes = record[DO] == Primitive.CROP_RESIZE.value
    made = 0.0 if fixed else out_px
    if resizes:
        between = max(record[_BOX.height] * record[OUT_W], record[OUT_H] * record[_BOX.width])
        made = max(made, between if between > out_px else 0.0)
    if made <= limit:
        return False
    if resizes:
        record[_BOX.top], record[_BOX.left], record[_BOX.height], record[_BOX.width] = 0, 0, 1, 1
    else:
        record[_WINDOW.top], record[_WINDOW.left] = 0, 0
    if not fixed:
        record[OUT_H], record[OUT_W] = 1, 1
    return True


@compiled
def random_resized_crop_box(u, height, width, scale, ratio):
    """Return (top, left, height, width) in px of a random box.

    Args:
        u: 22 uniforms: ten areas, ten ratios, top, left.
        height: Of the image, px.
        width: Of the image, px.
        scale: (low, high) fraction of the image's area.
        ratio: (low, high) width / height.

    Source: torchvision.transforms.v2.RandomResizedCrop.make_params; its fallback may round to a box of 0 px, this one
    never does.
    """
    area = height * width
    log_low, log_high = math.log(ratio[0]), math.log(ratio[1])
    for attempt in range(ATTEMPTS):
        target = area * (scale[0] + u[attempt] * (scale[1] - scale[0]))
        aspect = math.exp(log_low + u[ATTEMPTS + attempt] * (log_high - log_low))
        w = int(np.rint(math.sqrt(target * aspect)))
        h = int(np.rint(math.sqrt(target / aspect)))
        if 0 < w <= width and 0 < h <= height:
            top = int(u[2 * ATTEMPTS] * (height - h + 1))
            left = int(u[2 * ATTEMPTS + 1] * (width - w + 1))
            return top, left, h, w
    in_ratio = width / height
    w, h = width, height
    if in_ratio < ratio[0]:
        h = max(1, int(np.rint(w / ratio[0])))
    elif in_ratio > ratio[1]:
        w = max(1, int(np.rint(h * ratio[1])))
    return (height - h) // 2, (width - w) // 2, h, w


@compiled
def center_crop_corner(height, width, crop_height, crop_width):
    """Return (top, left) in px of the central window, negative where it exceeds the image.

    Source: torchvision.transforms.v2.functional.center_crop: padding first, then int(round(margin / 2)).
    """
    pad_top = (crop_height - height) // 2 if crop_height > height else 0
    pad_left = (crop_width - width) // 2 if crop_width > width else 0
    padded_height, padded_width = max(height, crop_height), max(width, crop_width)
    top = int(np.rint((padded_height - crop_height) / 2.0))
    left = int(np.rint((padded_width - crop_width) / 2.0))
    return top - pad_top, left - pad_left


@compiled
def random_crop_corner(u, height, width, crop, padding, pad_if_needed):
    """Return (top, left, fits) of a random window; the corner in px of the image before padding.

    Args:
        u: 2 uniforms: top, left.
        height: Of the image, px.
        width: Of the image, px.
        crop: (height, width) of the window, px.
        padding: (left, top, right, bottom), px.
        pad_if_needed: Pad on both sides where the padded image is smaller than the window.

    Source: torchvision.transforms.v2.RandomCrop.make_params.
    """
    left, top, right, bottom = int(padding[0]), int(padding[1]), int(padding[2]), int(padding[3])
    padded_height, padded_width = height + top + bottom, width + left + right
    if pad_if_needed:
        more_h, more_w = max(0, crop[0] - padded_height), max(0, crop[1] - padded_width)
        top, left = top + more_h, left + more_w
        padded_height, padded_width = padded_height + 2 * more_h, padded_width + 2 * more_w
    if padded_height < crop[0] or padded_width < crop[1]:
        return 0, 0, False
    y = int(u[0] * (padded_height - crop[0] + 1))
    x = int(u[1] * (padded_width - crop[1] + 1))
    return y - top, x - left, True


@compiled
def erasing_box(u, height, width, s, box):
    """Write (top, left, height, width) of a random box smaller than the image; return whether there is one.

    Args:
        u: 22 uniforms: ten areas, ten ratios, top, left.
        height: Of the image, px.
        width: Of the image, px.
        s: (low, high) fraction of the image's area, (low, high) height / width.
        box: (4 or more,) float64, written.

    Source: torchvision.transforms.v2.RandomErasing.make_params.
    """
    for attempt in range(ATTEMPTS):
        area = height * width * between(u[attempt], s[0], s[1])
        aspect = math.exp(between(u[ATTEMPTS + attempt], math.log(s[2]), math.log(s[3])))
        h, w = np.rint(math.sqrt(area * aspect)), np.rint(math.sqrt(area / aspect))
        if h < height and w < width:
            box[0], box[1] = int(u[2 * ATTEMPTS] * (height - h + 1)), int(u[2 * ATTEMPTS + 1] * (width - w + 1))
            box[2], box[3] = h, w
            return True
    return False


@compiled
def affine_matrix(angle_deg, translate_px, scale, shear_deg, center_px):
    """Return the six entries of the map from output to input coordinates.

    Args:
        angle_deg: Clockwise rotation.
        translate_px: (x, y) shift.
        scale: Factor, > 0.
        shear_deg: (x, y) shear angles.
        center_px: (x, y) of the fixed point, in the coordinates of the image.

    Source: torchvision.transforms.v2.functional._geometry._get_inverse_affine_matrix.
    """
    rot, sx, sy = math.radians(angle_deg), math.radians(shear_deg[0]), math.radians(shear_deg[1])
    tan_sx = math.tan(sx)
    a = math.cos(rot - sy) / math.cos(sy)
    b = -(a * tan_sx + math.sin(rot))
    c = math.sin(rot - sy) / math.cos(sy)
    d = math.cos(rot) - c * tan_sx
    m0, m1, m3, m4 = d / scale, -b / scale, -c / scale, a / scale
    x, y = center_px[0] + translate_px[0], center_px[1] + translate_px[1]
    return m0, m1, center_px[0] - m0 * x - m1 * y, m3, m4, center_px[1] - m3 * x - m4 * y


@compiled
def _solved(rows):
    """Return the solution of n linear equations, (n, n + 1) float64, whose last column is the right side."""
    count = len(rows)
    for column in range(count):
        pivot = column
        for row in range(column + 1, count):
            if abs(rows[row, column]) > abs(rows[pivot, column]):
                pivot = row
        for at in range(count + 1):
            rows[column, at], rows[pivot, at] = rows[pivot, at], rows[column, at]
        rows[column] /= rows[column, column]
        for row in range(count):
            if row != column:
                rows[row] -= rows[row, column] * rows[column]
    return rows[:, count].copy()


@compiled
def perspective_map(u, height, width, distortion):
    """Return the coefficients (8,) of the map from output to input that moves the corners inwards.

    Args:
        u: 8 uniforms: x and y of the corners, from the upper left one clockwise.
        height: Of the image, px.
        width: Of the image, px.
        distortion: How far a corner may move, as a fraction of half the image.

    Source: torchvision.transforms.v2.RandomPerspective.make_params and functional._get_perspective_coeffs.
    """
    reach_x, reach_y = int(distortion * (width // 2)) + 1, int(distortion * (height // 2)) + 1
    rows = np.zeros((8, 9))
    for corner in range(4):
        right, lower = corner in (1, 2), corner >= 2
        x = float(int(u[2 * corner] * reach_x) + (width - reach_x if right else 0))
        y = float(int(u[2 * corner + 1] * reach_y) + (height - reach_y if lower else 0))
        from_x, from_y = float(width - 1 if right else 0), float(height - 1 if lower else 0)
        first, second = rows[2 * corner], rows[2 * corner + 1]
        first[0], first[1], first[2], first[6], first[7], first[8] = x, y, 1.0, -from_x * x, -from_x * y, from_x
        second[3], second[4], second[5], second[6], second[7], second[8] = x, y, 1.0, -from_y * x, -from_y * y, from_y
    return _solved(rows).astype(np.float32)


@compiled
def between(u, low, high):
    """Return a number from low to high for a uniform one."""
    return low + u * (high - low)
