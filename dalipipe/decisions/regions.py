"""Which pixels of an image a sample's steps look at, so that nothing else is decoded or computed; compiled by Numba."""

from __future__ import annotations

import math

import numpy as np

from dalipipe.compilation import compiled
from dalipipe.recipes.primitives import (
    BICUBIC,
    BILINEAR,
    DO,
    IN_H,
    IN_W,
    NEAREST,
    NEAREST_EXACT,
    OUT_H,
    OUT_W,
    Primitive,
    Reach,
    having,
    places_of,
)

_BOX, _WINDOW, _FLIP = (places_of(one) for one in (Primitive.CROP_RESIZE, Primitive.CROP_PAD, Primitive.FLIP))
_AFFINE, _BLUR = places_of(Primitive.AFFINE), places_of(Primitive.BLUR)
_WHOLE, _MAPS, _NEIGHBOURS = having(Reach.WHOLE), having(Reach.MAP), having(Reach.NEIGHBOURHOOD)


@compiled
def axis_support(index, box, out_size, antialias, interpolation):
    """Return (first, one past the last) input px that output px `index` of a resize depends on, along one axis.

    Source: torch's _compute_indices_min_size_weights_aa, which is Pillow's precompute_coeffs, and without antialias
    _compute_indices_min_size_weights, in float64; for nearest HelperInterpNearest and HelperInterpNearestExact, in
    float32, whose product and difference are rounded once.
    """
    if box == out_size:
        return index, index + 1  # a resize to the same size makes no pixels, and so must not reach beyond
    if interpolation in (NEAREST, NEAREST_EXACT):
        ratio = np.float32(box) / np.float32(out_size)
        place = np.float32(index) * ratio
        if interpolation == NEAREST_EXACT:
            between = np.float32(np.float64(ratio) * (index + 0.5) - 0.5)
            place = max(between, np.float32(0.0)) + np.float32(0.5)
        at = min(int(place), int(box) - 1)
        return at, at + 1
    scale = box / out_size
    if interpolation == BILINEAR and not antialias:
        low = min(int(max(scale * (index + 0.5) - 0.5, 0.0)), int(box) - 1)
        return low, min(low + 2, int(box))
    reach = (2.0 if interpolation == BICUBIC else 1.0) * (max(scale, 1.0) if antialias else 1.0)
    center = scale * (index + 0.5)
    return max(int(center - reach + 0.5), 0), min(int(center + reach + 0.5), box)


@compiled
def _axis_region(first, count, sizes, antialias, interpolation):
    """Return (first, one past the last) input px that `count` output px from `first` on depend on, along one axis.

    `sizes` is the length of the axis before and after.
    """
    box, out_size = sizes
    low = axis_support(first, box, out_size, antialias, interpolation)[0]
    return int(low), int(axis_support(first + count - 1, box, out_size, antialias, interpolation)[1])


@compiled
def _clip(first, last, size):
    """Return (first, count) of the px from first to last that lie in an axis, and one px of it where none do."""
    first, last = min(max(first, 0), size - 1), min(max(last, 0), size - 1)
    return first, last - first + 1


@compiled
def _affine_reach(row, first_x, first_y, height, width):
    """Return the least and the greatest coordinate of one axis that a region looks at, with a px to spare."""
    low, high = np.inf, -np.inf
    for y in (first_y + 0.5, first_y + height - 0.5):
        for x in (first_x + 0.5, first_x + width - 0.5):
            at = row[0] * x + row[1] * y + row[2] - 0.5
            low, high = min(low, at), max(high, at)
    return math.floor(low) - 1, math.floor(high) + 2


@compiled
def _set_region(region, top, left, height, width):
    region[0], region[1], region[2], region[3] = top, left, height, width


@compiled
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
        do, in_h, in_w = int(record[DO]), int(record[IN_H]), int(record[IN_W])
        if do == Primitive.FLIP.value:
            left = in_w - left - width if record[_FLIP.across] > 0 else left
            top = in_h - top - height if record[_FLIP.down] > 0 else top
        elif do == Primitive.CROP_PAD.value:
            y, x = top + int(record[_WINDOW.top]), left + int(record[_WINDOW.left])
            top, height = _clip(y, y + height - 1, in_h)
            left, width = _clip(x, x + width - 1, in_w)
        elif do == Primitive.CROP_RESIZE.value:
            smooth, method = record[_BOX.antialias] > 0, record[_BOX.interpolation]
            low_y, high_y = _axis_region(top, height, (record[_BOX.height], int(record[OUT_H])), smooth, method)
            low_x, high_x = _axis_region(left, width, (record[_BOX.width], int(record[OUT_W])), smooth, method)
            top, height = int(record[_BOX.top]) + low_y, high_y - low_y
            left, width = int(record[_BOX.left]) + low_x, high_x - low_x
        elif do in _MAPS:
            row_y, row_x = record[_AFFINE.matrix + 3 : _AFFINE.matrix + 6], record[_AFFINE.matrix : _AFFINE.matrix + 3]
            low_y, high_y = _affine_reach(row_y, left, top, height, width)
            low_x, high_x = _affine_reach(row_x, left, top, height, width)
            top, height = _clip(low_y, high_y, in_h)
            left, width = _clip(low_x, high_x, in_w)
        elif do in _WHOLE:
            top, left, height, width = 0, 0, in_h, in_w
        elif do in _NEIGHBOURS:
            # What is mirrored at a border lies inside what the taps reach from there.
            blurs = do == Primitive.BLUR.value
            reach_y = int(record[_BLUR.down]) // 2 if blurs else 1
            reach_x = int(record[_BLUR.across]) // 2 if blurs else 1
            top, height = _clip(top - reach_y, top + height - 1 + reach_y, in_h)
            left, width = _clip(left - reach_x, left + width - 1 + reach_x, in_w)
        _set_region(needed[step], top, left, height, width)
