"""A BMP file whose header points out of the file is told before DALI looks at it, which would end the process."""

import io
import struct

import numpy as np
import pytest
from PIL import Image

from dalipipe.backends.compiled import is_sound


def bmp(mode: str = "P") -> bytearray:
    buffer = io.BytesIO()
    Image.new("RGB", (5, 3), (200, 10, 90)).convert(mode).save(buffer, "BMP")
    return bytearray(buffer.getvalue())


def with_numbers(**numbers: int) -> bytes:
    data = bmp()
    places = {"header": (14, "<I"), "bits": (28, "<H"), "colours": (46, "<I")}
    for name, number in numbers.items():
        struct.pack_into(places[name][1], data, places[name][0], number)
    return bytes(data)


def old(bits: int, length: int) -> bytes:
    """A header of OS/2: 12 bytes, 3 bytes a colour."""
    head = b"BM" + bytes(12) + struct.pack("<IHHHH", 12, 5, 3, 1, bits)
    return head + bytes(length - len(head))


SOUND = {
    "with a palette": bytes(bmp()),
    "without": bytes(bmp("RGB")),
    "grey": bytes(bmp("L")),
    "black and white": bytes(bmp("1")),
    "no palette, whatever it says": with_numbers(bits=24, colours=2**32 - 1, header=2**31),
    "old": old(8, 26 + 3 * 256),
    "old, no palette": old(24, 30),
    "short": b"BM" + bytes(10),
    "no BMP": b"\x89PNG\r\n\x1a\n" + b"\xff" * 60,
    "nothing": b"",
}
UNSOUND = {
    "a header of 128 MB": with_numbers(header=0x08000028),
    "the largest header": with_numbers(header=2**32 - 1),
    "colours without end": with_numbers(colours=2**32 - 1),
    "a colour too many": with_numbers(colours=(len(bmp()) - 54) // 4 + 1),
    "cut in the palette": bytes(bmp())[:100],
    "cut before the palette, colours by the bits": with_numbers(bits=8, colours=0)[:60],
    "old, cut in the palette": old(8, 26 + 3 * 256 - 1),
    "garbage that begins with BM": b"BM" + b"\x05" * 12 + b"\xff" * 4 + bytes(300),
}


@pytest.mark.parametrize("name", SOUND)
def test_what_dali_may_look_at(name):
    assert is_sound(np.frombuffer(SOUND[name], np.uint8))


@pytest.mark.parametrize("name", UNSOUND)
def test_what_it_may_not(name):
    assert not is_sound(np.frombuffer(UNSOUND[name], np.uint8))
