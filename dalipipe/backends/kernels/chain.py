"""One image through its records: see the package's docstring."""

from __future__ import annotations

import numpy as np

from dalipipe.backends.kernels.affine import affine, perspective
from dalipipe.backends.kernels.blur import blur
from dalipipe.backends.kernels.colour import COLOURS, colour
from dalipipe.backends.kernels.erase import erase, erase_output
from dalipipe.backends.kernels.resize import resize
from dalipipe.backends.kernels.views import Region, View, canvas, emit, redirected, view_of
from dalipipe.backends.table import Entry
from dalipipe.compilation import compiled
from dalipipe.decisions.regions import regions
from dalipipe.recipes.primitives import DO, IN_H, IN_W, OUT_H, OUT_W, RECORD, Primitive, places_of

_NOTHING, _CROP_RESIZE, _CROP_PAD = Primitive.NOTHING.value, Primitive.CROP_RESIZE.value, Primitive.CROP_PAD.value
_FLIP, _AFFINE, _PERSPECTIVE = Primitive.FLIP.value, Primitive.AFFINE.value, Primitive.PERSPECTIVE.value
_ERASE, _BLUR = Primitive.ERASE.value, Primitive.BLUR.value
_BOX, _WINDOW, _MIRROR = (places_of(one) for one in (Primitive.CROP_RESIZE, Primitive.CROP_PAD, Primitive.FLIP))


@compiled
def _copy(record, view, region, output):
    """Copy the region of a CROP_PAD record, filled outside the image; return its view, mirrored as the one given is.

    `record` may be one of zeros: then the region is copied as it is.
    """
    shift_y, shift_x = int(record[_WINDOW.top]), int(record[_WINDOW.left])
    first_y, first_x, rows, columns = region
    top, left = first_y + shift_y - view.top, first_x + shift_x - view.left  # of the region, in the view
    if view.mirror_y:
        top = view.height - top - rows
    if view.mirror_x:
        left = view.width - left - columns
    begin, end = min(max(0, -left), columns), max(0, min(columns, view.width - left))
    row, scratch, mirror, output = canvas(region, view, output)
    position, step = (4 * (columns - 1), -4) if mirror else (0, 4)
    pixel = view.pixel
    for y in range(rows):
        for x in range(columns):
            for channel in range(3):
                row[4 * x + channel] = record[_WINDOW.fill + channel]
        if 0 <= top + y < view.height:
            at = view.base + (top + y) * view.row + left * pixel
            for x in range(begin, end):
                for channel in range(3):
                    row[position + step * x + channel] = view.pixels[at + x * pixel + channel]
        emit(row, y, scratch, output)
    return view_of(scratch, region, view.mirror_x, view.mirror_y)


@compiled
def _renames(record):
    """Return whether a record only renames coordinates: it makes no new pixels."""
    do = record[DO]
    if do == _CROP_PAD:
        top, left = record[_WINDOW.top], record[_WINDOW.left]
        return top >= 0 and left >= 0 and top + record[OUT_H] <= record[IN_H] and left + record[OUT_W] <= record[IN_W]
    if do == _CROP_RESIZE:
        return record[_BOX.height] == record[OUT_H] and record[_BOX.width] == record[OUT_W]
    return do in (_NOTHING, _FLIP)


@compiled
def _rename(record, view):
    """Return the view in the coordinates after a record that makes no new pixels."""
    pixels, base, stride, pixel, top, left, height, width, mirror_x, mirror_y = view
    if record[DO] == _FLIP:
        if record[_MIRROR.across] > 0:
            left, mirror_x = int(record[IN_W]) - left - width, 1 - mirror_x
        if record[_MIRROR.down] > 0:
            top, mirror_y = int(record[IN_H]) - top - height, 1 - mirror_y
    elif record[DO] != _NOTHING:
        # A window, or a box that keeps its size. Only what lies inside is left: a later step must not see beyond it.
        top, left = top - int(record[_WINDOW.top]), left - int(record[_WINDOW.left])
        above, below = max(0, -top), max(0, top + height - int(record[OUT_H]))
        before, behind = max(0, -left), max(0, left + width - int(record[OUT_W]))
        base += (below if mirror_y else above) * stride + (behind if mirror_x else before) * pixel
        top, left, height, width = top + above, left + before, height - above - below, width - before - behind
    return View(pixels, base, stride, pixel, top, left, height, width, mirror_x, mirror_y)


@compiled
def _last_that_makes_pixels(records):
    """Return which record is the last one that makes pixels, -1 for none, and the mirroring behind it."""
    last, later_x, later_y = -1, np.int64(0), np.int64(0)
    for step in range(len(records)):
        if records[step, DO] == _ERASE:
            continue  # behind the last step that makes pixels, the output is erased instead
        if not _renames(records[step]):
            last, later_x, later_y = step, np.int64(0), np.int64(0)
        elif records[step, DO] == _FLIP:
            later_x ^= int(records[step, _MIRROR.across])
            later_y ^= int(records[step, _MIRROR.down])
    return (last, later_x, later_y) if last >= 0 else (last, np.int64(0), np.int64(0))


@compiled
def _done(record, view, region, output):
    """Return the view of a region after a record that makes pixels."""
    do = int(record[DO])
    if do == _CROP_RESIZE:
        return resize(record, view, region, output)
    if do == _AFFINE:
        return affine(record, view, region, output)
    if do == _PERSPECTIVE:
        return perspective(record, view, region, output)
    if do == _BLUR:
        return blur(record, view, region, output)
    if do == _ERASE:
        return erase(record, view, region)
    if do in COLOURS:
        return colour(record, view, region, output)
    return _copy(record, view, region, output)


@compiled(nogil=True)
def run_steps(view, records, output):
    """Take one image through its records into the output.

    Args:
        view: The whole image, or the part of it that is needed; RGB side by side.
        records: (n, RECORD) float64.
        output: Where the image goes; its last three numbers are set here.
    """
    steps = len(records)
    needed = np.empty((steps + 1, 4), np.int64)
    regions(records, output.height, output.width, needed)
    last, later_x, later_y = _last_that_makes_pixels(records)
    no, yes = np.int64(0), np.int64(1)  # a literal would make another type of tuple, and Numba compile all twice
    on_the_way, at_last = redirected(output, later_x, later_y, no), redirected(output, later_x, later_y, yes)
    for step in range(steps):
        record = records[step]
        if _renames(record):
            view = _rename(record, view)
        elif record[DO] != _ERASE or step < last:
            at = needed[step + 1]
            region = Region(at[0], at[1], at[2], at[3])
            view = _done(record, view, region, at_last if step == last else on_the_way)
    if last < 0:
        _copy(np.zeros(RECORD), view, Region(no, no, output.height, output.width), at_last)
    erase_output(records[last + 1 :], output)


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
