"""Boxes of one colour: in the pixels that a later step reads, or in the output itself."""

from __future__ import annotations

import numpy as np

from dalipipe.backends.kernels.views import SLACK, view_of
from dalipipe.backends.simd_levels import finished
from dalipipe.compilation import compiled
from dalipipe.recipes.primitives import DO, IN_H, IN_W, OUT_H, OUT_W, Primitive, places_of

_ERASE, _FLIP, _NOTHING = Primitive.ERASE.value, Primitive.FLIP.value, Primitive.NOTHING.value
_BOX, _MIRROR, _WINDOW = (places_of(one) for one in (Primitive.ERASE, Primitive.FLIP, Primitive.CROP_PAD))


@compiled
def _inside(first, count, begin, length):
    """Return (first, one past the last) of `count` px from `first` that lie in a stretch, from where it begins."""
    low = min(max(first - begin, 0), length)
    return low, min(max(first + count - begin, low), length)


@compiled
def erase(record, view, region):
    """Copy the region of an ERASE record with the box in it; return its view, mirrored as the one given is."""
    first_y, first_x, rows, columns = region
    top, left = first_y - view.top, first_x - view.left
    mirror_x, mirror_y, pixel = view.mirror_x, view.mirror_y, view.pixel
    top = view.height - top - rows if mirror_y else top
    left = view.width - left - columns if mirror_x else left
    low_y, high_y = _inside(int(record[_BOX.top]), int(record[_BOX.height]), first_y, rows)
    low_x, high_x = _inside(int(record[_BOX.left]), int(record[_BOX.width]), first_x, columns)
    if mirror_y:
        low_y, high_y = rows - high_y, rows - low_y
    if mirror_x:
        low_x, high_x = columns - high_x, columns - low_x
    scratch = np.empty(4 * rows * columns + SLACK, np.uint8)
    for y in range(rows):
        at, to = view.base + (top + y) * view.row + left * pixel, 4 * columns * y
        for x in range(columns):
            for channel in range(3):
                scratch[to + 4 * x + channel] = view.pixels[at + x * pixel + channel]
        if low_y <= y < high_y:
            for x in range(low_x, high_x):
                for channel in range(3):
                    scratch[to + 4 * x + channel] = np.uint8(record[_BOX.value + channel])
    return view_of(scratch, region, mirror_x, mirror_y)


@compiled
def _move(box, record):
    """Return the top and left of a box after a record that only renames coordinates."""
    top, left, height, width = box
    if record[DO] == _FLIP:
        top = int(record[IN_H]) - top - height if record[_MIRROR.down] > 0 else top
        left = int(record[IN_W]) - left - width if record[_MIRROR.across] > 0 else left
        return top, left, height, width
    if record[DO] == _NOTHING or record[DO] == _ERASE:
        return box
    # A crop: what sticks out would come back where a later flip is measured from the other edge.
    low_y, high_y = _inside(top, height, int(record[_WINDOW.top]), int(record[OUT_H]))
    low_x, high_x = _inside(left, width, int(record[_WINDOW.left]), int(record[OUT_W]))
    return low_y, low_x, high_y - low_y, high_x - low_x


@compiled
def erase_output(records, output):
    """Put into the output the boxes of records behind the last one that made pixels.

    Args:
        records: (n, RECORD) float64: boxes, and what only renames coordinates.
        output: With which a box is finished whose colour is in levels.
    """
    finish = output.finish
    for step in range(len(records)):
        record = records[step]
        if record[DO] != _ERASE:
            continue
        top, left = int(record[_BOX.top]), int(record[_BOX.left])
        box = (top, left, int(record[_BOX.height]), int(record[_BOX.width]))
        for later in range(step + 1, len(records)):
            box = _move(box, records[later])
        low_y, high_y = _inside(box[0], box[2], 0, output.height)
        low_x, high_x = _inside(box[1], box[3], 0, output.width)
        for channel in range(3):
            value = np.float32(record[_BOX.value + channel])
            if record[_BOX.finished] == 0:
                value = finished(value, finish, channel)
            for y in range(low_y, high_y):
                at = channel * output.channel_stride + y * output.row_stride
                for x in range(low_x, high_x):
                    output.values[at + x * output.column_stride] = value
