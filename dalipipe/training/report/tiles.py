"""Small images for the pictures and the page: of mistakes, and of what a recipe does."""

from __future__ import annotations

import io
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Final

import numpy as np
from numpy.typing import NDArray
from PIL import Image

from dalipipe.backends import Job
from dalipipe.pictures import augmented
from dalipipe.recipes import Recipe
from dalipipe.sources import Item, Source, name_of
from dalipipe.sources.reading import open_ordinary

if TYPE_CHECKING:
    from dalipipe.training.measures.evaluation import Evaluation

Pixels = NDArray[np.uint8]

SIDE_PX: Final = 240
_GROUND: Final = (245, 247, 250)
_BACKEND: Final = "torchvision"  # the reference: it runs everywhere, and every backend takes the same decisions


@dataclass(frozen=True)
class Tile:
    """An image with words.

    Attributes:
        pixels: (240, 240, 3) uint8 RGB, the whole image on a light ground.
        title: What it is.
        note: More of it.
    """

    pixels: Pixels
    title: str
    note: str


@dataclass(frozen=True)
class Sheet:
    """A table of images.

    Attributes:
        headings: Of the columns.
        rows: An image (H, W, 3) uint8 RGB for each column.
        names: Of the rows.
    """

    headings: tuple[str, ...]
    rows: tuple[tuple[Pixels, ...], ...]
    names: tuple[str, ...]


def thumbnail(source: Source, index: int, side_px: int = SIDE_PX) -> Pixels:
    """Return an image of a source, scaled down or up to fit a square; a grey one where Pillow can't read it."""
    try:
        image = _open(source.item(index), side_px)
    except (OSError, ValueError):  # a backend may read what Pillow does not
        image = Image.new("RGB", (side_px, side_px), "lightgrey")
    scale = side_px / max(image.size)
    width, height = (max(1, round(side * scale)) for side in image.size)
    image = image.resize((width, height), Image.Resampling.LANCZOS)
    ground = Image.new("RGB", (side_px, side_px), _GROUND)
    ground.paste(image, ((side_px - width) // 2, (side_px - height) // 2))
    return np.asarray(ground)


def _open(item: Item, side_px: int) -> Image.Image:
    if isinstance(item, np.ndarray):
        return Image.fromarray(item)
    with (
        open_ordinary(item) if isinstance(item, str) else io.BytesIO(item) as file,
        Image.open(file) as opened,
    ):
        opened.draft("RGB", (side_px, side_px))  # a large JPEG is decoded at a fraction of its size
        return opened.convert("RGB")


def mistake_tiles(evaluation: Evaluation, source: Source, most: int = 12) -> list[Tile]:
    """Return the images taken for another class, the most confident mistakes first."""
    return [
        Tile(
            thumbnail(source, one.index),
            f"{evaluation.classes[one.label]}, taken for {evaluation.classes[one.prediction]}",
            f"{one.confidence:.0%} · {Path(name_of(source, one.index)).name}",
        )
        for one in evaluation.mistakes(most)
    ]


def augmentation_sheet(source: Source, recipe: Recipe, seed: int, images: int = 4, epochs: int = 5) -> Sheet:
    """Return what training on a source makes of some of its images in its first epochs.

    Args:
        source: The training images.
        recipe: The training recipe.
        seed: Of the run: these are the very decisions that it takes.
        images: How many, of as many classes as there are.
        epochs: How many; one for a recipe without random ops.
    """
    chosen = _spread(source, images)
    columns = range(epochs if recipe.is_random else 1)
    made, bad = augmented(Job(source, recipe, seed, batch_size=len(chosen)), _BACKEND, columns, chosen)
    # An image that can't be decoded ends a run, or was left out of it: what remains is the same in each epoch.
    good = [position for position in range(len(chosen)) if position not in bad]
    height, width = recipe.output_shape[1:]
    rows = tuple(
        (thumbnail(source, int(chosen[position]), max(height, width)), *(epoch[number] for epoch in made))
        for number, position in enumerate(good)
    )
    return Sheet(
        ("as it is", *(f"epoch {epoch + 1}" for epoch in columns)),
        rows,
        tuple(Path(name_of(source, int(chosen[position]))).name for position in good),
    )


def _spread(source: Source, most: int) -> NDArray[np.int64]:
    """Return positions of images of as many classes as can be, the first of each, then the second of each."""
    labels: Sequence[int] = source.labels.tolist()
    seen: dict[int, int] = {}
    ranks = []
    for position, label in enumerate(labels):
        seen[label] = seen.get(label, -1) + 1
        ranks.append((seen[label], label, position))
    return np.array(sorted(position for _, _, position in sorted(ranks)[:most]), dtype=np.int64)
