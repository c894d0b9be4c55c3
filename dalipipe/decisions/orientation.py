"""Which way up a photo is to be shown, as its camera noted it: Exif's orientation; pure, compiled by Numba.

Source: Exif 2.32, tag 0x0112; `torchvision.io.decode_image(apply_exif_orientation=True)`, which looks at JPEG and PNG
files only, and `PIL.ImageOps.exif_transpose`. Neither can be called from DALI's threads, which run without the GIL, and
DALI 2.1 does not read the tag: so it is read here.
"""

from __future__ import annotations

from typing import TypeVar

import numpy as np
from numpy.typing import NDArray

from dalipipe.compilation import compiled

_TAG, _SHORT, _LONG = 0x0112, 3, 4

Scalar = TypeVar("Scalar", bound=np.generic)


@compiled
def number(data, at, count, big):
    """Return `count` bytes as an unsigned number."""
    found = 0
    for place in range(count):
        found = found << 8 | int(data[at + place if big else at + count - 1 - place])
    return found


@compiled
def begins(data, at, text):
    """Return whether some bytes stand at a place."""
    if at + len(text) > len(data):
        return False
    for place in range(len(text)):  # noqa: SIM110 - Numba compiles loops, not generators
        if data[at + place] != text[place]:
            return False
    return True


@compiled
def _of_tiff(data, begin, end):
    """Return the orientation in the first directory of an Exif block, 1 where it has none."""
    end = min(end, len(data))
    big = begins(data, begin, b"MM")
    if end - begin < 8 or not (big or begins(data, begin, b"II")):
        return 1
    directory = begin + number(data, begin + 4, 4, big)
    if directory + 2 > end:
        return 1
    for entry in range(number(data, directory, 2, big)):
        at = directory + 2 + 12 * entry
        if at + 12 > end:
            return 1
        if number(data, at, 2, big) != _TAG:
            continue
        kind = number(data, at + 2, 2, big)
        if kind in (_SHORT, _LONG):  # some writers take four bytes for it
            found = number(data, at + 8, 2 if kind == _SHORT else 4, big)
            return found if 1 <= found <= 8 else 1
    return 1


@compiled
def orientation_of(data):
    """Return the Exif orientation of an encoded image, 1 (as it is) to 8.

    Args:
        data: (n,) uint8, the bytes of a file. What is neither JPEG nor PNG, or is broken, has none.
    """
    if begins(data, 0, b"\xff\xd8"):
        at = 2
        while at + 4 <= len(data) and data[at] == 0xFF:
            marker, size = data[at + 1], number(data, at + 2, 2, True)
            if marker == 0xFF:  # a byte that fills
                at += 1
                continue
            if marker == 0xDA or marker == 0xD9:
                return 1
            if marker == 0xE1 and begins(data, at + 4, b"Exif\x00\x00"):
                return _of_tiff(data, at + 10, at + 2 + size)
            at += 2 + size
    elif begins(data, 0, b"\x89PNG\r\n\x1a\n"):
        at = 8
        while at + 8 <= len(data):
            size = number(data, at, 4, True)
            if begins(data, at + 4, b"eXIf"):
                return _of_tiff(data, at + 8, at + 8 + size)
            at += 12 + size
    return 1


@compiled
def turns(orientation):
    """Return whether to mirror left and right, top and bottom, and then to exchange rows and columns."""
    return (
        orientation == 2 or orientation == 3 or orientation == 7 or orientation == 8,
        orientation == 3 or orientation == 4 or orientation == 6 or orientation == 7,
        orientation >= 5,
    )


def upright(pixels: NDArray[Scalar], encoded: bytes) -> NDArray[Scalar]:
    """Return the pixels of an encoded image as they are to be shown.

    Shapes: (H, W, C) -> (H, W, C) or (W, H, C), contiguous.
    """
    across, down, exchanged = turns(orientation_of(np.frombuffer(encoded, np.uint8)))
    pixels = pixels[:: -1 if down else 1, :: -1 if across else 1]
    return np.ascontiguousarray(pixels.transpose(1, 0, 2) if exchanged else pixels)
