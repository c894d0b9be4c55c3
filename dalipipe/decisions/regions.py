"""Which pixels of an image a sample's steps look at, so that nothing else is decoded or computed; compiled by Numba."""

from __future__ import annotations

import math

import numpy as np

from dalipipe.compilation import compiled
from dalipipe.decisions.records import ARGS, DO, IN_H, IN_W, OUT_H, OUT_W, Do

# What takes the whole image into account, or a part of it that isn't known beforehand.
_WHOLE = (
    Do.CONTRAST.value,
    Do.CONTRAST_GREY.value,
    Do.AUTOCONTRAST.value,
    Do.EQUALIZE.value,
    Do.PERSPECTIVE.value,
)


@compiled
def axis_support(index, box, out_size, antialias):
    """Return (first, one past the last) input px that output px `index` of a resize depends on, along one axis.

    Source: Pillow's precompute_coeffs with the triangle filter, which torch's antialiased interpolate follows.
    """
    if box == out_size:
        return index, index + 1  # a resize to the same size makes no pixels, and so must not reach beyond
    scale = box / out_size
    stretch = max(scale, 1.0) if antialias else 1.0
    center = scale * (index + 0.5)
    return max(int(center - stretch + 0.5), 0), min(int(center + stretch + 0.5), box)


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
        elif record[DO] in (
            Do.CONTRAST.value,
            Do.CONTRAST_GREY.value,
            Do.AUTOCONTRAST.value,
            Do.EQUALIZE.value,
            Do.PERSPECTIVE.value,
        ):
            top, left, height, width = 0, 0, in_h, in_w
        elif record[DO] == Do.SHARPNESS.value or record[DO] == Do.BLUR.value:
            # What is mirrored at a border lies inside what the taps reach from there.
            blurs = record[DO] == Do.BLUR.value
            reach_y, reach_x = (int(args[1]) // 2, int(args[0]) // 2) if blurs else (1, 1)
            top, height = _clip(top - reach_y, top + height - 1 + reach_y, in_h)
            left, width = _clip(left - reach_x, left + width - 1 + reach_x, in_w)
        _set_region(needed[step], top, left, height, width)
