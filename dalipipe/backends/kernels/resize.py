"""Resizing: the vertical pass goes over whole rows of bytes, the horizontal one over pixels in registers."""

from __future__ import annotations

import math
from typing import Any, NamedTuple

import numpy as np

from dalipipe.backends.kernels.views import SLACK, canvas, emit, view_of
from dalipipe.backends.simd import fma4, load4, repeat4, round4, store4, zero4
from dalipipe.compilation import compiled
from dalipipe.decisions.regions import axis_support
from dalipipe.recipes.primitives import BICUBIC, BILINEAR, OUT_H, OUT_W, Primitive, places_of

_BOX = places_of(Primitive.CROP_RESIZE)


@compiled
def _weight(distance, interpolation):
    """Return the weight of a tap at a distance from the centre, in widths of the filter.

    Source: Pillow's bilinear_filter and bicubic_filter (a = -0.5).
    """
    if interpolation == BILINEAR:
        return max(0.0, 1.0 - distance)
    if interpolation != BICUBIC:
        return 1.0  # the one px that is nearest
    if distance < 1.0:
        return (1.5 * distance - 2.5) * distance * distance + 1.0
    return -0.5 * (((distance - 5.0) * distance + 8.0) * distance - 4.0) if distance < 2.0 else 0.0


class _Axis(NamedTuple):
    """One axis of a resize.

    Attributes:
        box: Its length before, px.
        out: Its length after, px.
        antialias: Whether the filter is widened when shrinking.
        interpolation: Its number.
    """

    box: Any
    out: Any
    antialias: Any
    interpolation: Any


@compiled
def _stretch(axis):
    """Return how much wider than between neighbours the filter is."""
    return max(axis.box / axis.out, 1.0) if axis.antialias else 1.0


@compiled
def _room(axis):
    """Return the most taps that an output has, at least 3."""
    return math.ceil((2.0 if axis.interpolation == BICUBIC else 1.0) * _stretch(axis)) * 2 + 1


@compiled
def _write_weights(axis, first, counts, starts, weights):
    """Write the taps of the outputs from `first` on along one axis.

    Args:
        axis: Which.
        first: First output.
        counts: (count,) int64, written: number of taps.
        starts: (count,) int64, written: first tap, in px from the box's edge.
        weights: (count * taps,) float32, written: weights that sum to 1, zeros behind them.

    Source: Pillow's precompute_coeffs, which torch's antialiased interpolate follows.
    """
    scale, stretch, taps = axis.box / axis.out, _stretch(axis), len(weights) // len(counts)
    for i in range(len(counts)):
        low, high = axis_support(first + i, axis.box, axis.out, axis.antialias, axis.interpolation)
        center = scale * (first + i + 0.5)
        total = 0.0
        for tap in range(high - low):
            weight = _weight(abs((low + tap + 0.5 - center) / stretch), axis.interpolation)
            weights[i * taps + tap] = weight
            total += weight
        for tap in range(high - low):
            weights[i * taps + tap] /= total
        for tap in range(high - low, taps):
            weights[i * taps + tap] = 0.0
        starts[i], counts[i] = low, high - low


@compiled
def _to_levels(values):
    """Round floats to whole levels, in place: the cubic filter overshoots."""
    for x in range(len(values)):
        values[x] = min(max(np.rint(values[x]), np.float32(0.0)), np.float32(255.0))


@compiled
def _set_row(acc, levels):
    """Set the first of some float32 to levels."""
    for x in range(len(levels)):
        acc[x] = levels[x]


@compiled(fastmath={"contract"})
def _add_rows(acc, a, b, c, d, wa, wb, wc, wd):
    """Add four weighted rows of levels to float32 sums."""
    for x in range(len(acc)):
        acc[x] += wa * np.float32(a[x]) + wb * np.float32(b[x]) + wc * np.float32(c[x]) + wd * np.float32(d[x])


@compiled(fastmath={"contract"})
def _set_rows(acc, a, b, c, d, wa, wb, wc, wd):
    """Set float32 sums to four weighted rows of levels."""
    for x in range(len(acc)):
        acc[x] = wa * np.float32(a[x]) + wb * np.float32(b[x]) + wc * np.float32(c[x]) + wd * np.float32(d[x])


@compiled(fastmath={"contract"})
def _set_two_rows(acc, a, b, wa, wb):
    """Set float32 sums to two weighted rows of levels."""
    for x in range(len(acc)):
        acc[x] = wa * np.float32(a[x]) + wb * np.float32(b[x])


@compiled(fastmath={"contract"})
def _set_three_rows(acc, a, b, c, wa, wb, wc):
    """Set float32 sums to three weighted rows of levels."""
    for x in range(len(acc)):
        acc[x] = wa * np.float32(a[x]) + wb * np.float32(b[x]) + wc * np.float32(c[x])


@compiled
def _blend_rows(acc, pixels, base, stride, weights, used):
    """Set `acc` to the weighted sum of `used` rows of bytes, `stride` apart, the first at `base`."""
    n = len(acc)
    at = base
    if used <= 2:
        second = at + stride if used == 2 else at
        wb = weights[1] if used == 2 else np.float32(0.0)
        _set_two_rows(acc, pixels[at : at + n], pixels[second : second + n], weights[0], wb)
        return
    if used == 3:
        b, c = at + stride, at + 2 * stride
        _set_three_rows(
            acc, pixels[at : at + n], pixels[b : b + n], pixels[c : c + n], weights[0], weights[1], weights[2]
        )
        return
    for group in range(0, used, 4):
        # Behind the last row, the last row again with weight zero.
        a = base + group * stride
        b = base + min(group + 1, used - 1) * stride
        c = base + min(group + 2, used - 1) * stride
        d = base + min(group + 3, used - 1) * stride
        wb = weights[group + 1] if group + 1 < used else np.float32(0.0)
        wc = weights[group + 2] if group + 2 < used else np.float32(0.0)
        wd = weights[group + 3] if group + 3 < used else np.float32(0.0)
        rows = pixels[a : a + n], pixels[b : b + n], pixels[c : c + n], pixels[d : d + n]
        if group == 0:
            _set_rows(acc, rows[0], rows[1], rows[2], rows[3], weights[group], wb, wc, wd)
        else:
            _add_rows(acc, rows[0], rows[1], rows[2], rows[3], weights[group], wb, wc, wd)


@compiled
def _blend_columns(row, mirror, acc, pixel, starts, weights, room, used):
    """Write a row of pixels of whole levels, each the weighted sum of `used` neighbours in `acc`.

    Weights that are >= 0 sum to 1, so a rounded sum is a level without clamping. `mirror` writes from right to left.
    """
    count = len(starts)
    at, step = (4 * (count - 1), -4) if mirror else (0, 4)
    for x in range(count):
        begin, w = pixel * starts[x], x * room
        total = fma4(load4(acc, begin), repeat4(weights, w), zero4())
        total = fma4(load4(acc, begin + pixel), repeat4(weights, w + 1), total)
        total = fma4(load4(acc, begin + 2 * pixel), repeat4(weights, w + 2), total)
        for tap in range(3, used):
            total = fma4(load4(acc, begin + pixel * tap), repeat4(weights, w + tap), total)
        store4(row, at, round4(total))
        at += step


@compiled
def resize(record, view, region, output):
    """Resize the box of a CROP_RESIZE record; return the view of the region.

    A mirrored view stays mirrored: the box and the region are mirrored instead. The cubic filter overshoots, so what it
    makes depends on which pass comes first, and on the levels being whole between: as in Pillow and torch, pixels are
    blended across first.
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
    starts_y, counts_y = np.empty(rows, np.int64), np.empty(rows, np.int64)
    starts_x, counts_x = np.empty(columns, np.int64), np.empty(columns, np.int64)
    down, across = _Axis(box_h, out_h, antialias, method), _Axis(box_w, out_w, antialias, method)
    taps_y, taps_x = _room(down), _room(across)
    weights_y, weights_x = np.empty(rows * taps_y, np.float32), np.empty(columns * taps_x, np.float32)
    _write_weights(down, first_y, counts_y, starts_y, weights_y)
    _write_weights(across, first_x, counts_x, starts_x, weights_x)
    pixel, stride = view.pixel, view.row
    low_x = starts_x[0]
    span = (starts_x[columns - 1] + counts_x[columns - 1] - low_x) * pixel
    acc = np.zeros(span + pixel * taps_x + SLACK, np.float32)
    row, scratch, mirror, output = canvas(region, view, output)
    used_x = counts_x.max()
    starts_x -= low_x
    left = view.base + (x0 + low_x) * pixel
    size, low_y = 4 * columns, starts_y[0]
    lines = starts_y[rows - 1] + counts_y[rows - 1] - low_y if method == BICUBIC else 0
    across_first = np.empty(lines * size + SLACK, np.uint8)
    for line in range(lines):
        at = left + (y0 + low_y + line) * stride
        _set_row(acc, view.pixels[at : at + span])
        _blend_columns(row, mirror, acc, pixel, starts_x, weights_x, taps_x, used_x)
        _to_levels(row)
        emit(row, line, across_first, output)
    for y in range(rows):
        weights = weights_y[y * taps_y : y * taps_y + taps_y]
        if method == BICUBIC:
            _blend_rows(row[:size], across_first, (starts_y[y] - low_y) * size, size, weights, counts_y[y])
            _to_levels(row)
        else:
            _blend_rows(acc[:span], view.pixels, left + (y0 + starts_y[y]) * stride, stride, weights, counts_y[y])
            _blend_columns(row, mirror, acc, pixel, starts_x, weights_x, taps_x, used_x)
        emit(row, y, scratch, output)
    return view_of(scratch, region, view.mirror_x, view.mirror_y)
