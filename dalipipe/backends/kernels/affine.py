"""Affine maps: places and weights of a row's taps first, in vectorised loops, then the taps themselves."""

from __future__ import annotations

from typing import Any, NamedTuple

import numpy as np

from dalipipe.backends.kernels.views import SLACK, Region, canvas, emit, view_of
from dalipipe.backends.simd import fma4, load4, load4_bytes, put4, round4, splat4, zero4
from dalipipe.compilation import compiled
from dalipipe.recipes.primitives import BILINEAR, IN_H, IN_W, Primitive, places_of

_AFFINE, _MAP = places_of(Primitive.AFFINE), places_of(Primitive.PERSPECTIVE)


@compiled
def _fill(levels):
    """Return the levels outside the image as four floats."""
    four = np.zeros(SLACK, np.float32)
    four[0], four[1], four[2] = levels[0], levels[1], levels[2]
    return load4(four, 0)


@compiled
def _loadable(view):
    """Return a view whose pixels may be loaded four bytes a pixel: a scratch copy where there is no slack."""
    if view.pixel == 4:
        return view
    height, width = view.height, view.width
    scratch = np.empty(4 * height * width + SLACK, np.uint8)
    for y in range(height):
        begin = view.base + y * view.row
        source, target = view.pixels[begin : begin + 3 * width], scratch[4 * y * width : 4 * (y + 1) * width]
        for x in range(width):
            target[4 * x] = source[3 * x]
            target[4 * x + 1] = source[3 * x + 1]
            target[4 * x + 2] = source[3 * x + 2]
    return view_of(scratch, Region(view.top, view.left, height, width), view.mirror_x, view.mirror_y)


class _Image(NamedTuple):
    """What of an image is in memory.

    Attributes:
        top: First row that is; so are `left`, `bottom` and `right` the outermost ones, as they lie there.
        left: See `top`.
        bottom: See `top`.
        right: See `top`.
        height: Of the whole image, px.
        width: Of the whole image, px.
        stride: Bytes a row in memory.
    """

    top: Any
    left: Any
    bottom: Any
    right: Any
    height: Any
    width: Any
    stride: Any


class _Taps(NamedTuple):
    """Where each pixel of a row takes its taps, and their weights; all are written by `_place_...`.

    Attributes:
        at: (count,) int32: offset of the upper left tap.
        right: (count,) int32: bytes from there to the tap on the right.
        down: (count,) int32: bytes from there to the tap below.
        weights: (5, count) float32: of the four taps, zero outside the image, and their sum.
    """

    at: Any
    right: Any
    down: Any
    weights: Any


@compiled
def _image_of(record, view, top, left):
    """Return what of an image a view holds; `top` and `left` are of the view as it lies in memory, mirrored or not."""
    bottom, right = top + view.height - 1, left + view.width - 1
    return _Image(
        np.int32(top),
        np.int32(left),
        np.int32(bottom),
        np.int32(right),
        np.int32(record[IN_H]),
        np.int32(record[IN_W]),
        np.int32(view.row),
    )


@compiled
def _taps_of(count):
    """Return room for the taps of so many pixels."""
    at, right, down = np.empty(count, np.int32), np.empty(count, np.int32), np.empty(count, np.int32)
    return _Taps(at, right, down, np.empty((5, count), np.float32))


@compiled
def _matrix_in_memory(record, view):
    """Return the record's matrix, and the region's (top, left), for the view as it lies in memory, mirrored or not."""
    m = record[_AFFINE.matrix : _AFFINE.matrix + 6].copy()
    top, left = view.top, view.left
    if view.mirror_x:
        m[0], m[1], m[2] = -m[0], -m[1], record[IN_W] - m[2]
        left = int(record[IN_W]) - left - view.width
    if view.mirror_y:
        m[3], m[4], m[5] = -m[3], -m[4], record[IN_H] - m[5]
        top = int(record[IN_H]) - top - view.height
    return m, top, left


@compiled
def _place_bilinear(matrix, first_x, y_out, image, taps):
    """Write where each pixel of a row of an affine map takes its four taps, and their weights.

    Args:
        matrix: (6,) from output to input px.
        first_x: First output column.
        y_out: Output row, at its centre.
        image: What is in memory.
        taps: Written.
    """
    at, right, down, weights = taps
    top, left, bottom, right_edge, height, width, stride = image
    row_m, column_m = matrix[:3], matrix[3:]
    base_x, base_y = row_m[1] * y_out + row_m[2] - 0.5, column_m[1] * y_out + column_m[2] - 0.5
    step_x, step_y = row_m[0], column_m[0]
    w00, w01, w10, w11, mask = weights[0], weights[1], weights[2], weights[3], weights[4]
    for i in range(len(at)):
        x_out = np.float64(first_x + i) + 0.5
        x, y = step_x * x_out + base_x, step_y * x_out + base_y
        floor_x, floor_y = np.floor(x), np.floor(y)
        x0, y0 = np.int32(floor_x), np.int32(floor_y)
        share_x, share_y = np.float32(x - floor_x), np.float32(y - floor_y)
        one, nought = np.float32(1.0), np.float32(0.0)
        a0 = one - share_x if (x0 >= 0) & (x0 < width) else nought
        a1 = share_x if (x0 >= -1) & (x0 < width - 1) else nought
        b0 = one - share_y if (y0 >= 0) & (y0 < height) else nought
        b1 = share_y if (y0 >= -1) & (y0 < height - 1) else nought
        w00[i], w01[i], w10[i], w11[i], mask[i] = a0 * b0, a1 * b0, a0 * b1, a1 * b1, (a0 + a1) * (b0 + b1)
        left0, left1 = min(max(x0, left), right_edge), min(max(x0 + 1, left), right_edge)
        top0, top1 = min(max(y0, top), bottom), min(max(y0 + 1, top), bottom)
        at[i] = (top0 - top) * stride + 4 * (left0 - left)
        right[i], down[i] = 4 * (left1 - left0), (top1 - top0) * stride


@compiled
def _take_bilinear(row, mirror, pixels, taps, fill):
    """Write a row of pixels of whole levels, each the weighted sum of four taps; taps outside count as zero.

    Source: torch.nn.functional.grid_sample (zeros) under torchvision's _apply_grid_transform, which multiplies by the
    mask of the inside once more before it adds the fill.
    """
    at, right, down, weights = taps
    w00, w01, w10, w11, mask = weights[0], weights[1], weights[2], weights[3], weights[4]
    count = len(at)
    position, step = (4 * (count - 1), -4) if mirror else (0, 4)
    minus = splat4(np.float32(-1.0))
    for i in range(count):
        upper = at[i]
        lower = upper + down[i]
        total = fma4(load4_bytes(pixels, upper), splat4(w00[i]), zero4())
        total = fma4(load4_bytes(pixels, upper + right[i]), splat4(w01[i]), total)
        total = fma4(load4_bytes(pixels, lower), splat4(w10[i]), total)
        total = fma4(load4_bytes(pixels, lower + right[i]), splat4(w11[i]), total)
        put4(row, position, round4(fma4(splat4(mask[i]), fma4(minus, fill, total), fill)))
        position += step


@compiled
def _place_nearest(matrix, first_x, y_out, image, taps):
    """Write where each pixel of a row of an affine map lies in memory, and 1.0 as its sum where that is inside."""
    at, mask = taps.at, taps.weights[4]
    top, left, bottom, right_edge, height, width, stride = image
    row_m, column_m = matrix[:3], matrix[3:]
    base_x, base_y = row_m[1] * y_out + row_m[2] - 0.5, column_m[1] * y_out + column_m[2] - 0.5
    for i in range(len(at)):
        x_out = np.float64(first_x + i) + 0.5
        x, y = np.int32(np.rint(row_m[0] * x_out + base_x)), np.int32(np.rint(column_m[0] * x_out + base_y))
        inside = (x >= 0) & (x < width) & (y >= 0) & (y < height)
        mask[i] = np.float32(1.0) if inside else np.float32(0.0)
        at[i] = (min(max(y, top), bottom) - top) * stride + 4 * (min(max(x, left), right_edge) - left)


@compiled
def _take_nearest(row, mirror, pixels, taps, fill):
    """Write a row of pixels: the one at each place, or the fill."""
    at, mask = taps.at, taps.weights[4]
    count = len(at)
    position, step = (4 * (count - 1), -4) if mirror else (0, 4)
    minus = splat4(np.float32(-1.0))
    for i in range(count):
        value = load4_bytes(pixels, at[i])
        put4(row, position, fma4(splat4(mask[i]), fma4(minus, fill, value), fill))
        position += step


@compiled
def affine(record, view, region, output):
    """Map the region of an AFFINE record; return its view, never mirrored."""
    view = _loadable(view)
    m, top, left = _matrix_in_memory(record, view)
    image = _image_of(record, view, top, left)
    first_y, first_x, rows, columns = region
    straight = np.int64(0)
    row, scratch, mirror, output = canvas(region, view_of(view.pixels, region, straight, straight), output)
    fill = _fill(record[_AFFINE.fill : _AFFINE.fill + 3])
    taps, memory = _taps_of(columns), view.pixels[view.base :]
    for y in range(rows):
        y_out = first_y + y + 0.5
        if record[_AFFINE.interpolation] == BILINEAR:
            _place_bilinear(m, first_x, y_out, image, taps)
            _take_bilinear(row, mirror, memory, taps, fill)
        else:
            _place_nearest(m, first_x, y_out, image, taps)
            _take_nearest(row, mirror, memory, taps, fill)
        emit(row, y, scratch, output)
    return view_of(scratch, region, straight, straight)


@compiled
def _perspective_in_memory(record, view):
    """Return the three rows of the map, (9,), and the region's (top, left), for the view as it lies in memory."""
    m = np.ones(9)
    m[:8] = record[_MAP.coefficients : _MAP.coefficients + 8]
    top, left = view.top, view.left
    if view.mirror_x:
        m[:3] = record[IN_W] * m[6:] - m[:3]
        left = int(record[IN_W]) - left - view.width
    if view.mirror_y:
        m[3:6] = record[IN_H] * m[6:] - m[3:6]
        top = int(record[IN_H]) - top - view.height
    return m, top, left


@compiled
def _place_perspective(m, first_x, y_out, image, nearest, taps):
    """Write where each pixel of a row takes its taps, and their weights, as `_place_bilinear` and `_place_nearest`."""
    at, right, down, weights = taps
    top, left, bottom, right_edge, height, width, stride = image
    for i in range(len(at)):
        x_out = np.float64(first_x + i) + 0.5
        depth = m[6] * x_out + m[7] * y_out + m[8]
        # What lies far outside shows the fill, wherever exactly it is.
        x = min(max((m[0] * x_out + m[1] * y_out + m[2]) / depth - 0.5, -9.0), width + 9.0)
        y = min(max((m[3] * x_out + m[4] * y_out + m[5]) / depth - 0.5, -9.0), height + 9.0)
        floor_x, floor_y = (np.rint(x), np.rint(y)) if nearest else (np.floor(x), np.floor(y))
        x0, y0 = np.int32(floor_x), np.int32(floor_y)
        share_x = np.float32(0.0) if nearest else np.float32(x - floor_x)
        share_y = np.float32(0.0) if nearest else np.float32(y - floor_y)
        one, nought = np.float32(1.0), np.float32(0.0)
        a0 = one - share_x if (x0 >= 0) & (x0 < width) else nought
        a1 = share_x if (x0 >= -1) & (x0 < width - 1) else nought
        b0 = one - share_y if (y0 >= 0) & (y0 < height) else nought
        b1 = share_y if (y0 >= -1) & (y0 < height - 1) else nought
        weights[0, i], weights[1, i], weights[2, i], weights[3, i] = a0 * b0, a1 * b0, a0 * b1, a1 * b1
        weights[4, i] = (a0 + a1) * (b0 + b1)
        left0, left1 = min(max(x0, left), right_edge), min(max(x0 + 1, left), right_edge)
        top0, top1 = min(max(y0, top), bottom), min(max(y0 + 1, top), bottom)
        at[i] = (top0 - top) * stride + 4 * (left0 - left)
        right[i], down[i] = 4 * (left1 - left0), (top1 - top0) * stride


@compiled
def perspective(record, view, region, output):
    """Map the region of a PERSPECTIVE record; return its view, never mirrored."""
    view = _loadable(view)
    m, top, left = _perspective_in_memory(record, view)
    image = _image_of(record, view, top, left)
    first_y, first_x, rows, columns = region
    straight = np.int64(0)
    row, scratch, mirror, output = canvas(region, view_of(view.pixels, region, straight, straight), output)
    fill = _fill(record[_MAP.fill : _MAP.fill + 3])
    taps, memory = _taps_of(columns), view.pixels[view.base :]
    nearest = record[_MAP.interpolation] != BILINEAR
    for y in range(rows):
        _place_perspective(m, first_x, first_y + y + 0.5, image, nearest, taps)
        _take_bilinear(row, mirror, memory, taps, fill)
        emit(row, y, scratch, output)
    return view_of(scratch, region, straight, straight)
