"""Boxes of one colour: in the pixels that a later step reads, or in the output itself."""

from __future__ import annotations

import numpy as np

from dalipipe.backends.kernels.views import (
    BASE,
    CHANNEL_STRIDE,
    COLUMN_STRIDE,
    HEIGHT,
    LEFT,
    MIRROR_X,
    MIRROR_Y,
    OUT_HEIGHT,
    OUT_WIDTH,
    PIXEL,
    ROW,
    ROW_STRIDE,
    SLACK,
    TOP,
    WIDTH,
    view_of,
)
from dalipipe.compilation import compiled
from dalipipe.recipes.primitives import ARGS, DO, IN_H, IN_W, OUT_H, OUT_W, Primitive

_ERASE, _FLIP, _NOTHING = Primitive.ERASE.value, Primitive.FLIP.value, Primitive.NOTHING.value


@compiled
def _inside(first, count, begin, length):
    """Return (first, one past the last) of `count` px from `first` that lie in a stretch, from where it begins."""
    low = min(max(first - begin, 0), length)
    return low, min(max(first + count - begin, low), length)


@compiled
def erase(record, view, pixels, region):
    """Copy the region of an ERASE record with the box in it; return its view and pixels, which lie as those given."""
    first_y, first_x, rows, columns = region
    top, left = first_y - view[TOP], first_x - view[LEFT]
    mirror_x, mirror_y, pixel = view[MIRROR_X], view[MIRROR_Y], view[PIXEL]
    top = view[HEIGHT] - top - rows if mirror_y else top
    left = view[WIDTH] - left - columns if mirror_x else left
    low_y, high_y = _inside(int(record[ARGS]), int(record[ARGS + 2]), first_y, rows)
    low_x, high_x = _inside(int(record[ARGS + 1]), int(record[ARGS + 3]), first_x, columns)
    if mirror_y:
        low_y, high_y = rows - high_y, rows - low_y
    if mirror_x:
        low_x, high_x = columns - high_x, columns - low_x
    scratch = np.empty(4 * rows * columns + SLACK, np.uint8)
    for y in range(rows):
        at, to = view[BASE] + (top + y) * view[ROW] + left * pixel, 4 * columns * y
        for x in range(columns):
            for channel in range(3):
                scratch[to + 4 * x + channel] = pixels[at + x * pixel + channel]
        if low_y <= y < high_y:
            for x in range(low_x, high_x):
                for channel in range(3):
                    scratch[to + 4 * x + channel] = np.uint8(record[ARGS + 4 + channel])
    return view_of(region, mirror_x, mirror_y), scratch


@compiled
def _move(box, record):
    """Return the top and left of a box after a record that only renames coordinates."""
    top, left, height, width = box
    args = record[ARGS:]
    if record[DO] == _FLIP:
        top = int(record[IN_H]) - top - height if args[1] > 0 else top
        left = int(record[IN_W]) - left - width if args[0] > 0 else left
        return top, left, height, width
    if record[DO] == _NOTHING or record[DO] == _ERASE:
        return box
    # A crop: what sticks out would come back where a later flip is measured from the other edge.
    low_y, high_y = _inside(top, height, int(args[0]), int(record[OUT_H]))
    low_x, high_x = _inside(left, width, int(args[1]), int(record[OUT_W]))
    return low_y, low_x, high_y - low_y, high_x - low_x


@compiled
def erase_output(records, finish, out, plan):
    """Put into the output the boxes of records behind the last one that made pixels.

    Args:
        records: (n, RECORD) float64: boxes, and what only renames coordinates.
        finish: (6,) float32: scale and shift of each channel, for boxes whose colour is a level.
        out: The whole output, flat.
        plan: Strides and size.
    """
    for step in range(len(records)):
        record = records[step]
        if record[DO] != _ERASE:
            continue
        box = (int(record[ARGS]), int(record[ARGS + 1]), int(record[ARGS + 2]), int(record[ARGS + 3]))
        for later in range(step + 1, len(records)):
            box = _move(box, records[later])
        low_y, high_y = _inside(box[0], box[2], 0, plan[OUT_HEIGHT])
        low_x, high_x = _inside(box[1], box[3], 0, plan[OUT_WIDTH])
        for channel in range(3):
            value = np.float32(record[ARGS + 4 + channel])
            if record[ARGS + 7] == 0:
                value = value * finish[channel] + finish[3 + channel]
            for y in range(low_y, high_y):
                at = channel * plan[CHANNEL_STRIDE] + y * plan[ROW_STRIDE]
                for x in range(low_x, high_x):
                    out[at + x * plan[COLUMN_STRIDE]] = value
