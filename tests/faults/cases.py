"""What may lie where an image should: named cases, each with a function that makes it."""

from __future__ import annotations

import io
import os
import shutil
from collections.abc import Callable
from dataclasses import dataclass, field
from functools import cache
from pathlib import Path

import numpy as np
from PIL import Image

from tests.faults import headers

EVERY = frozenset({"dali-cpu", "dali-cpu-stock", "torchvision"})
NONE: frozenset[str] = frozenset()


def pixels(height: int, width: int, seed: int = 0) -> np.ndarray:
    """Return an image that compresses as a photo does: a gradient with some noise."""
    rng = np.random.default_rng(seed)
    ramp = np.add.outer(np.linspace(0, 120, height), np.linspace(90, 0, width))
    noise = rng.normal(0, 14, (height, width, 3))
    return np.clip(ramp[:, :, None] + [0, 20, 40] + noise, 0, 255).astype(np.uint8)


def encode(form: str = "JPEG", seed: int = 0, size: tuple[int, int] = (41, 53), **options: object) -> bytes:
    """Return an encoded image."""
    buffer = io.BytesIO()
    mode = str(options.pop("mode", "RGB"))
    Image.fromarray(pixels(*size, seed)).convert(mode).save(buffer, form, **options)
    return buffer.getvalue()


@dataclass(frozen=True)
class Case:
    """Something that may lie where an image should.

    Attributes:
        name: What it is.
        make: Makes it at a path where nothing lies.
        delivered: Names of the backends that make an image of it.
        reason: What the reason contains, whatever backend gives it.
        as_other_user: Whether it shows only where the process is not root.
    """

    name: str
    make: Callable[[Path], object]
    delivered: frozenset[str] = NONE
    reason: str = ""
    as_other_user: bool = field(default=False)


def _content(name: str, data: bytes, **options: object) -> Case:
    return Case(name, lambda path: path.write_bytes(data), **options)  # type: ignore[arg-type]


FORMS: dict[str, Callable[[], bytes]] = {
    "JPEG": lambda: encode("JPEG", quality=90),
    "progressive JPEG": lambda: encode("JPEG", quality=90, progressive=True),
    "PNG": lambda: encode("PNG"),
    "WebP": lambda: encode("WEBP", quality=80),
    "TIFF": lambda: encode("TIFF"),
}


def _truncated() -> list[Case]:
    cases = []
    for form, make in FORMS.items():
        data = make()
        for tenth in range(1, 10):
            part = data[: len(data) * tenth // 10]
            cases.append(_content(f"{form} cut after {tenth} tenths", part))
    return cases


def _no_permission(path: Path) -> None:
    path.write_bytes(encode())
    path.chmod(0)


def _link_to_itself(path: Path) -> None:
    path.symlink_to(path.name)


def _links_in_a_circle(path: Path) -> None:
    other = path.with_name("circle of " + path.name)
    path.symlink_to(other.name)
    other.unlink(missing_ok=True)
    other.symlink_to(path.name)


HTML = b"<!DOCTYPE html>\n<html><head><title>404 Not Found</title></head><body><h1>Not Found</h1></body></html>\n"


@cache
def cases() -> list[Case]:
    """Return every case."""
    garbage = np.random.default_rng(7).bytes(5000)
    return [
        *_truncated(),
        _content("garbage", garbage),
        _content("garbage behind a JPEG's first bytes", encode()[:4] + garbage),
        _content("garbage behind a PNG's first bytes", encode("PNG")[:16] + garbage),
        _content("empty", b"", reason="empty"),
        _content("one byte", b"\xff"),
        _content("HTML", HTML),
        _content("zeros", bytes(5000)),
        _content("GIF", encode("GIF"), delivered=EVERY),
        _content("TIFF whose pixels begin at a fraction", headers.tiff_at_a_fraction()),
        _content("1 x 1", encode(size=(1, 1)), delivered=EVERY),
        _content("1 x 65500", encode(size=(1, 65500)), delivered=EVERY),
        _content("65500 x 1", encode(size=(65500, 1)), delivered=EVERY),
        *(
            _content(f"{name} that claims too many px", make(*size), reason="more than the limit of")
            for name, (make, size) in headers.CLAIMS.items()
        ),
        Case("a folder", lambda path: path.mkdir(), reason="is a directory"),
        Case("missing", lambda path: None, reason="no such file or directory"),
        Case("no read permission", _no_permission, reason="permission denied", as_other_user=True),
        Case("a link to nothing", lambda path: path.symlink_to("nothing"), reason="no such file or directory"),
        Case("a link to itself", _link_to_itself, reason="too many levels of symbolic links"),
        Case("links in a circle", _links_in_a_circle, reason="too many levels of symbolic links"),
    ]


def remove(path: Path) -> None:
    """Remove whatever a case made at a path."""
    if path.is_dir() and not path.is_symlink():
        shutil.rmtree(path)
    else:
        path.unlink(missing_ok=True)


NAMES = {
    "newline": b"a\nb.jpg",
    "carriage return and tab": b"a\r\tb.jpg",
    "quotes": b'it\'s "so" `called`.jpg',
    "emoji": "\N{DOG FACE}\u200d.jpg".encode(),
    "not UTF-8": b"\xff\xfe\xe9.jpg",
    "255 bytes": b"n" * 251 + b".jpg",
    "255 bytes that are not UTF-8": b"\xe9" * 251 + b".jpg",
    "blanks": b"  .jpg",
    "backslash": b"a\\n\\x00.jpg",
    "shell": b"$(false) && *?[a]{b};<c>|d#%s%n~.jpg",
    "terminal": b"\x1b[31mred\x07.jpg",
    "right to left": "\u202egpj.a.jpg".encode(),
    "dash": b"-rf.jpg",
    "upper case": b"A.JPEG",
    "dots": b"a..b...jpg",
}
"""File names that are legal, as bytes, by what is odd about them."""


def name_path(folder: Path, name: bytes) -> Path:
    """Return the path of a file with such a name."""
    return folder / os.fsdecode(name)
