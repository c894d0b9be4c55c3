"""Gaussian blur: the vertical sums of a row first, the horizontal ones over them; borders are mirrored."""

from __future__ import annotations

import math

import numpy as np

from dalipipe.backends.kernels.colour import in_memory
from dalipipe.backends.kernels.views import canvas, emit, view_of
from dalipipe.compilation import compiled
from dalipipe.recipes.primitives import IN_H, IN_W, Primitive, places_of

_BLUR = places_of(Primitive.BLUR)


@compiled
def _taps(count, sigma):
    """Return the weights of a Gaussian, (count,) float32.

    Source: torchvision.transforms.v2.functional._misc._get_gaussian_kernel1d, whose taps lie 1 / sqrt(2) of their
    distance apart, so that the square needs no factor.
    """
    weights = np.empty(count, np.float64)
    for tap in range(count):
        distance = (tap - (count - 1) / 2.0) / math.sqrt(2.0)
        weights[tap] = math.exp(-((distance / sigma) ** 2))
    return (weights / weights.sum()).astype(np.float32)


@compiled
def _reflected(index, size):
    """Return the px that stands for one outside an axis, mirrored about the outermost px."""
    index = -index if index < 0 else index
    return 2 * (size - 1) - index if index >= size else index


@compiled(fastmath={"contract"})
def _add_line(total, pixels, begin, pixel, weight):
    for x in range(len(total) // 3):
        for channel in range(3):
            total[3 * x + channel] += weight * np.float32(pixels[begin + x * pixel + channel])


@compiled
def blur(record, view, region, output):
    """Blur the region of a BLUR record; return its view, mirrored as the one given is."""
    top, left, first_y, first_x = in_memory(record, view, region)
    rows, columns, height, width = region.height, region.width, int(record[IN_H]), int(record[IN_W])
    sigma = record[_BLUR.sigma]
    across, down = _taps(int(record[_BLUR.across]), sigma), _taps(int(record[_BLUR.down]), sigma)
    half_x, half_y = len(across) // 2, len(down) // 2
    pixel, stride = view.pixel, view.row
    # The columns that the taps of the region's columns look at, and which of those stands for each place.
    low, high = max(0, first_x - half_x), min(width, first_x + columns + half_x)
    total = np.empty(3 * (high - low), np.float32)
    column = np.empty(columns + 2 * half_x, np.int64)
    for x in range(len(column)):
        column[x] = 3 * (_reflected(first_x - half_x + x, width) - low)
    row, scratch, mirror, output = canvas(region, view, output)
    for y in range(rows):
        total[:] = np.float32(0.0)
        for tap in range(len(down)):
            line = _reflected(first_y + y + tap - half_y, height)
            _add_line(total, view.pixels, view.base + (line - top) * stride + (low - left) * pixel, pixel, down[tap])
        position, step = (4 * (columns - 1), -4) if mirror else (0, 4)
        for x in range(columns):
            for channel in range(3):
                value = np.float32(0.0)
                for tap in range(len(across)):
                    value += across[tap] * total[column[x + tap] + channel]
                row[position + channel] = np.rint(value)
            position += step
        emit(row, y, scratch, output)
    return view_of(scratch, region, view.mirror_x, view.mirror_y)
