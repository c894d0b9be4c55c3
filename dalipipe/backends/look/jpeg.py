"""A look at a JPEG file, from its first marker to its last; pure, compiled by Numba.

Source: ITU-T T.81, annex B; PIL.JpegImagePlugin, whose checks of segments are repeated here.
"""

from __future__ import annotations

import numpy as np

from dalipipe.backends import forms
from dalipipe.compilation import compiled
from dalipipe.decisions.orientation import begins, number

_JPEG, _PROGRESSIVE, _INK, _DEEP = forms.JPEG, forms.PROGRESSIVE, forms.JPEG_INK, forms.JPEG_DEEP
_CODING, _SCANS, _ODD = forms.JPEG_CODING, forms.JPEG_SCANS, forms.JPEG_ODD
_CHUNK = 256
_NONE, _FULL = np.uint8(0), np.uint8(0xFF)


@compiled
def _next_marker(data, at):
    """Return where the first marker in coded data stands that isn't one of restart; len(data) where there is none."""
    end = len(data) - 1
    while at + _CHUNK <= end:
        these, following = data[at : at + _CHUNK], data[at + 1 : at + _CHUNK + 1]
        met = np.uint8(0)
        for place in range(_CHUNK):  # without a way out, so that the compiler makes it wide
            code = following[place]
            met = max(met, np.uint8(1) if these[place] == _FULL and code != _NONE else _NONE)
        if met:
            for place in range(_CHUNK):
                if these[place] == 0xFF and following[place] != 0 and (following[place] & 0xF8) != 0xD0:
                    return at + place
        at += _CHUNK
    while at < end:
        if data[at] == 0xFF and data[at + 1] != 0 and (data[at + 1] & 0xF8) != 0xD0:
            return at
        at += 1
    return len(data)


@compiled
def _frame(data, at, size, marker):
    """Return what the segment of the frame says of the form (0: nothing against it)."""
    count = np.int64(data[at + 9]) if size > 7 else 0
    if size < 8 or size != 8 + 3 * count:
        return _ODD
    if data[at + 4] != 8:
        return _DEEP
    if marker != 0xC0 and marker != 0xC2:
        return _CODING
    if count != 1 and count != 3:
        return _INK
    for part in range(count):
        across, down = data[at + 11 + 3 * part] >> 4, data[at + 11 + 3 * part] & 15
        if count == 3 and part == 0:
            usual = (across == 1 or across == 2 or across == 4) and (down == 1 or down == 2 or down == 4)
            usual = usual and across * down <= 8
        else:
            usual = across == 1 and down == 1
        if not usual:
            return _SCANS
    return 0


@compiled
def _tables_fit(data, at, end):
    """Return whether a segment of quantisation tables holds whole tables of bytes."""
    while at < end:
        if data[at] > 3:
            return False
        at += 65
    return at == end


@compiled
def _scan(data, at, size, frame, marker, bits):
    """Return what the head of a scan says of the form (0: nothing against it), and note which bits it brings.

    Args:
        data: The file.
        at: Where the scan's marker stands.
        size: Of its segment.
        frame: Where the frame's marker stands.
        marker: The frame's.
        bits: (3, 64) int64, the least bit of each coefficient that has come; -1 for none.
    """
    channels, count = np.int64(data[frame + 9]), np.int64(data[at + 4]) if size > 2 else 0
    if count < 1 or count > channels or size != 6 + 2 * count:
        return _ODD
    first, last, low = np.int64(data[at + size - 1]), np.int64(data[at + size]), np.int64(data[at + size + 1] & 15)
    if marker == 0xC0:
        if first != 0 or last != 63 or data[at + size + 1] != 0:
            return _ODD
        if count != channels:
            return _SCANS
        return 0
    if first > last or last > 63 or (first == 0 and last != 0) or (first > 0 and count != 1):
        return _ODD
    for part in range(count):
        of = -1
        for channel in range(channels):
            if data[frame + 10 + 3 * channel] == data[at + 5 + 2 * part]:
                of = channel
        if of < 0:
            return _ODD
        for coefficient in range(first, last + 1):
            bits[of, coefficient] = low
    return 0


@compiled
def _segment_fits(data, at, size, marker):
    """Return whether a segment that says nothing of the form is as Pillow wants it."""
    if marker == 0xDB:
        return _tables_fit(data, at + 4, at + 2 + size)
    if marker == 0xE0 and begins(data, at + 4, b"JFIF"):
        return size >= 16
    if marker == 0xEE and begins(data, at + 4, b"Adobe"):
        return size >= 14
    if marker == 0xDD:
        return size == 4
    return marker == 0xC4 or marker == 0xFE or 0xE0 <= marker <= 0xEF


@compiled
def jpeg_form(data):
    """Return the form, width and height of a JPEG file: (n,) uint8 that begins as one."""
    width, height, frame, coding, scans = 0, 0, 0, 0, 0
    bits = np.full((3, 64), -1, np.int64)
    at = 2
    while at + 4 <= len(data) and data[at] == 0xFF:
        marker = np.int64(data[at + 1])
        if marker == 0xFF:  # a byte that fills
            at += 1
            continue
        size = number(data, at + 2, 2, True)
        if size < 2 or at + 2 + size > len(data):
            break
        if 0xC0 <= marker <= 0xCF and marker != 0xC4 and marker != 0xC8 and marker != 0xCC:
            if frame:
                break
            against = _frame(data, at, size, marker)
            if size >= 7:
                height, width = number(data, at + 5, 2, True), number(data, at + 7, 2, True)
            if against:
                return against, width, height
            frame, coding = at, marker
        elif marker == 0xDA:
            if not frame:
                break
            against = _scan(data, at, size, frame, coding, bits)
            if against:
                return against, width, height
            scans += 1
            at = _next_marker(data, at + 2 + size)
            if at + 2 <= len(data) and data[at + 1] == 0xD9:  # the end; what follows is none of the picture's
                return _finished(data, frame, coding, bits, width, height), width, height
            if coding == 0xC0:
                break
            continue
        elif not _segment_fits(data, at, size, marker):
            break
        at += 2 + size
    return _ODD, width, height


@compiled
def _finished(data, frame, coding, bits, width, height):
    """Return the form of a file that has its end."""
    if width == 0 or height == 0:
        return _ODD
    if coding == 0xC0:
        return _JPEG
    for channel in range(np.int64(data[frame + 9])):
        for coefficient in range(64):
            if bits[channel, coefficient] != 0:
                return _SCANS
    return _PROGRESSIVE
