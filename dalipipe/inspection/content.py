"""What a file holds, by its bytes: which form of image, how large, what is unusual; or what it is instead."""

from __future__ import annotations

import io
import re
from dataclasses import dataclass
from typing import Any, Final

import numpy as np
from PIL import Image

from dalipipe.backends.forms import JPEG_CODING, JPEG_DEEP, OTHER
from dalipipe.backends.look import form_of
from dalipipe.limits import pixel_limit

ENDINGS: Final = {
    "JPEG": (".jpg", ".jpeg"),
    "MPO": (".jpg", ".jpeg"),  # a JPEG with more pictures behind the first
    "PNG": (".png",),
    "WEBP": (".webp",),
    "BMP": (".bmp",),
    "TIFF": (".tif", ".tiff"),
    "PPM": (".ppm", ".pgm"),
}
"""Endings of the forms, as Pillow names them, that have one of `IMG_EXTENSIONS`; the first is the one to choose."""

_ORIENTATION = 274  # the tag of EXIF
_BITS_PER_SAMPLE = 258  # the tag of TIFF
_LIES: Final = {
    2: "mirrored",
    3: "upside down",
    4: "upside down and mirrored",
    5: "on its side and mirrored",
    6: "on its side",
    7: "on its side and mirrored",
    8: "on its side",
}
_BEGINNINGS: Final = {
    b"\xff\xd8\xff": "a JPEG",
    b"\x89PNG\r\n\x1a\n": "a PNG",
    b"GIF8": "a GIF",
    b"II*\0\x10\0\0\0CR": "a camera's raw photo",
    b"II*\0": "a TIFF",
    b"MM\0*": "a TIFF",
    b"8BPS": "a Photoshop file",
    b"\xff\x0a": "a JPEG XL image",
    b"\0\0\0\x0cJXL ": "a JPEG XL image",
    b"FUJIFILMCCD-RAW": "a camera's raw photo",
    b"IIRO": "a camera's raw photo",
    b"%PDF": "a PDF",
    b"PK\x03\x04": "a ZIP archive",
    b"\x1f\x8b": "a gzip archive",
    b"Rar!": "a RAR archive",
    b"7z\xbc\xaf": "a 7z archive",
    b"version https://git-lfs": "a pointer of Git LFS, not the file itself",
}
_BRANDS: Final = {b"heic": "a HEIC photo", b"heix": "a HEIC photo", b"mif1": "a HEIF photo", b"avif": "an AVIF image"}
_UNREAD: Final = {
    name: name for name in (*_BRANDS.values(), "a Photoshop file", "a JPEG XL image", "a camera's raw photo")
}
"""Intact images, for all that one knows, that Pillow doesn't read as it is installed here."""
_TEXT_BYTES = 4096


@dataclass(frozen=True)
class Content:
    """What the header of a file says.

    Attributes:
        form: The form of the image, as Pillow names it; None where Pillow finds none.
        width: Of the image, px; 0 where it isn't known.
        height: Of the image, px; 0 where it isn't known.
        claimed_px: Pixels that the header claims, where Pillow refuses so many; else 0.
        traits: What is unusual about it, in words.
    """

    form: str | None = None
    width: int = 0
    height: int = 0
    claimed_px: int = 0
    traits: tuple[str, ...] = ()


def sniff(data: bytes) -> Content:
    """Return what the header of a file says; nothing is decoded."""
    try:
        with Image.open(io.BytesIO(data)) as image:
            return Content(image.format, image.width, image.height, traits=tuple(_traits(image, data)))
    except Image.DecompressionBombError as error:
        claimed = re.search(r"\((\d+) pixels\)", str(error))
        return Content(claimed_px=int(claimed.group(1)) if claimed else (pixel_limit() or 0) + 1)
    except Exception:  # on broken files the readers of Pillow raise whatever comes
        return Content()


def _traits(image: Image.Image, data: bytes) -> list[str]:
    found = []
    if min(image.size) == 1:
        found.append(f"{image.width} x {image.height} px")
    bits = _bits(image, data)
    if bits > 8:
        # As Pillow makes RGB of them: single channels are cut, several are scaled when the file is read.
        cut = image.mode.startswith(("I", "F"))
        fate = "levels above 255 come out white" if cut else "the upper 8 count"
        found.append(f"{bits} bits a channel, of which {fate}: convert it to 8")
    if image.mode == "CMYK":
        found.append("CMYK colours, as for print")
    lies = _LIES.get(_orientation(image))
    if lies is not None:
        found.append(
            f"EXIF says that it is to be turned, which is done only where the recipe asks for it: it lies {lies}"
        )
    if image.format in ("JPEG", "MPO") and not _jpeg_ends(data):
        found.append("a JPEG without its end: part of the picture may be missing")
    return found


def _bits(image: Image.Image, data: bytes) -> int:
    if image.format == "PNG":
        return data[24]
    tags: Any = getattr(image, "tag_v2", None)
    if tags is not None:
        return int(max(tags.get(_BITS_PER_SAMPLE, (1,))))
    return 16 if image.mode.startswith(("I", "F")) else 8


def _orientation(image: Image.Image) -> int:
    if "exif" not in image.info or image.format == "TIFF":  # which Pillow turns as its own tag says
        return 1
    try:
        return int(image.getexif().get(_ORIENTATION, 1))
    except Exception:  # a broken EXIF block says nothing about the picture
        return 1


def ends_early(data: bytes) -> bool:
    """Return whether bytes that begin as an image of a known form stop before that form's end.

    True is certain; of TIFF, PPM and JPEG 2000 a missing end is not always seen.
    """
    if data.startswith(b"\xff\xd8\xff"):
        return not _jpeg_ends(data)
    if data.startswith(b"\x89PNG\r\n\x1a\n"):
        return not _png_ends(data)
    if data.startswith(b"RIFF") and data[8:12] in (b"WEBP", b""):
        return len(data) < 8 + int.from_bytes(data[4:8], "little")
    if data.startswith(b"BM") and len(data) >= 6:
        return len(data) < int.from_bytes(data[2:6], "little")
    if data.startswith((b"II*\0", b"MM\0*")):
        order: Any = "little" if data.startswith(b"II") else "big"
        return len(data) <= int.from_bytes(data[4:8], order)
    return len(data) > 1 and any(beginning.startswith(data) for beginning in (b"\xff\xd8\xff", b"\x89PNG\r\n\x1a\n"))


def _jpeg_ends(data: bytes) -> bool:
    """Return whether the marker of the end follows the picture; one inside an embedded thumbnail doesn't count."""
    end = data.rfind(b"\xff\xd9")
    if end >= len(data) - 2:
        return True
    at = 2
    while at + 4 <= len(data) and data[at] == 0xFF:
        if data[at + 1] == 0xDA:  # the picture itself
            return end > at
        at += 1 if data[at + 1] == 0xFF else 2 + int.from_bytes(data[at + 2 : at + 4], "big")
    return False


def _png_ends(data: bytes) -> bool:
    at = 8
    while at + 12 <= len(data):
        if data[at + 4 : at + 8] == b"IEND":
            return True
        at += 12 + int.from_bytes(data[at : at + 4], "big")
    return False


def explain(data: bytes, form: str | None, reason: str) -> tuple[str, str]:
    """Return ("truncated" or "undecodable", what is the matter) of bytes that can't be decoded.

    Args:
        data: The whole file; its image must be of a size that may be decoded.
        form: Of the image, as `sniff` found it.
        reason: What the decoder says.
    """
    known = _named(form) if form is not None else seems(data)
    if ends_early(data) or (form is not None and _pillow_misses_the_end(data)):
        return "truncated", f"{known} that ends early, after {len(data):,} bytes"
    kind = _UNREAD.get(known) or _unread_jpeg(data)
    if kind is not None:
        return "undecodable", f"{kind}, which is not read here: convert it to an ordinary JPEG or PNG"
    if form is None:
        damaged = known.removeprefix("a ") in ("JPEG", "PNG", "TIFF", "GIF", "WebP")
        return "undecodable", f"{known} with a damaged header" if damaged else f"{known}, no image"
    jargon = reason in ("it can't be decoded", "Unsupported image type")
    return "undecodable", f"{known} that is damaged" + ("" if jargon else f": {reason}")


def _unread_jpeg(data: bytes) -> str | None:
    """Return what is to be said of a JPEG of a kind that Pillow doesn't read; None where it is of another kind."""
    form = int(form_of(np.frombuffer(data, np.uint8), -1)) if data.startswith(b"\xff\xd8\xff") else OTHER
    return {
        JPEG_DEEP: "a JPEG of 12 bits a channel",
        JPEG_CODING: "a JPEG, arithmetic, lossless or hierarchical",
    }.get(form)


def _named(form: str) -> str:
    shown = {"WEBP": "WebP", "JPEG2000": "JPEG 2000", "MPO": "JPEG"}.get(form, form)
    return f"{'an' if shown[0] in 'AEIOU' else 'a'} {shown}"


def _pillow_misses_the_end(data: bytes) -> bool:
    try:
        with Image.open(io.BytesIO(data)) as image:
            image.load()
    except Exception as error:
        return "truncated" in str(error).lower()
    return False


def seems(data: bytes) -> str:
    """Return what bytes seem to be in which Pillow finds no image."""
    if not data.strip(b"\0"):
        return f"nothing but zeros ({len(data):,} of them)"
    for beginning, name in _BEGINNINGS.items():
        if data.startswith(beginning):
            return name
    if data.startswith(b"RIFF"):
        return "a WebP" if data[8:12] == b"WEBP" else "a sound or a video"
    if data[4:8] == b"ftyp":
        return _BRANDS.get(data[8:12], "a video")
    head = data[:_TEXT_BYTES]
    start = head.lstrip(b"\xef\xbb\xbf \t\r\n").lower()
    if start.startswith((b"<!doctype html", b"<html", b"<head", b"<body")):
        return "an HTML page"
    if start.startswith((b"<svg", b"<?xml")):
        return "an SVG drawing" if b"<svg" in head.lower() else "an XML file"
    # A letter may be cut at the end of the head.
    text = head.decode("utf-8", "ignore")
    if len(text.encode()) >= len(head) - 3 and all(letter.isprintable() or letter in "\t\r\n\f" for letter in text):
        return "text"
    return "of no known kind"
