"""How images come into a graph of DALI's: read, looked at, decoded and turned; the same for every backend of DALI's."""

from __future__ import annotations

import os
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Literal

import numpy as np
from numpy.typing import NDArray
from nvidia.dali import fn, types
from nvidia.dali.data_node import DataNode

from dalipipe.backends.compiled import operator, sound, turner, within
from dalipipe.limits import pixel_limit
from dalipipe.recipe import Recipe
from dalipipe.sources.base import Item
from dalipipe.sources.reading import is_ordinary

Device = Literal["cpu", "gpu"]
_STAND_IN = Path(__file__).with_name("pixel.ppm")


def bytes_constant(numbers: NDArray[Any]) -> DataNode:
    """Return an array as a constant of bytes on the CPU: DALI's own constants can't be float64."""
    return types.Constant(np.ascontiguousarray(numbers).view(np.uint8).ravel(), dtype=types.UINT8, device="cpu")


def encode(item: Item) -> NDArray[np.uint8]:
    """Return the bytes of a path or an encoded image as an array."""
    return np.frombuffer(_openable(item) if isinstance(item, str) else item, dtype=np.uint8)


def _openable(path: str) -> bytes:
    """Return a path as bytes; of what has become a pipe, where DALI would wait, one that can't be opened."""
    try:
        is_safe = is_ordinary(path)
    except OSError:  # DALI's to find out
        is_safe = True
    return os.fsencode(path if is_safe else f"{path}/.")


def stand_in(kind: str) -> NDArray[np.uint8]:
    """Return what a graph gets as the encoded item of a sample whose pixels are in memory: an image of one px."""
    return encode(str(_STAND_IN) if kind == "mixed path" else _STAND_IN.read_bytes())


def load(item: DataNode, kind: str) -> tuple[DataNode, DataNode]:
    """Return the encoded bytes (or the pixels) of an item and its (H, W, C) as int64, both on the CPU.

    Of an image that claims more px than `pixel_limit`, or whose header leads DALI out of its bytes, one byte is left.
    """
    if kind == "pixels":
        return item, item.shape(dtype=types.INT64)
    encoded = fn.io.file.read(item, dont_use_mmap=True) if kind == "path" else item
    encoded = _cut_unless(operator(sound(), encoded), encoded)
    shape = fn.peek_image_shape(encoded)
    limit = pixel_limit()
    if limit is None:
        return encoded, shape
    fits = operator(within(), shape, bytes_constant(np.array([limit], np.int64)))
    return _cut_unless(fits, encoded), shape


@dataclass(frozen=True)
class Images:
    """The images of a batch, not yet decoded; some may be pixels already.

    Attributes:
        encoded: Their bytes on the CPU; their pixels where `kind` is "pixels".
        kind: "path", "bytes" or "pixels".
        pixels: Where some are in memory: the pixels (H, W, 3) of these, one px of the others.
        kept: Which are in memory, bool.
    """

    encoded: DataNode
    kind: str
    pixels: DataNode | None = None
    kept: DataNode | None = None

    def decode(self, device: Device, window: dict[str, DataNode] | None = None) -> DataNode:
        """Return the pixels, as `decode` does; those that are in memory pass by the decoder."""
        if self.kept is None or self.pixels is None:
            return decode(self.encoded, self.kind, device, window)
        in_memory, others = self._split(self.pixels)[0], self._split(self.encoded)[1]
        windows: list[dict[str, DataNode] | None] = [None, None]
        if window is not None:
            parts = {name: self._split(node) for name, node in window.items()}
            windows = [{name: both[side] for name, both in parts.items()} for side in (0, 1)]
        ready = decode(in_memory, "pixels", device, windows[0])
        return fn._conditional.merge(ready, decode(others, self.kind, device, windows[1]), predicate=self.kept)

    def _split(self, node: DataNode) -> Any:
        return fn._conditional.split(node, predicate=self.kept, _if_stmt=True)


def _cut_unless(good: DataNode, encoded: DataNode) -> DataNode:
    """Return encoded images, of those that are not good a single byte, which nothing takes for an image."""
    # The parts of a batch travel without being copied; nearly always the second one is empty.
    kept, cut = fn._conditional.split(encoded, predicate=good, _if_stmt=True)
    cut = fn.slice(cut, start=0, shape=1, axes=[0])
    return fn._conditional.merge(kept, cut, predicate=good)


def decode(encoded: DataNode, kind: str, device: Device, window: dict[str, DataNode] | None = None) -> DataNode:
    """Return the pixels, uint8 HWC on `device`; with `window` (start and shape in px) only those inside it."""
    if kind == "pixels":
        images = encoded.gpu() if device == "gpu" else encoded
        return images if window is None else fn.slice(images, axes=[0, 1], **window)
    options: dict[str, Any] = {"device": "mixed" if device == "gpu" else "cpu", "output_type": types.RGB}
    if device == "gpu":
        options["jpeg_fancy_upsampling"] = True  # as libjpeg-turbo does on the CPU
    if window is None:
        return fn.decoders.image(encoded, **options)
    return fn.decoders.image_slice(encoded, axes=[0, 1], **window, **options)


def turned(encoded: DataNode, shape: DataNode, kind: str, recipe: Recipe) -> tuple[DataNode | None, DataNode]:
    """Return how images are to be turned before the first op, None where they are not, and their (H, W, C) then."""
    if kind == "pixels" or not recipe.apply_exif_orientation:
        return None, shape
    turn, shown = operator(turner(), encoded, shape)
    return turn, shown


def straighten(images: DataNode, turn: DataNode) -> DataNode:
    """Return images turned as `turned` says; those that stand upright pass by."""
    across, down, exchanged = turn[0], turn[1], turn[2]
    mirrored = (across + down) > 0
    through, around = fn._conditional.split(images, predicate=mirrored, _if_stmt=True)
    across, _ = fn._conditional.split(across, predicate=mirrored, _if_stmt=True)
    down, _ = fn._conditional.split(down, predicate=mirrored, _if_stmt=True)
    through = fn.flip(through, horizontal=across, vertical=down)
    images = fn._conditional.merge(through, around, predicate=mirrored)
    through, around = fn._conditional.split(images, predicate=exchanged > 0, _if_stmt=True)
    through = fn.transpose(through, perm=[1, 0, 2], output_layout="HWC")
    return fn._conditional.merge(through, around, predicate=exchanged > 0)
