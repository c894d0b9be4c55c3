"""The form of an encoded image, where its format is told by its first bytes; WebP, BMP and PNM to the end."""

from __future__ import annotations

import numpy as np

from dalipipe.backends import forms
from dalipipe.backends.look.jpeg import jpeg_form
from dalipipe.backends.look.png import png_form
from dalipipe.compilation import compiled
from dalipipe.decisions.orientation import begins, number

_LARGE, _OTHER, _TIFF = forms.LARGE, forms.OTHER, forms.TIFF
_WEBP, _WEBP_MORE, _WEBP_ODD = forms.WEBP, forms.WEBP_MORE, forms.WEBP_ODD
_BMP, _BMP_MORE, _PNM, _PNM_MORE = forms.BMP, forms.BMP_MORE, forms.PNM, forms.PNM_MORE
_DALIS = np.array([forms.FORMS[form].dali for form in range(len(forms.FORMS))])


@compiled
def is_dalis(form):
    """Return whether DALI decodes files of a form."""
    return _DALIS[form]


@compiled
def form_of(data, limit):
    """Return the form of an encoded image, a key of `forms.FORMS`.

    Args:
        data: (n,) uint8, the bytes of a file.
        limit: Most px that it may claim; negative for any number.
    """
    if begins(data, 0, b"\xff\xd8\xff"):
        form, width, height = jpeg_form(data)
    elif begins(data, 0, b"\x89PNG\r\n\x1a\n"):
        form, width, height = png_form(data)
    elif begins(data, 0, b"RIFF") and begins(data, 8, b"WEBP"):
        form, width, height = _webp_form(data)
    elif begins(data, 0, b"BM"):
        form, width, height = _bmp_form(data)
    elif begins(data, 0, b"P") and len(data) > 2 and 0x31 <= data[1] <= 0x37:
        form, width, height = _pnm_form(data)
    elif begins(data, 0, b"II") or begins(data, 0, b"MM"):
        return _TIFF
    else:
        return _OTHER
    if limit >= 0 and height > 0 and width > limit // height:
        return _LARGE
    return form


@compiled
def _webp_form(data):
    """Return the form, width and height of a WebP file."""
    if begins(data, 12, b"VP8X"):
        return _WEBP_MORE, 0, 0
    if len(data) < 30:
        return _WEBP_ODD, 0, 0
    whole, size = number(data, 4, 4, False), number(data, 16, 4, False)
    if whole + 8 != len(data) or 12 + size + (size & 1) != whole:
        return _WEBP_ODD, 0, 0
    if begins(data, 12, b"VP8 ") and begins(data, 23, b"\x9d\x01\x2a") and data[20] & 1 == 0:
        width, height = number(data, 26, 2, False) & 0x3FFF, number(data, 28, 2, False) & 0x3FFF
    elif begins(data, 12, b"VP8L") and data[20] == 0x2F:
        packed = number(data, 21, 4, False)
        width, height = (packed & 0x3FFF) + 1, (packed >> 14 & 0x3FFF) + 1
    else:
        return _WEBP_ODD, 0, 0
    return (_WEBP if width > 0 and height > 0 else _WEBP_ODD), width, height


@compiled
def _bmp_form(data):
    """Return the form, width and height of a BMP file."""
    if len(data) < 54 or number(data, 14, 4, False) != 40:
        return _BMP_MORE, 0, 0
    width, height = number(data, 18, 4, False), number(data, 22, 4, False)
    start, bits, compression = number(data, 10, 4, False), number(data, 28, 2, False), number(data, 30, 4, False)
    colours = number(data, 46, 4, False)
    if width <= 0 or height <= 0 or width >= 1 << 31 or height >= 1 << 31 or compression != 0:
        return _BMP_MORE, 0, 0  # negative ones, upside down, among them
    if number(data, 26, 2, False) != 1 or not (bits == 24 or (bits == 8 and colours in (0, 256))):
        return _BMP_MORE, width, height
    head = 54 if bits == 24 else 54 + 4 * 256
    row = (width * bits // 8 + 3) // 4 * 4
    whole = start == head and len(data) >= head and height <= (len(data) - head) // row
    return (_BMP if whole and (bits == 8 or colours == 0) else _BMP_MORE), width, height


@compiled
def _digits(data, at):
    """Return the number in digits at a place and where it ends; -1 where there is none or it is long."""
    found, begin = 0, at
    while at < len(data) and at - begin < 10 and 0x30 <= data[at] <= 0x39:
        found = 10 * found + (np.int64(data[at]) - 0x30)
        at += 1
    return (found if begin < at < begin + 10 else -1), at


@compiled
def _pnm_form(data):
    """Return the form, width and height of a PNM file."""
    if data[1] != 0x35 and data[1] != 0x36:
        return _PNM_MORE, 0, 0
    width, height, at, most = 0, 0, 2, 0
    for turn in range(3):
        if at >= len(data) or (data[at] != 0x0A and data[at] != 0x20):
            return _PNM_MORE, 0, 0
        most, at = _digits(data, at + 1)
        if turn == 0:
            width = most
        elif turn == 1:
            height = most
    if width <= 0 or height <= 0 or most != 255 or at >= len(data) or (data[at] != 0x0A and data[at] != 0x20):
        return _PNM_MORE, 0, 0
    row = width * (3 if data[1] == 0x36 else 1)
    return (_PNM if height <= (len(data) - at - 1) // row else _PNM_MORE), width, height
