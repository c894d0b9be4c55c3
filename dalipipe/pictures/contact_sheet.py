"""A contact sheet: images, each beside what a recipe makes of it in several epochs."""

from __future__ import annotations

import logging
import os
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Final

import numpy as np
from numpy.typing import NDArray
from PIL import Image

from dalipipe import samples
from dalipipe.backends import Job, of_view
from dalipipe.backends.torchvision import decode
from dalipipe.decisions import randomness
from dalipipe.decisions.program import program
from dalipipe.errors import SourceError, listed
from dalipipe.parity import open_images, spread_out
from dalipipe.pictures.canvas import ACCENT, GREY, INK, Canvas
from dalipipe.pictures.epochs import augmented
from dalipipe.recipes import Recipe
from dalipipe.recipes.primitives import in_words
from dalipipe.sources import Source, name_of, split_sources

_TILE: Final = 128
_GAP: Final = 10
_MARGIN: Final = 24
_LABEL: Final = 150
_HEAD: Final = 74
_LINE: Final = 13
_log = logging.getLogger("dalipipe")


def preview(
    data: str | os.PathLike[str] | Source | None = None,
    recipe: str | Recipe = "small-data",
    *,
    images: int = 6,
    variants: int = 8,
    seed: int = 0,
    epoch: int = 0,
    decisions: bool = False,
    backend: str = "auto",
) -> Image.Image:
    """Return a picture of some images, each beside what a recipe makes of it. A notebook shows it.

    Args:
        data: A folder that holds a folder of images for each class (or a folder train that does), of which the images
            that `dalipipe train` trains on are shown; or a source; None for generated pictures.
        recipe: A recipe, its name or its file.
        images: How many, evenly spread over the data. Files that can't be used are left out, with a warning.
        variants: How many of each, from as many epochs; one for a recipe without random ops. Of a recipe of several
            views all views of each epoch.
        seed: Seed of the random decisions: a training with this seed sees these very images.
        epoch: The first epoch.
        decisions: Whether to write below each what was decided: box, flip, angle, factors.
        backend: What makes the images; "auto" is that of a training here.

    Raises:
        RecipeError: there is no such recipe, or it is one for text.
        SourceError: the data can't be used, or none of the images can be.
        ConfigError: there is no such backend.
        BackendError: the backend lacks an op of the recipe, or can't run here.
    """
    loaded = recipe if isinstance(recipe, Recipe) else Recipe.load(recipe)
    source = _training_images(data) if data is None or isinstance(data, str | os.PathLike) else data
    views = loaded.views
    epochs = range(epoch, epoch + (max(variants // len(views), 1) if loaded.is_random else 1))
    columns = [(number, view) for number in epochs for view in range(len(views))]
    indices = np.array(spread_out(len(source), images), np.int64)
    made, bad = augmented(Job(source, loaded, seed, batch_size=len(indices)), backend, epochs, indices)
    good = [place for place in range(len(indices)) if place not in bad]
    reasons = [f"{name_of(source, int(indices[place]))}: {reason}" for place, reason in bad.items()]
    if not good:
        raise SourceError(f"preview: some image must be usable, got none ({reasons[0]}). Check the files.")
    if bad:
        _log.warning("preview: %d images can't be used and are left out: %s", len(bad), listed(reasons, separator="; "))
    rows = []
    for row, position in enumerate(good):
        index = int(indices[position])
        original = decode(source.item(index), loaded).permute(1, 2, 0).numpy()
        words = [
            decided(views[view], seed, number, index, original.shape[:2], view) if decisions else []
            for number, view in columns
        ]
        rows.append(_Row(index, original, [images[row] for images in made], words))
    return _sheet(source, loaded, [_title(loaded, number, view, len(epochs)) for number, view in columns], rows)


@dataclass(frozen=True)
class _Row:
    """An image and what became of it.

    Attributes:
        index: In its source.
        original: (H, W, C), as it is.
        made: (H, W, C), for each column.
        words: What was decided in each column, a line a step; no lines where that is not shown.
    """

    index: int
    original: NDArray[np.uint8]
    made: Sequence[NDArray[np.uint8]]
    words: Sequence[Sequence[str]]


def _sheet(source: Source, recipe: Recipe, titles: list[str], rows: Sequence[_Row]) -> Image.Image:
    lines = max(len(words) for row in rows for words in row.words)
    pitch = _TILE + _GAP + (_LINE * lines + 6 if lines else 0)
    width = 2 * _MARGIN + _LABEL + (1 + len(titles)) * (_TILE + _GAP)
    canvas = Canvas(width, _HEAD + len(rows) * pitch + _MARGIN)
    _headline(canvas, recipe, titles)
    for number, row in enumerate(rows):
        top = _HEAD + number * pitch
        canvas.text((_MARGIN, top + 46), source.classes[int(source.labels[row.index])], 14, INK, _LABEL - 14)
        canvas.text((_MARGIN, top + 66), Path(name_of(source, row.index)).name, 11, GREY, _LABEL - 14)
        canvas.tile((_column(0), top), row.original, _TILE)
        for place, (image, words) in enumerate(zip(row.made, row.words, strict=True), 1):
            canvas.tile((_column(place), top), image, _TILE)
            for line, text in enumerate(words):
                canvas.text((_column(place), top + _TILE + 3 + line * _LINE), text, 10, GREY, _TILE)
    return canvas.image


def _column(place: int) -> int:
    return _MARGIN + _LABEL + place * (_TILE + _GAP)


def _title(recipe: Recipe, epoch: int, view: int, epochs: int) -> str:
    if not recipe.other_ops:
        return f"epoch {epoch}" if epochs > 1 else recipe.name
    return f"epoch {epoch}, view {view + 1}" if epochs > 1 else f"view {view + 1}"


def _headline(canvas: Canvas, recipe: Recipe, titles: list[str]) -> None:
    end = canvas.text((_MARGIN, 16), recipe.name, 18, ACCENT)
    canvas.text((end + 12, 20), recipe.description, 13, GREY, int(canvas.image.width - end - 12 - _MARGIN))
    canvas.text((_column(0), _HEAD - 22), "as it is", 12, GREY)
    for place, title in enumerate(titles):
        canvas.text((_column(1 + place), _HEAD - 22), title, 12, GREY, _TILE)


def _training_images(data: str | os.PathLike[str] | None) -> Source:
    """Return the images of a folder that training takes, in its order; all of them where it would not take the folder.

    Raises:
        SourceError: the folder can't be used.
    """
    root = samples.ensure() if data is None else data
    try:
        return split_sources(root)[0]
    except SourceError:
        return open_images(root)


def decided(recipe: Recipe, seed: int, epoch: int, index: int, size: tuple[int, ...], view: int = 0) -> list[str]:
    """Return in words what was decided for one image in one epoch, a line a step that does something.

    Args:
        recipe: The recipe.
        seed: Of the decisions.
        epoch: Of the decisions.
        index: Of the image in its source.
        size: Its (height, width) in px.
        view: Which view of the image it is, from 0.
    """
    steps = program(recipe)
    occurrences = of_view(np.zeros(1, np.int64), view)
    uniforms = randomness.uniforms(steps.counts, seed, epoch, np.array([index]), occurrences)[0]
    records, _ = steps.resolve(uniforms, size[0], size[1])
    random = [op.is_random or steps.gated(row) for row, op in enumerate(steps.ops)]
    lines = [in_words(record) for record, is_random in zip(records, random, strict=True) if is_random]
    return [line for line in lines if line]
