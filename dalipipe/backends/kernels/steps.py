"""One image through its records: see the package's docstring."""

from __future__ import annotations

import numpy as np

from dalipipe.backends.kernels.affine import affine, perspective
from dalipipe.backends.kernels.blur import blur
from dalipipe.backends.kernels.colour import COLOURS, colour
from dalipipe.backends.kernels.erase import erase, erase_output
from dalipipe.backends.kernels.resize import resize
from dalipipe.backends.kernels.views import (
    BASE,
    HEIGHT,
    LEFT,
    MIRROR_X,
    MIRROR_Y,
    OUT_HEIGHT,
    OUT_WIDTH,
    PIXEL,
    ROW,
    TOP,
    WIDTH,
    canvas,
    emit,
    view_of,
)
from dalipipe.backends.table import Entry
from dalipipe.compilation import compiled
from dalipipe.decisions.regions import regions
from dalipipe.recipes.primitives import ARGS, DO, IN_H, IN_W, OUT_H, OUT_W, Primitive

_CROP_RESIZE, _CROP_PAD, _FLIP, _AFFINE = (
    Primitive.CROP_RESIZE.value,
    Primitive.CROP_PAD.value,
    Primitive.FLIP.value,
    Primitive.AFFINE.value,
)
_ERASE, _PERSPECTIVE, _BLUR = Primitive.ERASE.value, Primitive.PERSPECTIVE.value, Primitive.BLUR.value


@compiled
def _copy(record, view, pixels, region, final, finish, out, plan):
    """Copy the region of a CROP_PAD record, filled outside the image; return its view and pixels.

    A mirrored view stays mirrored. `record` may be one of zeros: then the region is copied as it is.
    """
    shift_y, shift_x = int(record[ARGS]), int(record[ARGS + 1])
    first_y, first_x, rows, columns = region
    top, left = first_y + shift_y - view[TOP], first_x + shift_x - view[LEFT]  # of the region, in the view
    if view[MIRROR_Y]:
        top = view[HEIGHT] - top - rows
    if view[MIRROR_X]:
        left = view[WIDTH] - left - columns
    begin, end = min(max(0, -left), columns), max(0, min(columns, view[WIDTH] - left))
    row, scratch, mirror, plan = canvas(region, final, view, plan)
    position, step = (4 * (columns - 1), -4) if mirror else (0, 4)
    pixel = view[PIXEL]
    for y in range(rows):
        for x in range(columns):
            for channel in range(3):
                row[4 * x + channel] = record[ARGS + 2 + channel]
        if 0 <= top + y < view[HEIGHT]:
            at = view[BASE] + (top + y) * view[ROW] + left * pixel
            for x in range(begin, end):
                for channel in range(3):
                    row[position + step * x + channel] = pixels[at + x * pixel + channel]
        emit(row, y, scratch, finish, out, plan)
    return view_of(region, view[MIRROR_X], view[MIRROR_Y]), scratch


@compiled
def _renames(record):
    """Return whether a record only renames coordinates: it makes no new pixels."""
    do = record[DO]
    if do == _CROP_PAD:
        top, left = record[ARGS], record[ARGS + 1]
        return top >= 0 and left >= 0 and top + record[OUT_H] <= record[IN_H] and left + record[OUT_W] <= record[IN_W]
    if do == _CROP_RESIZE:
        return record[ARGS + 2] == record[OUT_H] and record[ARGS + 3] == record[OUT_W]
    return do == 0 or do == _FLIP


@compiled
def _rename(record, view):
    """Return the view in the coordinates after a record that makes no new pixels."""
    base, stride, pixel, top, left, height, width, mirror_x, mirror_y = view
    if record[DO] == _FLIP:
        if record[ARGS] > 0:
            left, mirror_x = int(record[IN_W]) - left - width, 1 - mirror_x
        if record[ARGS + 1] > 0:
            top, mirror_y = int(record[IN_H]) - top - height, 1 - mirror_y
    elif record[DO] != 0:
        # Only what lies inside the crop is left: a later step must not see beyond it.
        top, left = top - int(record[ARGS]), left - int(record[ARGS + 1])
        above, below = max(0, -top), max(0, top + height - int(record[OUT_H]))
        before, behind = max(0, -left), max(0, left + width - int(record[OUT_W]))
        base += (below if mirror_y else above) * stride + (behind if mirror_x else before) * pixel
        top, left, height, width = top + above, left + before, height - above - below, width - before - behind
    return base, stride, pixel, top, left, height, width, mirror_x, mirror_y


@compiled(nogil=True)
def run_steps(pixels, height, width, corner, records, finish, out, plan):
    """Take one image through its records into the output.

    Args:
        pixels: (height * width * 3,) uint8, RGB side by side: the whole image, or the part of it that is needed.
        height: Of `pixels`, px.
        width: Of `pixels`, px.
        corner: (top, left) of `pixels` in the whole image, px.
        records: (n, RECORD) float64.
        finish: (6,) float32: an output value is level * finish[channel] + finish[3 + channel].
        out: (3 * out height * out width,) float32 or uint8, written.
        plan: Strides and size of the output (CHANNEL_STRIDE to OUT_WIDTH), whole numbers.
    """
    steps = len(records)
    needed = np.empty((steps + 1, 4), np.int64)
    regions(records, plan[OUT_HEIGHT], plan[OUT_WIDTH], needed)
    last, later_x, later_y = -1, np.int64(0), np.int64(0)
    for step in range(steps):
        if records[step, DO] == _ERASE:
            continue  # behind the last step that makes pixels, the output is erased instead
        if not _renames(records[step]):
            last, later_x, later_y = step, np.int64(0), np.int64(0)
        elif records[step, DO] == _FLIP:
            later_x ^= int(records[step, ARGS])
            later_y ^= int(records[step, ARGS + 1])
    if last < 0:
        later_x, later_y = np.int64(0), np.int64(0)
    plan = (plan[0], plan[1], plan[2], plan[3], plan[4], later_x, later_y)
    zero = np.int64(0)  # a literal would make another type of tuple, and Numba compile everything twice
    view = (zero, 3 * width, np.int64(3), corner[0], corner[1], height, width, zero, zero)
    for step in range(steps):
        record = records[step]
        if _renames(record):
            view = _rename(record, view)
            continue
        if record[DO] == _ERASE and step > last:
            continue
        region = (needed[step + 1, 0], needed[step + 1, 1], needed[step + 1, 2], needed[step + 1, 3])
        if record[DO] == _CROP_RESIZE:
            view, pixels = resize(record, view, pixels, region, step == last, finish, out, plan)
        elif record[DO] == _AFFINE:
            view, pixels = affine(record, view, pixels, region, step == last, finish, out, plan)
        elif record[DO] == _PERSPECTIVE:
            view, pixels = perspective(record, view, pixels, region, step == last, finish, out, plan)
        elif record[DO] == _BLUR:
            view, pixels = blur(record, view, pixels, region, step == last, finish, out, plan)
        elif record[DO] == _ERASE:
            view, pixels = erase(record, view, pixels, region)
        elif int(record[DO]) in COLOURS:
            view, pixels = colour(record, view, pixels, region, step == last, finish, out, plan)
        else:
            view, pixels = _copy(record, view, pixels, region, step == last, finish, out, plan)
    if last < 0:
        whole = (0, 0, plan[OUT_HEIGHT], plan[OUT_WIDTH])
        _copy(np.zeros_like(records[0]) if steps else np.zeros(ARGS + 5), view, pixels, whole, True, finish, out, plan)
    erase_output(records[last + 1 :], finish, out, plan)


TABLE: dict[Primitive, Entry] = {
    Primitive.CROP_RESIZE: Entry(resize, "resize kernel"),
    Primitive.CROP_PAD: Entry(_copy, "view, or copy kernel where it pads"),
    Primitive.FLIP: Entry(_rename, "view"),
    Primitive.AFFINE: Entry(affine, "affine kernel"),
    Primitive.PERSPECTIVE: Entry(perspective, "perspective kernel"),
    Primitive.BLUR: Entry(blur, "blur kernel"),
    Primitive.ERASE: Entry(erase, "erase kernel"),
    **{Primitive(number): Entry(colour, "colour kernel") for number in COLOURS},
}
"""What `run_steps` does each primitive with: a view is a change of coordinates and costs nothing."""
