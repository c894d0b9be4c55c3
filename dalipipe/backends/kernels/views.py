"""Where pixels lie, and how a row of them gets to its place. Scratch images hold four bytes a pixel."""

from __future__ import annotations

from typing import Any, NamedTuple

import numpy as np

from dalipipe.backends.simd import blues4, fma1, fma4, greens4, load4, put4, reds4, splat4
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
        finish: (6,) float32: a value is level * finish[channel] + finish[3 + channel].
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
def _emit_scratch(row, out):
    """Write a row of levels into a scratch image, four bytes a pixel."""
    for x in range(len(out)):
        out[x] = np.uint8(row[x])


@compiled
def _emit_planes(row, finish, out, places):
    """Write the three channels of a row to their planes, four pixels at a time: level * scale + shift.

    `places` says where the row begins in each plane.
    """
    red, green, blue = places
    count = len(row) // 4 - SLACK // 4
    scales = splat4(finish[0]), splat4(finish[1]), splat4(finish[2])
    shifts = splat4(finish[3]), splat4(finish[4]), splat4(finish[5])
    for x in range(0, count - 3, 4):
        a, b, c, d = load4(row, 4 * x), load4(row, 4 * x + 4), load4(row, 4 * x + 8), load4(row, 4 * x + 12)
        put4(out, red + x, fma4(reds4(a, b, c, d), scales[0], shifts[0]))
        put4(out, green + x, fma4(greens4(a, b, c, d), scales[1], shifts[1]))
        put4(out, blue + x, fma4(blues4(a, b, c, d), scales[2], shifts[2]))
    for x in range(count - count % 4, count):
        out[red + x] = fma1(row[4 * x], finish[0], finish[3])
        out[green + x] = fma1(row[4 * x + 1], finish[1], finish[4])
        out[blue + x] = fma1(row[4 * x + 2], finish[2], finish[5])


@compiled
def _emit_interleaved(row, scale, shift, out):
    """Write the three channels of a row side by side: level * scale + shift."""
    for x in range(len(out) // 3):
        for channel in range(3):
            out[3 * x + channel] = fma1(row[4 * x + channel], scale[channel], shift[channel])


@compiled
def _emit_out(row, y, output):
    """Write a row of the output: normalised, in its layout and type.

    Args:
        row: (4 * width,) float32 whole levels, in the output's order.
        y: Which row, counted from the edge where the first row belongs.
        output: Where it goes.
    """
    finish, out = output.finish, output.values
    at = output.row_stride * (output.height - 1 - y if output.mirror_rows else y)
    if output.column_stride != 1:
        _emit_interleaved(row, finish[:3], finish[3:], out[at : at + 3 * output.width])
        return
    _emit_planes(row, finish, out, (at, at + output.channel_stride, at + 2 * output.channel_stride))


@compiled
def emit(row, y, scratch, output):
    """Write a row of levels where it belongs: to the output if there is no scratch image, else there."""
    if len(scratch) == 0:
        _emit_out(row, y, output)
    else:
        size = len(row) - SLACK
        _emit_scratch(row, scratch[y * size : (y + 1) * size])


@compiled
def canvas(region, view, output):
    """Return what a step that makes pixels needs: a row, a scratch image, whether to mirror the row, and the output.

    The scratch image is empty where the pixels are for the output. Those are written mirrored as the view is, or will
    be; those for a scratch image as they lie in memory.
    """
    rows, columns = region.height, region.width
    row = np.zeros(4 * columns + SLACK, np.float32)
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
