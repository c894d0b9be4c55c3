"""Where pixels lie, and how a row of them gets to its place. Scratch images hold four bytes a pixel."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any, NamedTuple

import numpy as np
from numpy.typing import NDArray

from dalipipe.backends.simd_levels import copy_bytes, finished, put_channel8, put_pixel4
from dalipipe.compilation import compiled

SLACK = 16  # bytes or floats behind a buffer that a vector load may touch


class View(NamedTuple):
    """Where the pixels of a region of an image lie in memory, mirrored or not; whole numbers but for `pixels`.

    Attributes:
        pixels: (n,) uint8, the memory.
        base: First byte of the region.
        row: Bytes a row.
        pixel: Bytes a pixel, 3 or 4.
        top: Of the region in the logical image, px; so are `left`, `height` and `width`.
        left: See `top`.
        height: See `top`.
        width: See `top`.
        mirror_x: 1 where it lies there mirrored left and right.
        mirror_y: 1 where it lies there mirrored top and bottom.
    """

    pixels: Any
    base: Any
    row: Any
    pixel: Any
    top: Any
    left: Any
    height: Any
    width: Any
    mirror_x: Any
    mirror_y: Any


class Region(NamedTuple):
    """Part of an image, in px."""

    top: Any
    left: Any
    height: Any
    width: Any


class Output(NamedTuple):
    """Where the pixels of a step go: into a scratch image or, as its last step leaves them, into the image to be made.

    Attributes:
        values: (3 * height * width,) float32 or uint8, the image to be made.
        finish: (16,) float32: for each channel and one to spare mean, then std, then 1 / std, then 1 / unit; a value is
            (level / unit - mean) / std.
        channel_stride: Elements from one channel to the next; so are `row_stride` and `column_stride`.
        row_stride: See `channel_stride`.
        column_stride: See `channel_stride`.
        height: px.
        width: px.
        mirror_columns: 1 where left and right are still to be mirrored, after the last step that makes pixels.
        mirror_rows: 1 where top and bottom are.
        final: 1 for that last step.
    """

    values: Any
    finish: Any
    channel_stride: Any
    row_stride: Any
    column_stride: Any
    height: Any
    width: Any
    mirror_columns: Any
    mirror_rows: Any
    final: Any


@compiled
def redirected(output, mirror_columns, mirror_rows, final):
    """Return an output with other last three numbers."""
    return Output(
        output.values,
        output.finish,
        output.channel_stride,
        output.row_stride,
        output.column_stride,
        output.height,
        output.width,
        mirror_columns,
        mirror_rows,
        final,
    )


@compiled
def _emit_levels(row, finish, out, first, places, step):
    """Write the pixels of a row of levels from `first` on, `step` apart; `places` says where each channel begins."""
    for x in range(first, (len(row) - SLACK) // 4):
        for channel in range(3):
            out[places[channel] + step * x] = finished(np.float32(row[4 * x + channel]), finish, channel)


@compiled
def _emit_out(row, y, output):
    """Write a row of the output: finished, in its layout and type.

    Args:
        row: (4 * width + SLACK,) uint8 levels, in the output's order.
        y: Which row, counted from the edge where the first row belongs.
        output: Where it goes.
    """
    finish, out, count, step = output.finish, output.values, output.width, output.column_stride
    at = output.row_stride * (output.height - 1 - y if output.mirror_rows else y)
    places = at, at + output.channel_stride, at + 2 * output.channel_stride
    if step == 1:
        done = count - count % 8
        for x in range(0, done, 8):
            put_channel8(out, places[0] + x, row, 4 * x, finish, 0)
            put_channel8(out, places[1] + x, row, 4 * x, finish, 1)
            put_channel8(out, places[2] + x, row, 4 * x, finish, 2)
    else:
        done = count - 1
        for x in range(done):
            put_pixel4(out, at + 3 * x, row, 4 * x, finish)
    _emit_levels(row, finish, out, done, places, step)


@compiled
def emit(row, y, scratch, output):
    """Write a row of levels where it belongs: to the output if there is no scratch image, else there."""
    if len(scratch) == 0:
        _emit_out(row, y, output)
    else:
        size = len(row) - SLACK
        copy_bytes(scratch, y * size, row, 0, size)


@compiled
def canvas(region, view, output):
    """Return what a step that makes pixels needs: a row, a scratch image, whether to mirror the row, and the output.

    The scratch image is empty where the pixels are for the output. Those are written mirrored as the view is, or will
    be; those for a scratch image as they lie in memory.
    """
    rows, columns = region.height, region.width
    row = np.zeros(4 * columns + SLACK, np.uint8)
    scratch = np.empty(0 if output.final else 4 * rows * columns + SLACK, np.uint8)
    mirror = output.final and (view.mirror_x ^ output.mirror_columns) == 1
    return row, scratch, mirror, redirected(output, np.int64(0), view.mirror_y ^ output.mirror_rows, output.final)


@compiled
def view_of(pixels, region, mirror_x, mirror_y):
    """Return the view of a scratch image that holds a region."""
    width = region.width
    return View(
        pixels,
        np.int64(0),
        4 * width,
        np.int64(4),
        region.top,
        region.left,
        region.height,
        width,
        mirror_x,
        mirror_y,
    )


@compiled
def view_in(pixels, height, width, top, left):
    """Return the view of an image, or part of one, as it was decoded.

    Args:
        pixels: (height * width * 3,) uint8, RGB side by side.
        height: px.
        width: px.
        top: Of the part in the whole image, px.
        left: Of the part in the whole image, px.
    """
    zero = np.int64(0)
    return View(pixels, zero, 3 * width, np.int64(3), top, left, height, width, zero, zero)


@compiled
def output_in(values, finish, form):
    """Return an output; `form` (5,) int64 has its strides and its size, as `Output` has them."""
    zero = np.int64(0)
    return Output(values, finish, form[0], form[1], form[2], form[3], form[4], zero, zero, zero)


def finish_of(unit: float, mean: Sequence[float], std: Sequence[float]) -> NDArray[np.float32]:
    """Return the finish of an output whose values are (level / unit - mean) / std; see `Output`."""
    spread = np.array([*std, 1.0], np.float32)
    return np.concatenate([np.array([*mean, 0.0]), spread, 1 / spread, np.full(4, 1.0 / unit)]).astype(np.float32)
