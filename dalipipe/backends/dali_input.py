"""How images come into a graph of DALI's: read, looked at, decoded and turned; the same for every backend of DALI's."""

from __future__ import annotations

import math
import os
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any, Literal, Protocol, TypeAlias

import numpy as np
from numpy.typing import NDArray
from nvidia.dali import fn, types
from nvidia.dali.data_node import DataNode

from dalipipe.backends.base import ONE_PIXEL
from dalipipe.backends.compiled import BUDGET_UNIT, looker, operator, rationer, turner
from dalipipe.backends.dali_pillow import reader, sizer
from dalipipe.decisions.status import Status
from dalipipe.limits import pixel_limit
from dalipipe.sources import Item
from dalipipe.sources.reading import is_ordinary

Device = Literal["cpu", "gpu"]
Window: TypeAlias = dict[str, DataNode]


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
    return encode(str(ONE_PIXEL) if kind == "mixed path" else ONE_PIXEL.read_bytes())


class Loaded(Protocol):
    """The images of a batch, not yet decoded."""

    @property
    def shape(self) -> DataNode:
        """(H, W, C) of the images as they reach the first op, int64, on the CPU."""
        ...

    def decode(self, device: Device, window: Window | None = None) -> tuple[DataNode, DataNode]:
        """Return the pixels, uint8 HWC on `device`, and (1,) int32 `Status`: whether they could be had.

        Args:
            device: Where they end up.
            window: start and shape of what is to be decoded, in px; None for all of it.
        """
        ...


@dataclass(frozen=True)
class InMemory:
    """Images that are pixels already."""

    pixels: DataNode
    fine: DataNode

    @property
    def shape(self) -> DataNode:
        """See `Loaded`."""
        return self.pixels.shape(dtype=types.INT64)

    def decode(self, device: Device, window: Window | None = None) -> tuple[DataNode, DataNode]:
        """See `Loaded`."""
        images = self.pixels if window is None else fn.slice(self.pixels, axes=[0, 1], **window)
        return (images.gpu() if device == "gpu" else images), self.fine


@dataclass(frozen=True)
class Decoded:
    """Images that are decoded already, for several views.

    Attributes:
        shape: See `Loaded`.
        pixels: All of them, on the device where they are needed.
        fine: Their status.
    """

    shape: DataNode
    pixels: DataNode
    fine: DataNode

    def decode(self, device: Device, window: Window | None = None) -> tuple[DataNode, DataNode]:
        """See `Loaded`."""
        return (self.pixels if window is None else fn.slice(self.pixels, axes=[0, 1], **window)), self.fine


@dataclass(frozen=True)
class Encoded:
    """Encoded images, of which some are DALI's to decode and the others Pillow's.

    Attributes:
        dalis: Which are DALI's, bool.
        own: The bytes of these.
        others: The bytes of the others.
        size: Of the others: height, width, 3, 0, int32.
        shape: See `Loaded`.
        fine: `Status.OK` of each, or `Status.PUT_OFF`.
        turn: How DALI's are to be turned once they are decoded, see `turner`; None where photos are not turned.
    """

    dalis: DataNode
    own: DataNode
    others: DataNode
    size: DataNode
    shape: DataNode
    fine: DataNode
    turn: DataNode | None

    def decode(self, device: Device, window: Window | None = None) -> tuple[DataNode, DataNode]:
        """See `Loaded`. Images that are turned are decoded whole: `window` must be None."""
        inside, outside = split_window(window, self.dalis)
        own = _decode(self.own, device, inside)
        if self.turn is not None:
            own = _straighten(own, self.turn)
        blank = fn.zeros(shape=self.size, dtype=types.UINT8)
        pixels, failed = operator(reader(self.turn is not None), self.others, blank)
        others, _ = InMemory(fn.reshape(pixels, layout="HWC"), failed).decode(device, outside)
        fine, _ = split(self.fine, self.dalis)
        return merge(own, others, self.dalis), merge(fine, failed, self.dalis)


@dataclass(frozen=True)
class Mixed:
    """Images of which some are in memory and the others encoded."""

    kept: DataNode
    memory: InMemory
    encoded: Encoded

    @property
    def shape(self) -> DataNode:
        """See `Loaded`."""
        return merge(self.memory.shape, self.encoded.shape, self.kept)

    def decode(self, device: Device, window: Window | None = None) -> tuple[DataNode, DataNode]:
        """See `Loaded`."""
        inside, outside = split_window(window, self.kept)
        both = zip(self.memory.decode(device, inside), self.encoded.decode(device, outside), strict=True)
        pixels, failed = (merge(*pair, self.kept) for pair in both)
        return pixels, failed


def load(item: DataNode, kind: str, turned: bool, kept: DataNode | None = None, budget: float = math.inf) -> Encoded:
    """Return encoded images.

    Those that don't fit into the budget have `Status.PUT_OFF`; one px stands for each.

    Args:
        item: The bytes of their paths or of themselves.
        kind: "path" or "bytes", or either after "mixed".
        turned: Whether photos are turned as their camera noted it.
        kept: Which items of the batch are left out, because their pixels are in memory; None for none.
        budget: Most bytes that the decoded images of a batch may take at once.
    """

    def rest(node: DataNode) -> DataNode:
        return node if kept is None else split(node, kept)[1]

    item, limit = rest(item), pixel_limit()
    encoded = fn.io.file.read(item, dont_use_mmap=True) if kind.endswith("path") else item
    most = rest(bytes_constant(np.array([-1 if limit is None else limit], np.int64)))
    dalis = operator(looker(), encoded, most)
    own, others = split(encoded, dalis)
    turn, shape = None, fn.peek_image_shape(own)
    if turned:
        turn, shape = operator(turner(), own, shape)
    size = operator(sizer(turned), others)
    shape = merge(shape, fn.cast(size[0:3], dtype=types.INT64), dalis)
    images = Encoded(dalis, own, others, size, shape, rest(all_fine()), turn)
    return images if budget == math.inf else _within(budget, images, rest)


def _within(budget: float, images: Encoded, rest: Callable[[DataNode], DataNode]) -> Encoded:
    """Return the images with one of one px in the place of each that is beyond a budget.

    So what follows, on any device, sees a whole and sound batch; nothing is decoded in vain.

    Args:
        budget: In bytes.
        images: As they are.
        rest: Takes a constant to the samples of the batch that are encoded.
    """

    def constant(numbers: NDArray[Any], dtype: types.DALIDataType) -> DataNode:
        return rest(types.Constant(numbers, dtype=dtype, device="cpu"))

    sides = fn.cat(fn.cast(images.shape[0:2], dtype=types.INT32), constant(np.zeros(1, np.int32), types.INT32))
    most = constant(np.zeros((int(budget) // BUDGET_UNIT, 0), np.uint8), types.UINT8)
    late = operator(rationer(), fn.zeros(shape=sides, dtype=types.UINT8), most).shape(dtype=types.INT64)[0] == 0
    own_late, others_late = split(late, images.dalis)
    dalis = images.dalis | late
    in_own = split(late, dalis)[0]

    def instead(numbers: NDArray[Any], dtype: types.DALIDataType, node: DataNode, all_of: bool) -> DataNode:
        before, after = (late, late) if all_of else (own_late, in_own)
        return merge(split(constant(numbers, dtype), late)[0], split(node, before)[1], after)

    turn = images.turn
    return Encoded(
        dalis,
        own=instead(stand_in("bytes"), types.UINT8, images.own, all_of=False),
        others=split(images.others, others_late)[1],
        size=split(images.size, others_late)[1],
        shape=instead(np.array([1, 1, 3], np.int64), types.INT64, images.shape, all_of=True),
        fine=instead(np.array([Status.PUT_OFF], np.int32), types.INT32, images.fine, all_of=True),
        turn=None if turn is None else instead(np.zeros(3, np.int32), types.INT32, turn, all_of=False),
    )


def all_fine() -> DataNode:
    """Return `Status.OK` for each sample of a batch."""
    return types.Constant(np.array([Status.OK], np.int32), dtype=types.INT32, device="cpu")


def split(node: DataNode, predicate: DataNode) -> Any:
    """Return the samples where a predicate holds, and the others; nothing is copied."""
    return fn._conditional.split(node, predicate=predicate, _if_stmt=True)


def merge(those: DataNode, others: DataNode, predicate: DataNode) -> DataNode:
    """Return what `split` has taken apart."""
    return fn._conditional.merge(those, others, predicate=predicate)


def split_window(window: Window | None, predicate: DataNode) -> tuple[Window | None, Window | None]:
    """Return both sides of a window."""
    if window is None:
        return None, None
    parts = {name: split(node, predicate) for name, node in window.items()}
    return {name: both[0] for name, both in parts.items()}, {name: both[1] for name, both in parts.items()}


def _decode(encoded: DataNode, device: Device, window: Window | None = None) -> DataNode:
    """Return what DALI decodes; with `window` only what is inside it."""
    options: dict[str, Any] = {"device": "mixed" if device == "gpu" else "cpu", "output_type": types.RGB}
    if device == "gpu":
        options["jpeg_fancy_upsampling"] = True  # as libjpeg-turbo does on the CPU
    if window is None:
        return fn.decoders.image(encoded, **options)
    return fn.decoders.image_slice(encoded, axes=[0, 1], **window, **options)


def one_channel(images: DataNode, axis: int) -> DataNode:
    """Return the first channel of images whose channels, on that axis, are equal."""
    return fn.slice(images, start=[0], shape=[1], axes=[axis])


def _straighten(images: DataNode, turn: DataNode) -> DataNode:
    """Return images turned as `turner` says; those that stand upright pass by."""
    across, down, exchanged = turn[0], turn[1], turn[2]
    mirrored = (across + down) > 0
    through, around = split(images, mirrored)
    across, _ = split(across, mirrored)
    down, _ = split(down, mirrored)
    images = merge(fn.flip(through, horizontal=across, vertical=down), around, mirrored)
    through, around = split(images, exchanged > 0)
    through = fn.transpose(through, perm=[1, 0, 2], output_layout="HWC")
    return merge(through, around, exchanged > 0)
