"""The images that differ most, from both sides, with their difference enlarged."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import PurePath

import numpy as np
from numpy.typing import NDArray
from PIL import Image

from dalipipe.parity import Comparison, Worst
from dalipipe.pictures.canvas import GREY, INK, Canvas

_TILE, _GAP, _MARGIN = 224, 16, 28
_ROW = _TILE + 58
_VISIBLE = 128.0  # levels that the largest difference of a picture is shown as
_LIMIT = 64


def draw_worst(comparisons: Sequence[Comparison]) -> Image.Image:
    """Return a picture with a row for each backend's worst images: reference, backend, difference.

    Where a recipe is compared alone, its worst four; of several recipes one each.
    """
    rows = _rows(comparisons)
    width = 2 * _MARGIN + 3 * _TILE + 2 * _GAP
    canvas = Canvas(width, 2 * _MARGIN + 64 + _ROW * max(1, len(rows)))
    canvas.text((_MARGIN, _MARGIN - 6), "What differs most from the reference", 22)
    canvas.text((_MARGIN, _MARGIN + 24), "torchvision, the backend, and their difference made visible", 14, GREY)
    top = _MARGIN + 64
    if not rows:
        canvas.text((_MARGIN, top), "There is no image to show.", 14)
    for recipe, backend, worst in rows:
        _row(canvas, top, f"{recipe} on {backend}", worst)
        top += _ROW
    return canvas.image


def _rows(comparisons: Sequence[Comparison]) -> list[tuple[str, str, Worst]]:
    many = 4 if len(comparisons) == 1 else 1
    return [
        (comparison.recipe, row.backend, worst)
        for comparison in comparisons
        for row in comparison.rows
        for worst in row.shown[:many]
    ]


def _row(canvas: Canvas, top: int, title: str, worst: Worst) -> None:
    assert worst.found is not None and worst.expected is not None
    gap = np.abs(worst.found - worst.expected)
    factor = min(float(_LIMIT), max(1.0, np.floor(_VISIBLE / gap.max()))) if gap.max() > 0 else 1.0
    name = PurePath(worst.name).name
    figures = f"mean {worst.mean_abs:.3f}, max {worst.max_abs:.3g} levels of 255"
    end = canvas.text((_MARGIN, top), title, 15, INK)
    canvas.text((end + 12, top + 2), f"{name}, draw {worst.draw}: {figures}", 13, GREY)
    titles = ("torchvision", title.rpartition(" on ")[2], f"difference, {factor:.0f} times")
    for number, (image, caption) in enumerate(zip((worst.expected, worst.found, gap * factor), titles, strict=True)):
        left = _MARGIN + number * (_TILE + _GAP)
        canvas.tile((left, top + 26), as_pixels(image), _TILE)
        canvas.text((left, top + 30 + _TILE), caption, 12, GREY)


def as_pixels(levels: NDArray[np.float64]) -> NDArray[np.uint8]:
    """Return levels (3, H, W) as pixels (H, W, 3) uint8."""
    return np.ascontiguousarray(np.clip(np.rint(levels), 0, 255).astype(np.uint8).transpose(1, 2, 0))
