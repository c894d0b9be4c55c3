"""Where pixels lie, and how a row of them gets to its place.

A view is a tuple of whole numbers (BASE to MIRROR_Y): where the pixels of a region lie in memory, which region of the
logical image that is, and whether it lies there mirrored. Scratch images hold four bytes a pixel.
"""

from __future__ import annotations

import numpy as np

from dalipipe.backends.simd import blues4, fma1, fma4, greens4, load4, put4, reds4, splat4
from dalipipe.compilation import compiled

# What a view says: first byte, bytes a row, bytes a pixel, region (top, left, height, width) and 1 where it is
# mirrored.
BASE, ROW, PIXEL, TOP, LEFT, HEIGHT, WIDTH, MIRROR_X, MIRROR_Y = range(9)
SLACK = 16  # bytes or floats behind a buffer that a vector load may touch

# What an output plan says: element strides of channel, row and column, the height and width, and 1 for a mirroring that
# comes after the last step that makes pixels.
CHANNEL_STRIDE, ROW_STRIDE, COLUMN_STRIDE, OUT_HEIGHT, OUT_WIDTH, MIRROR_COLUMNS, MIRROR_ROWS = range(7)


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
def _emit_out(row, y, finish, out, plan):
    """Write a row of the output: normalised, in its layout and type.

    Args:
        row: (4 * width,) float32 whole levels, in the output's order.
        y: Which row, counted from the edge where the first row belongs.
        finish: (6,) float32: scale and shift of each channel.
        out: The whole output, flat.
        plan: Strides, size and mirroring.
    """
    at = plan[ROW_STRIDE] * (plan[OUT_HEIGHT] - 1 - y if plan[MIRROR_ROWS] else y)
    if plan[COLUMN_STRIDE] != 1:
        _emit_interleaved(row, finish[:3], finish[3:], out[at : at + 3 * plan[OUT_WIDTH]])
        return
    _emit_planes(row, finish, out, (at, at + plan[CHANNEL_STRIDE], at + 2 * plan[CHANNEL_STRIDE]))


@compiled
def emit(row, y, scratch, finish, out, plan):
    """Write a row of levels where it belongs: to the output if there is no scratch image, else there."""
    if len(scratch) == 0:
        _emit_out(row, y, finish, out, plan)
    else:
        size = len(row) - SLACK
        _emit_scratch(row, scratch[y * size : (y + 1) * size])


@compiled
def canvas(region, final, view, plan):
    """Return what a step that makes pixels needs: a row, a scratch image, whether to mirror the row, and the plan.

    The scratch image is empty where the pixels are for the output. Those are written mirrored as the view is, or will
    be; those for a scratch image as they lie in memory.
    """
    rows, columns = region[2], region[3]
    row = np.zeros(4 * columns + SLACK, np.float32)
    scratch = np.empty(0 if final else 4 * rows * columns + SLACK, np.uint8)
    mirror = final and (view[MIRROR_X] ^ plan[MIRROR_COLUMNS]) == 1
    outward = (plan[0], plan[1], plan[2], plan[3], plan[4], np.int64(0), view[MIRROR_Y] ^ plan[MIRROR_ROWS])
    return row, scratch, mirror, outward


@compiled
def view_of(region, mirror_x, mirror_y):
    """Return the view of a fresh scratch image that holds a region."""
    top, left, height, width = region
    return np.int64(0), 4 * width, np.int64(4), top, left, height, width, mirror_x, mirror_y
