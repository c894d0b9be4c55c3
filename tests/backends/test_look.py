"""Whose file it is, is told from its bytes: what DALI gets is whole, and of a kind that it decodes exactly."""

import io
import struct
import zlib

import numpy as np
import pytest
from PIL import Image

from dalipipe.backends import forms
from dalipipe.backends.look import form_of, is_dalis
from tests.faults.cases import encode
from tests.faults.mutations import damaged

NO_LIMIT = -1


def form(data: bytes, limit: int = NO_LIMIT) -> int:
    return form_of(np.frombuffer(data, np.uint8), limit)


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


UNSOUND_BMP = {
    "a header of 128 MB": with_numbers(header=0x08000028),
    "the largest header": with_numbers(header=2**32 - 1),
    "colours without end": with_numbers(colours=2**32 - 1),
    "a colour too many": with_numbers(colours=(len(bmp()) - 54) // 4 + 1),
    "cut in the palette": bytes(bmp())[:100],
    "cut before the palette, colours by the bits": with_numbers(bits=8, colours=0)[:60],
    "old, cut in the palette": old(8, 26 + 3 * 256 - 1),
    "garbage that begins with BM": b"BM" + b"\x05" * 12 + b"\xff" * 4 + bytes(300),
}


def with_segment(marker: int, content: bytes, data: bytes) -> bytes:
    """A JPEG with one more segment behind its first marker."""
    return data[:2] + struct.pack(">BBH", 0xFF, marker, 2 + len(content)) + content + data[2:]


def chunk(kind: bytes, content: bytes) -> bytes:
    return struct.pack(">I", len(content)) + kind + content + struct.pack(">I", zlib.crc32(kind + content))


JPEG, PROGRESSIVE, PNG = encode("JPEG"), encode("JPEG", progressive=True), encode("PNG")
SCAN = JPEG.index(b"\xff\xda")
DALIS = {
    "JPEG": JPEG,
    "JPEG, progressive": PROGRESSIVE,
    "JPEG, grey": encode("JPEG", mode="L"),
    "JPEG of every second colour": encode("JPEG", subsampling=2),
    "JPEG with marks of restart": encode("JPEG", restart_marker_blocks=2),
    "JPEG with zeros behind its end": JPEG + bytes(500),
    "JPEG with another behind its end": JPEG + JPEG,
    "JPEG with a long comment": with_segment(0xFE, bytes(60000), JPEG),
    "PNG": PNG,
    "PNG with a palette": encode("PNG", mode="P"),
    "PNG with alpha": encode("PNG", mode="RGBA"),
    "WebP": encode("WEBP", quality=80),
    "WebP, lossless": encode("WEBP", lossless=True),
    "BMP": bytes(bmp("RGB")),
    "BMP with a palette": bytes(bmp("L")),
    "PPM": encode("PPM"),
    "PGM": encode("PPM", mode="L"),
}
PILLOWS = {
    "JPEG without its end": (JPEG[:-2], forms.JPEG_ODD),
    "JPEG whose thumbnail has an end": (with_segment(0xE1, b"Exif\0\0" + JPEG, JPEG)[:-2], forms.JPEG_ODD),
    "JPEG with a mark within": (JPEG[: SCAN + 40] + b"\xff\xc1" + JPEG[SCAN + 40 :], forms.JPEG_ODD),
    "progressive JPEG whose last scans lack": (
        PROGRESSIVE[: PROGRESSIVE.rindex(b"\xff\xc4")] + b"\xff\xd9",
        forms.JPEG_SCANS,
    ),
    "JPEG in CMYK": (encode("JPEG", mode="CMYK"), forms.JPEG_INK),
    "JPEG of 12 bits": (JPEG.replace(b"\xff\xc0\x00\x11\x08", b"\xff\xc1\x00\x11\x0c"), forms.JPEG_DEEP),
    "JPEG in arithmetic code": (JPEG.replace(b"\xff\xc0", b"\xff\xc9"), forms.JPEG_CODING),
    "PNG of 16 bits": (encode("PNG", mode="I;16"), forms.PNG_DEEP),
    "animated PNG": (PNG[:33] + chunk(b"acTL", bytes(8)) + PNG[33:], forms.PNG_MOVES),
    "PNG with a damaged text": (PNG[:33] + chunk(b"tEXt", b"a\0b")[:-1] + b"?" + PNG[33:], forms.PNG_ODD),
    "PNG with a profile": (PNG[:33] + chunk(b"iCCP", b"a\0\0") + PNG[33:], forms.PNG_PROFILE),
    "PNG without its end": (PNG[:-12], forms.PNG_ODD),
    "WebP with Exif": (encode("WEBP", quality=80, exif=b"Exif\0\0II*\0"), forms.WEBP_MORE),
    "WebP with bytes behind its end": (encode("WEBP", quality=80) + bytes(4), forms.WEBP_ODD),
    "BMP, black and white": (bytes(bmp("1")), forms.BMP_MORE),
    "PGM with a comment": (b"P5\n# words\n1 1\n255\n\x07", forms.PNM_MORE),
    "PGM with a maximum of 100": (b"P5\n1 1\n100\n\x07", forms.PNM_MORE),
    "TIFF": (encode("TIFF"), forms.TIFF),
    "GIF": (encode("GIF"), forms.OTHER),
    "JPEG 2000": (encode("JPEG2000"), forms.OTHER),
    "nothing": (b"", forms.OTHER),
    "text": (b"this is no image", forms.OTHER),
}


@pytest.mark.parametrize("name", DALIS)
def test_what_dali_gets(name):
    assert is_dalis(form(DALIS[name]))


@pytest.mark.parametrize("name", PILLOWS)
def test_what_pillow_gets_and_why(name):
    data, expected = PILLOWS[name]
    assert form(data) == expected
    assert not is_dalis(expected)


@pytest.mark.parametrize("name", UNSOUND_BMP)
def test_dali_never_sees_a_bmp_whose_header_points_out_of_the_file_which_would_end_the_process(name):
    assert not is_dalis(form(UNSOUND_BMP[name]))


@pytest.mark.parametrize("name", DALIS)
def test_no_part_of_a_file_is_dalis(name):
    """Whether it is bad would depend on the window."""
    data = DALIS[name]
    if "behind its end" not in name:
        assert not any(is_dalis(form(data[:length])) for length in range(0, len(data), 7))


def test_what_claims_too_much_is_pillows_to_refuse():
    assert [form(PNG, limit) for limit in (41 * 53 - 1, 41 * 53)] == [forms.LARGE, forms.PNG]


def test_whatever_the_bytes_are_there_is_an_answer():
    assert {form(damaged(number)) for number in range(400)} <= set(forms.FORMS)


def test_every_form_has_a_row_with_a_reason():
    assert sorted(forms.FORMS) == list(range(len(forms.FORMS)))
    assert all(form.what and form.why for form in forms.FORMS.values())
