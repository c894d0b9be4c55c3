"""A look at a PNG file, from its first chunk to its last; pure, compiled by Numba.

Source: the PNG specification, third edition; PIL.PngImagePlugin, whose checks of chunks are repeated here.
"""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray

from dalipipe.backends import forms
from dalipipe.compilation import compiled
from dalipipe.decisions.orientation import begins, number

_PNG, _DEEP, _MOVES, _PROFILE, _ODD = forms.PNG, forms.PNG_DEEP, forms.PNG_MOVES, forms.PNG_PROFILE, forms.PNG_ODD


def _checks() -> NDArray[np.uint32]:
    """Return the table of CRC-32."""
    table = np.arange(256, dtype=np.uint32)
    for _ in range(8):
        table = np.where(table & 1, np.uint32(0xEDB88320) ^ (table >> 1), table >> 1).astype(np.uint32)
    return table


_TABLE = _checks()


@compiled
def _crc(data, begin, end):
    """Return the CRC-32 of some bytes."""
    found = np.uint32(0xFFFFFFFF)
    for place in range(begin, end):
        found = _TABLE[(found ^ data[place]) & np.uint32(0xFF)] ^ (found >> np.uint32(8))
    return found ^ np.uint32(0xFFFFFFFF)


@compiled
def _of_header(data):
    """Return the form that the header, the first chunk, tells of."""
    if len(data) < 33 or number(data, 8, 4, True) != 13 or not begins(data, 12, b"IHDR"):
        return _ODD
    depth, colours, interlaced = data[24], data[25], data[28]
    if data[26] or data[27] or interlaced > 1 or number(data, 16, 4, True) == 0 or number(data, 20, 4, True) == 0:
        return _ODD
    if depth == 16:
        return _DEEP
    few = depth == 1 or depth == 2 or depth == 4
    if (few and (colours == 0 or colours == 3)) or (depth == 8 and colours in (0, 2, 3, 4, 6)):
        return _PNG
    return _ODD


@compiled
def png_form(data):
    """Return the form, width and height of a PNG file: (n,) uint8 that begins as one."""
    form = _of_header(data)
    if form != _PNG:
        known = form == _DEEP
        return form, (number(data, 16, 4, True) if known else 0), (number(data, 20, 4, True) if known else 0)
    width, height = number(data, 16, 4, True), number(data, 20, 4, True)
    at, pictures, palettes, last, found = 8, 0, 0, False, _PNG
    while at + 12 <= len(data):
        size = number(data, at, 4, True)
        if at + 12 + size > len(data):
            break
        if begins(data, at + 4, b"acTL"):
            return _MOVES, width, height
        if begins(data, at + 4, b"IDAT"):
            if pictures and not last:  # something stands between
                break
            pictures, last = pictures + 1, True
        else:
            last = False
            if np.int64(_crc(data, at + 4, at + 8 + size)) != number(data, at + 8 + size, 4, True):
                break
            if begins(data, at + 4, b"PLTE"):
                palettes += 1
                if size == 0 or size % 3 or size > 768 or pictures or palettes > 1:
                    break
            if begins(data, at + 4, b"iCCP") or begins(data, at + 4, b"zTXt") or begins(data, at + 4, b"iTXt"):
                found = _PROFILE
            if begins(data, at + 4, b"IEND"):
                fits = pictures > 0 and (palettes == 1 or data[25] != 3)
                return (found if fits else _ODD), width, height
        at += 12 + size
    return _ODD, width, height
