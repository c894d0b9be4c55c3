"""Which pixels of an axis an output pixel is made of, and their whole weights."""

from __future__ import annotations

import math
from typing import Any, NamedTuple

import numpy as np

from dalipipe.compilation import compiled
from dalipipe.decisions.regions import axis_support
from dalipipe.recipes.primitives import BICUBIC, BILINEAR

_MOST_BITS, _GREATEST = 22, 1 << 15


class Axis(NamedTuple):
    """One axis of a resize.

    Attributes:
        box: Its length before, px.
        out: Its length after, px.
        antialias: Whether the filter is widened when shrinking.
        interpolation: Its number.
        mirror: Whether it lies in memory the other way round.
    """

    box: Any
    out: Any
    antialias: Any
    interpolation: Any
    mirror: Any


class Taps(NamedTuple):
    """What some outputs along an axis are made of.

    Attributes:
        starts: (count,) int64: first tap, in px from the box's edge in memory; it never falls.
        counts: (count,) int64: number of taps.
        weights: (count * room,) int16: zeros behind the last tap of an output.
        room: Weights of an output, an even number.
        bits: A sum of levels by weights is 2 ** bits as large as the level.
    """

    starts: Any
    counts: Any
    weights: Any
    room: Any
    bits: Any


@compiled
def _weight(distance, interpolation):
    """Return the weight of a tap at a distance from the centre, in widths of the filter.

    Source: torch's aa_filter of HelperInterpLinear and HelperInterpCubic (a = -0.5), which are Pillow's.
    """
    if interpolation == BILINEAR:
        return max(0.0, 1.0 - distance)
    if interpolation != BICUBIC:
        return 1.0  # the one px that is nearest
    if distance < 1.0:
        return (1.5 * distance - 2.5) * distance * distance + 1.0
    return ((-0.5 * distance + 2.5) * distance - 4.0) * distance + 2.0 if distance < 2.0 else 0.0


@compiled
def _write_smooth(weights, at, taps, center, shrinking, interpolation):
    """Write the weights of an output, which sum to 1; return the greatest. `taps` are (first, one past the last).

    Source: torch's _compute_indices_min_size_weights_aa.
    """
    low, high = taps
    total, greatest = 0.0, 0.0
    for tap in range(low, high):
        weight = _weight(abs((tap - center + 0.5) * shrinking), interpolation)
        weights[at + tap - low] = weight
        total += weight
    for tap in range(at, at + high - low):
        weights[tap] /= total
        greatest = max(greatest, weights[tap])
    return greatest


@compiled
def _write_between(weights, at, taps, center):
    """Write the weights of an output that lies between two px, or on the last; return the greatest.

    Source: torch's _compute_indices_min_size_weights.
    """
    low, high = taps
    share = min(max(max(center - 0.5, 0.0) - low, 0.0), 1.0)
    first, second = 1.0 - share, 1.0 - (1.0 - share)
    if high - low == 1:
        first += second
    else:
        weights[at + 1] = second
    weights[at] = first
    return max(first, second)


@compiled
def _bits_for(greatest):
    """Return by how many bits weights are shifted so that the greatest one just fits into 16."""
    bits = 0
    while bits < _MOST_BITS and int(0.5 + greatest * (2 << bits)) < _GREATEST:
        bits += 1
    return bits


@compiled
def taps_of(axis, first, count):
    """Return the taps of `count` outputs from the first on along an axis, as it lies in memory.

    How far weights are shifted depends on the greatest of the whole axis.

    Source: torch's _compute_index_ranges_int16_weights.
    """
    scale, out = axis.box / axis.out, int(axis.out)
    stretch = max(scale, 1.0) if axis.antialias else 1.0
    between = axis.interpolation == BILINEAR and not axis.antialias and axis.box != axis.out
    room = 2 * math.ceil((2.0 if axis.interpolation == BICUBIC else 1.0) * stretch) + 2
    exact, greatest = np.zeros(out * room, np.float64), 0.0
    starts, counts = np.empty(count, np.int64), np.empty(count, np.int64)
    for i in range(out):
        taps = axis_support(i, axis.box, axis.out, axis.antialias, axis.interpolation)
        center = scale * (i + 0.5)
        if between:
            most = _write_between(exact, i * room, taps, center)
        else:
            most = _write_smooth(exact, i * room, taps, center, 1.0 / stretch, axis.interpolation)
        greatest = max(greatest, most)
        place = (out - 1 - i if axis.mirror else i) - first
        if 0 <= place < count:
            starts[place] = axis.box - taps[1] if axis.mirror else taps[0]
            counts[place] = taps[1] - taps[0]
    bits = _bits_for(greatest)
    weights = np.zeros(count * room, np.int16)
    for place in range(count):
        i = out - 1 - first - place if axis.mirror else first + place
        at, step = (i * room + counts[place] - 1, -1) if axis.mirror else (i * room, 1)
        for tap in range(counts[place]):
            value = exact[at + step * tap] * (1 << bits)
            weights[place * room + tap] = int(value + math.copysign(0.5, value))
    return Taps(starts, counts, weights, room, bits)
