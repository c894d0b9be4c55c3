"""Pictures with captions: tiles, lines of text in a given width, one look for all of them."""

from __future__ import annotations

from functools import cache
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray
from PIL import Image, ImageDraw, ImageFont

from dalipipe.errors import ConfigError
from dalipipe.writing import ending_of, write_file

BACKGROUND, INK, GREY, LINE, ACCENT = "#ffffff", "#1f2328", "#6b7280", "#e5e7eb", "#2563eb"


@cache
def _font(size_px: int) -> Any:
    return ImageFont.load_default(size_px)


class Canvas:
    """A white picture to put tiles and text on. All coordinates are px from the top left.

    Args:
        width: Of the picture.
        height: Of the picture.
    """

    def __init__(self, width: int, height: int) -> None:
        self.image = Image.new("RGB", (width, height), BACKGROUND)
        self._draw = ImageDraw.Draw(self.image)

    def text(
        self, at: tuple[float, float], text: str, size_px: int = 13, colour: str = INK, width: int | None = None
    ) -> float:
        """Write a line, cut to a width, and return where it ends.

        Args:
            at: Top left corner.
            text: The line. What the font can't show becomes a question mark.
            size_px: Height of the letters.
            colour: Of the letters.
            width: Most that it may take; cut text ends in three dots.
        """
        font = _font(size_px)
        shown = "".join(letter if letter.isprintable() and ord(letter) < 0x2200 else "?" for letter in text)
        if width is not None and font.getlength(shown) > width:
            while shown and font.getlength(shown + "...") > width:
                shown = shown[:-1]
            shown = shown.rstrip() + "..."
        self._draw.text(at, shown, fill=colour, font=font)
        return at[0] + float(font.getlength(shown))

    def line(self, start: tuple[float, float], end: tuple[float, float], colour: str = LINE) -> None:
        """Draw a hairline."""
        self._draw.line([start, end], fill=colour, width=1)

    def tile(self, at: tuple[int, int], pixels: NDArray[np.uint8], side: int, frame: str = LINE) -> None:
        """Put an image (H, W, 3) in the middle of a square, as large as fits, with a hairline around it.

        Few pixels are enlarged as they are, so that one can count them.
        """
        image = Image.fromarray(pixels)
        factor = side / max(image.size)
        size = (max(1, round(image.width * factor)), max(1, round(image.height * factor)))
        method = Image.Resampling.NEAREST if factor >= 2 else Image.Resampling.LANCZOS
        shown = image.resize(size, method)
        left, top = at[0] + (side - size[0]) // 2, at[1] + (side - size[1]) // 2
        self.image.paste(shown, (left, top))
        self._draw.rectangle([left - 1, top - 1, left + size[0], top + size[1]], outline=frame, width=1)


def text_width(text: str, size_px: int = 13) -> float:
    """Return how wide a line of text is, px."""
    return float(_font(size_px).getlength(text))


def save(image: Image.Image, path: Any) -> None:
    """Write a picture; the ending of its name says in which form.

    Raises:
        ConfigError: the file can't be written, or the ending is none that Pillow knows.
    """
    form = require_form(Path(path))
    write_file(Path(path), lambda file: image.save(file, form))


def require_form(path: Path) -> str:
    """Return the form of a picture that the ending of its name asks for.

    Raises:
        ConfigError: it is none that Pillow knows.
    """
    form = Image.registered_extensions().get(ending_of(path))
    if form is None or form not in Image.SAVE:
        raise ConfigError(
            f"{path}: must be writable, got: an ending that no picture has. Choose another file, such as out.png."
        )
    return form
