"""Colours: tables of levels, functions of a pixel, and the 3 x 3 filter that sharpens.

Sums of two products are rounded once where torch's vectorised kernels round once: in float64, then to float32.
"""

from __future__ import annotations

import numpy as np

from dalipipe.backends.kernels.views import canvas, emit, view_of
from dalipipe.compilation import compiled
from dalipipe.recipes.primitives import ARGS, DO, IN_H, IN_W, PERMUTATIONS, Primitive

_BRIGHTNESS, _CONTRAST, _SATURATION, _HUE = (
    Primitive.BRIGHTNESS.value,
    Primitive.CONTRAST.value,
    Primitive.SATURATION.value,
    Primitive.HUE.value,
)
_GRAYSCALE, _INVERT, _SOLARIZE, _POSTERIZE = (
    Primitive.GRAYSCALE.value,
    Primitive.INVERT.value,
    Primitive.SOLARIZE.value,
    Primitive.POSTERIZE.value,
)
_CONTRAST_GREY, _CHANNELS = Primitive.CONTRAST_GREY.value, Primitive.CHANNELS.value
_AUTOCONTRAST, _EQUALIZE, _SHARPNESS = Primitive.AUTOCONTRAST.value, Primitive.EQUALIZE.value, Primitive.SHARPNESS.value

_BY_TABLE = (
    _BRIGHTNESS,
    _CONTRAST,
    _CONTRAST_GREY,
    _INVERT,
    _SOLARIZE,
    _POSTERIZE,
    _AUTOCONTRAST,
    _EQUALIZE,
)
COLOURS = (*_BY_TABLE, _SATURATION, _HUE, _GRAYSCALE, _SHARPNESS, _CHANNELS)
"""What `colour` does: by a table of levels, and from the channels of a pixel or those around it."""


@compiled
def in_memory(record, view, region):
    """Return (top, left) of the pixels in memory and of a region, in px of the image as it lies there, mirrored."""
    top, left, first_y, first_x = view.top, view.left, region.top, region.left
    if view.mirror_y:
        height = int(record[IN_H])
        top, first_y = height - top - view.height, height - first_y - region.height
    if view.mirror_x:
        width = int(record[IN_W])
        left, first_x = width - left - view.width, width - first_x - region.width
    return top, left, first_y, first_x


@compiled
def _to_level(value):
    """Return a float32 as a whole level: clamped, then cut."""
    return np.floor(min(max(value, np.float32(0.0)), np.float32(255.0)))


@compiled
def _mixed(value, factor, other):
    """Return value * factor + other * (1 - factor) as a level.

    Source: torchvision.transforms.v2.functional._color._blend.
    """
    first = np.float32(value) * np.float32(factor)
    return _to_level(np.float32(np.float64(other) * np.float64(np.float32(1.0 - factor)) + np.float64(first)))


@compiled
def _grey(red, green, blue):
    """Return the whole level of grey of a pixel, as a float32.

    Source: torchvision.transforms.v2.functional._color._rgb_to_grayscale_image.
    """
    total = np.float32(red) * np.float32(0.2989)
    total = np.float32(np.float64(green) * np.float64(np.float32(0.587)) + np.float64(total))
    return np.floor(np.float32(np.float64(blue) * np.float64(np.float32(0.114)) + np.float64(total)))


@compiled
def _mean_grey(view, coloured):
    pixels = view.pixels
    total = 0.0
    pixel = view.pixel
    for y in range(view.height):
        begin = view.base + y * view.row
        line = 0.0
        for x in range(view.width):
            at = begin + x * pixel
            line += _grey(pixels[at], pixels[at + 1], pixels[at + 2]) if coloured else np.float32(pixels[at])
        total += line
    return np.float32(total / (view.height * view.width))


@compiled
def _histograms(view):
    pixels = view.pixels
    counts = np.zeros((3, 256), np.int64)
    pixel = view.pixel
    for y in range(view.height):
        begin = view.base + y * view.row
        for x in range(view.width):
            for channel in range(3):
                counts[channel, pixels[begin + x * pixel + channel]] += 1
    return counts


@compiled
def _stretched(counts, table):
    """Write a channel's table of autocontrast.

    Source: torchvision.transforms.v2.functional.autocontrast.
    """
    used = np.nonzero(counts)[0]
    low, high = np.float32(used[0]), np.float32(used[-1])
    scale = (high - low) * np.float32(1.0 / 255.0)
    if low == high:
        low, scale = np.float32(0.0), np.float32(1.0)
    for level in range(256):
        table[level] = _to_level((np.float32(level) - low) / scale)


@compiled
def _equalized(counts, table):
    """Write a channel's table of histogram equalization.

    Source: torchvision.transforms.v2.functional.equalize, which follows Pillow's ImageOps.equalize.
    """
    total = counts.sum()
    step = (total - counts[np.nonzero(counts)[0][-1]]) // 255
    below = 0
    for level in range(256):
        table[level] = min((below + step // 2) // step, 255) if step > 0 else level
        below += counts[level]
    if step > 0:
        table[0] = 0


@compiled
def _tables(record, view):
    """Return what becomes of each level of each channel, (3, 256) float32 whole levels."""
    do, argument = record[DO], record[ARGS]
    tables = np.empty((3, 256), np.float32)
    if do in (_AUTOCONTRAST, _EQUALIZE):
        counts = _histograms(view)
        for channel in range(3):
            if do == _EQUALIZE:
                _equalized(counts[channel], tables[channel])
            else:
                _stretched(counts[channel], tables[channel])
        return tables
    mean = np.float32(0.0)
    if do in (_CONTRAST, _CONTRAST_GREY):
        mean = _mean_grey(view, do == _CONTRAST)
    for level in range(256):
        value = np.float32(level)
        if do == _BRIGHTNESS:
            value = _to_level(value * np.float32(argument))
        elif do in (_CONTRAST, _CONTRAST_GREY):
            value = _mixed(value, argument, mean)
        elif do == _INVERT or (do == _SOLARIZE and value >= np.float32(argument)):
            value = np.float32(255 - level)
        elif do == _POSTERIZE:
            value = np.float32(level >> (8 - int(argument)) << (8 - int(argument)))
        tables[0, level], tables[1, level], tables[2, level] = value, value, value
    return tables


@compiled
def _turned(red, green, blue, shift):
    """Return a pixel with its hue moved by `shift` circles.

    Source: torchvision.transforms.v2.functional.adjust_hue.
    """
    one, unit = np.float32(1.0), np.float32(1.0 / 255.0)
    red, green, blue = np.float32(red) * unit, np.float32(green) * unit, np.float32(blue) * unit
    low, high = min(red, green, blue), max(red, green, blue)
    equal = low == high
    span = high - low
    saturation = span / (one if equal else high)
    divisor = one if equal else span
    rc, gc, bc = (high - red) / divisor, (high - green) / divisor, (high - blue) / divisor
    hue = bc - gc if high == red else (rc + np.float32(2.0)) - bc if high == green else (gc + np.float32(4.0)) - rc
    hue = hue * np.float32(1.0 / 6.0) + one
    hue = (hue - np.floor(hue)) + np.float32(shift)
    hue = (hue - np.floor(hue)) * np.float32(6.0)
    sector = np.floor(hue)
    part = saturation * (hue - sector)
    rest = one - saturation
    p = min(max(rest * high, np.float32(0.0)), one)
    q = min(max((one - part) * high, np.float32(0.0)), one)
    t = min(max((part + rest) * high, np.float32(0.0)), one)
    which = int(sector) % 6
    full = np.float32(255.999)
    red = high if which == 0 or which == 5 else q if which == 1 else t if which == 4 else p
    green = high if which == 1 or which == 2 else t if which == 0 else q if which == 3 else p
    blue = high if which == 3 or which == 4 else t if which == 2 else q if which == 5 else p
    return np.floor(red * full), np.floor(green * full), np.floor(blue * full)


@compiled
def _table_row(row, place, pixels, at, pixel, tables):
    position, step = place
    for x in range((len(row) - 16) // 4):
        for channel in range(3):
            row[position + channel] = tables[channel, pixels[at + x * pixel + channel]]
        position += step


@compiled
def _pixel_row(row, place, pixels, at, pixel, record):
    position, step = place
    do, argument = record[DO], record[ARGS]
    for x in range((len(row) - 16) // 4):
        begin = at + x * pixel
        red, green, blue = pixels[begin], pixels[begin + 1], pixels[begin + 2]
        if do == _HUE:
            row[position], row[position + 1], row[position + 2] = _turned(red, green, blue, argument)
        elif do == _GRAYSCALE:
            row[position] = _grey(red, green, blue)
            row[position + 1], row[position + 2] = row[position], row[position]
        elif do == _CHANNELS:
            first, second, third = PERMUTATIONS[int(argument)]
            row[position], row[position + 1] = pixels[begin + first], pixels[begin + second]
            row[position + 2] = pixels[begin + third]
        else:
            grey = _grey(red, green, blue)
            row[position] = _mixed(red, argument, grey)
            row[position + 1] = _mixed(green, argument, grey)
            row[position + 2] = _mixed(blue, argument, grey)
        position += step


@compiled
def _sharp_row(row, place, pixels, at, layout, edges, factor):
    """Write a row; `layout` is bytes a pixel and a row, `edges` says where the image ends: this row, first, last x."""
    position, step = place
    pixel, stride = layout
    count = (len(row) - 16) // 4
    alpha = np.float64(np.float32(1.0 - factor))
    outer, first, last = edges
    for x in range(count):
        for channel in range(3):
            here = at + x * pixel + channel
            value = np.float32(pixels[here])
            if not outer and x != first and x != last:
                total = 4 * np.int64(pixels[here])
                for line in (-stride, np.int64(0), stride):
                    begin = here + line
                    total += np.int64(pixels[begin - pixel]) + np.int64(pixels[begin]) + np.int64(pixels[begin + pixel])
                blurred = np.float32(np.rint(total / 13.0))
                value = _to_level(np.float32(np.float64(blurred - value) * alpha + np.float64(value)))
            row[position + channel] = value
        position += step


@compiled
def colour(record, view, region, output):
    """Recolour the region of a record; return its view, mirrored as the one given is.

    Source: for BRIGHTNESS to SHARPNESS the torchvision.transforms.v2.functional of the same name.
    """
    top, left, first_y, first_x = in_memory(record, view, region)
    rows, columns, pixels = region.height, region.width, view.pixels
    pixel, stride, do = view.pixel, view.row, record[DO]
    row, scratch, mirror, output = canvas(region, view, output)
    place = (4 * (columns - 1), -4) if mirror else (0, 4)
    by_table = do in _BY_TABLE
    tables = _tables(record, view) if by_table else np.empty((3, 256), np.float32)
    height, width = int(record[IN_H]), int(record[IN_W])
    edge_x = (0 - first_x, width - 1 - first_x)
    for y in range(rows):
        at = view.base + (first_y - top + y) * stride + (first_x - left) * pixel
        if by_table:
            _table_row(row, place, pixels, at, pixel, tables)
        elif do == _SHARPNESS:
            outer = first_y + y == 0 or first_y + y == height - 1 or height <= 2 or width <= 2
            _sharp_row(row, place, pixels, at, (pixel, stride), (outer, edge_x[0], edge_x[1]), record[ARGS])
        else:
            _pixel_row(row, place, pixels, at, pixel, record)
        emit(row, y, scratch, output)
    return view_of(scratch, region, view.mirror_x, view.mirror_y)
