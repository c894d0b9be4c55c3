"""Images that are in memory already."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import numpy as np
from numpy.typing import NDArray

from dalipipe.errors import SourceError
from dalipipe.recipes.ops.base import Channels

Pixels = NDArray[np.uint8]


class ArraySource:
    """Images in memory, with their labels.

    Args:
        images: (N, H, W, 3) uint8 RGB or (N, H, W, 1) grey, or a list of such arrays without N, which may differ in
            size. Neither is copied.
        labels: The label of each image, N integers.
        classes: The class names; by default the numbers from 0 to the greatest label.

    Attributes:
        images: The images.
        classes: The class names.
        labels: The label of every image, (N,) int64.

    Raises:
        SourceError: Pixels or labels of another shape or type, or not as many of one as of the other.
    """

    max_requests = 1  # what is in memory needs no threads

    def __init__(
        self,
        images: Pixels | Sequence[Pixels],
        labels: Sequence[int] | NDArray[Any],
        classes: Sequence[str] | None = None,
    ) -> None:
        self.images: Pixels | list[Pixels] = images if isinstance(images, np.ndarray) else list(images)
        self.labels: NDArray[np.int64] = as_labels(labels, "ArraySource")
        if isinstance(self.images, np.ndarray):
            _require_rgb("images", self.images, ("N", "H", "W"))
        else:
            for position, image in enumerate(self.images):
                _require_rgb(f"images[{position}]", image, ("H", "W"))
        if len(self.images) != len(self.labels):
            raise SourceError(
                f"ArraySource: there must be one label for each image, got {len(self.images)} images and"
                f" {len(self.labels)} labels. Give as many of one as of the other."
            )
        self.classes: tuple[str, ...] = numbered(self.labels) if classes is None else tuple(classes)

    def __len__(self) -> int:
        return len(self.images)

    def __repr__(self) -> str:
        return f"ArraySource({len(self)} images, {len(self.classes)} classes)"

    @property
    def channels(self) -> Channels:
        """1 where all images are grey, else 3."""
        last = {image.shape[-1] for image in ([self.images] if isinstance(self.images, np.ndarray) else self.images)}
        return 1 if last == {1} else 3

    @property
    def size(self) -> tuple[int, int] | None:
        """(height, width) in px where all images have the same, else None."""
        if isinstance(self.images, np.ndarray):
            return self.images.shape[1], self.images.shape[2]
        sizes = {(image.shape[0], image.shape[1]) for image in self.images}
        return sizes.pop() if len(sizes) == 1 else None

    def item(self, index: int) -> Pixels:
        """Return the pixels of image `index`, (H, W, 3) or (H, W, 1): a view where they are contiguous."""
        return np.ascontiguousarray(self.images[index])

    def name(self, index: int) -> str:
        """Return what to call image `index` in an error message."""
        return f"image {index}"

    def key(self, index: int) -> str:
        """Return the position and size of image `index`."""
        height, width = self.images[index].shape[:2]
        return f"{index} {height}x{width}"


def as_labels(labels: Sequence[int] | NDArray[Any], where: str) -> NDArray[np.int64]:
    """Return labels as (N,) int64.

    Args:
        labels: One integer for each sample.
        where: What to call their owner in an error.

    Raises:
        SourceError: They are not one-dimensional, or not integers.
    """
    array = np.asarray(labels)
    if array.ndim != 1 or (array.size and array.dtype.kind not in "iub"):
        raise SourceError(
            f"{where}: labels must be one integer for each image, got {array.dtype} of shape {array.shape}."
            " Number the classes from 0."
        )
    return array.astype(np.int64)


def numbered(labels: NDArray[np.int64]) -> tuple[str, ...]:
    """Return the numbers from 0 to the greatest label as class names."""
    return tuple(str(label) for label in range(int(labels.max(initial=-1)) + 1))


def _require_rgb(name: str, array: object, axes: tuple[str, ...]) -> None:
    rank = len(axes) + 1
    if isinstance(array, np.ndarray) and array.dtype == np.uint8 and array.ndim == rank and array.shape[-1] in (1, 3):
        return
    got = f"{array.dtype} {array.shape}" if isinstance(array, np.ndarray) else type(array).__name__
    raise SourceError(
        f"ArraySource: {name} must be a uint8 array ({', '.join(axes)}, 3), or with 1 for grey, got {got}."
        " Put the channels last, and give levels from 0 to 255."
    )
