"""Resizing with whole numbers, as torch does it: across first, to whole levels, then down."""

from __future__ import annotations

from typing import Any, NamedTuple

import numpy as np

from dalipipe.backends.kernels.taps import Axis, taps_of
from dalipipe.backends.kernels.views import SLACK, canvas, emit, view_of
from dalipipe.backends.simd_levels import (
    add_first8,
    add_second8,
    copy_bytes,
    half8,
    put_pixels16,
    put_row16,
    weave_fours,
    weave_threes,
)
from dalipipe.compilation import compiled
from dalipipe.recipes.primitives import OUT_H, OUT_W, Primitive, places_of

_BOX = places_of(Primitive.CROP_RESIZE)


class _Lines(NamedTuple):
    """The lines of the box that its rows are made of.

    Attributes:
        numbers: (count,) int64: which, in px from the box's edge.
        places: (rows,) int64: where among those the lines of a row begin.
    """

    numbers: Any
    places: Any


@compiled
def _lines_of(down):
    """Return the lines that the taps of an axis need, each once."""
    starts, counts = down.starts, down.counts
    numbers, places = np.empty(starts[-1] + counts[-1] - starts[0], np.int64), np.empty(len(starts), np.int64)
    used, free = 0, starts[0]
    for y in range(len(starts)):
        free = max(free, starts[y])
        for line in range(free, starts[y] + counts[y]):
            numbers[used] = line
            used += 1
        free = max(free, starts[y] + counts[y])
        places[y] = used - (free - starts[y])
    return _Lines(numbers[:used], places)


@compiled
def _weave(woven, pixels, places, pixel, count):
    """Write `count` pixels of four lines that begin at `places`, those of a column side by side, four bytes each."""
    a, b, c, d = places
    done = count - count % 4
    for x in range(0, done, 4):
        at = x * pixel
        if pixel == 4:
            weave_fours(woven, 16 * x, pixels, a + at, b + at, c + at, d + at)
        else:
            weave_threes(woven, 16 * x, pixels, a + at, b + at, c + at, d + at)
    for x in range(done, count):
        for line in range(4):
            copy_bytes(woven, 16 * x + 4 * line, pixels, places[line] + x * pixel, 3)


@compiled
def _blend_across(made, to, size, mirror, woven, across, used):
    """Write four lines of pixels, `size` bytes apart, each the weighted sum of `used` neighbours of four woven lines.

    `mirror` writes from right to left.
    """
    starts, weights, room, bits = across.starts, across.weights, across.room, across.bits
    count, low, w = len(starts), starts[0], 0
    at, step = (to + 4 * (count - 1), -4) if mirror else (to, 4)
    half = half8(bits)
    for x in range(count):
        begin = 16 * (starts[x] - low)
        first = add_first8(half, woven, begin, begin + 16, weights, w)
        second = add_second8(half, woven, begin, begin + 16, weights, w)
        for tap in range(2, used, 2):
            begin += 32
            first = add_first8(first, woven, begin, begin + 16, weights, w + tap)
            second = add_second8(second, woven, begin, begin + 16, weights, w + tap)
        put_pixels16(made, at, size, first, second, bits)
        at += step
        w += room


@compiled
def _blend_down(row, lines, begin, size, down, y):
    """Write a row of levels, each the weighted sum of those above each other in the lines from `begin` on."""
    weights, bits, used, w = down.weights, down.bits, down.counts[y], y * down.room
    half = half8(bits)
    for x in range(0, size, 16):
        at = begin + x
        first = add_first8(half, lines, at, at + size, weights, w)
        second = add_second8(half, lines, at, at + size, weights, w)
        for tap in range(2, used, 2):
            at += 2 * size
            first = add_first8(first, lines, at, at + size, weights, w + tap)
            second = add_second8(second, lines, at, at + size, weights, w + tap)
        put_row16(row, x, first, second, bits)


@compiled
def resize(record, view, region, output):
    """Resize the box of a CROP_RESIZE record; return the view of the region.

    A mirrored view stays mirrored: the box and the region are mirrored instead.
    """
    box_top, box_left = int(record[_BOX.top]), int(record[_BOX.left])
    box_h, box_w = int(record[_BOX.height]), int(record[_BOX.width])
    antialias, method = record[_BOX.antialias] > 0, record[_BOX.interpolation]
    out_h, out_w = int(record[OUT_H]), int(record[OUT_W])
    first_y, first_x, rows, columns = region
    y0, x0 = box_top - view.top, box_left - view.left
    if view.mirror_y:
        y0, first_y = view.height - y0 - box_h, out_h - first_y - rows
    if view.mirror_x:
        x0, first_x = view.width - x0 - box_w, out_w - first_x - columns
    down = taps_of(Axis(box_h, out_h, antialias, method, view.mirror_y), first_y, rows)
    across = taps_of(Axis(box_w, out_w, antialias, method, view.mirror_x), first_x, columns)
    lines, low_x, used = _lines_of(down), across.starts[0], across.counts.max()
    span = across.starts[-1] + across.counts[-1] - low_x
    # Behind the last px of a line, and the last line, are some that are read and weigh nothing.
    woven, size, count = np.zeros(16 * (span + across.room), np.uint8), 4 * columns, len(lines.numbers)
    room = 2 * down.room + 4  # so that what is moved to the front never overlaps
    made, first_made, behind = np.empty((room + 1) * size + SLACK, np.uint8), 0, 0
    row, scratch, mirror, output = canvas(region, view, output)
    left, stride = view.base + (y0 * view.row) + (x0 + low_x) * view.pixel, view.row
    for y in range(rows):
        place = lines.places[y]
        while behind < place + down.counts[y]:
            if behind + 4 - first_made > room:
                copy_bytes(made, 0, made, (place - first_made) * size, (behind - place) * size)
                first_made = place
            a, b = left + lines.numbers[behind] * stride, left + lines.numbers[min(behind + 1, count - 1)] * stride
            c, d = min(behind + 2, count - 1), min(behind + 3, count - 1)
            places = a, b, left + lines.numbers[c] * stride, left + lines.numbers[d] * stride
            _weave(woven, view.pixels, places, view.pixel, span)
            _blend_across(made, (behind - first_made) * size, size, mirror, woven, across, used)
            behind += 4
        _blend_down(row, made, (place - first_made) * size, size, down, y)
        emit(row, y, scratch, output)
    return view_of(scratch, region, view.mirror_x, view.mirror_y)
