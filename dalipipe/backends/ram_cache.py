"""Decoded images kept in memory, as a source of pixels that any backend runs from."""

from __future__ import annotations

import io
import logging
from collections.abc import Callable, Iterable, Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from typing import TYPE_CHECKING

import numpy as np
import psutil
from numpy.typing import NDArray
from PIL import Image

from dalipipe.backends import pillow
from dalipipe.backends.base import UNREADABLE, CacheMode, Job, obvious_reason
from dalipipe.backends.blame import explained, require_bytes, require_own_fault
from dalipipe.backends.requests import kind_of, with_items
from dalipipe.decisions.status import Status
from dalipipe.errors import ConfigError
from dalipipe.recipes import Recipe
from dalipipe.sampling import Batch
from dalipipe.sources import Item, Source, name_of
from dalipipe.sources.base import key_of, max_requests_of
from dalipipe.sources.reading import open_ordinary, patiently

if TYPE_CHECKING:
    from nvidia.dali.pipeline import Pipeline

_PLAIN = Recipe(name="as they are", ops=())
_FILL_BATCH, _FILL_BYTES = 64, 300_000_000
_log = logging.getLogger("dalipipe")


def _size_bytes(item: Item) -> int:
    """Return how much memory the pixels of an item take; only its header is read. 0 for what is no image."""
    if isinstance(item, np.ndarray):
        return 0  # in memory already
    try:
        return patiently(f"reading {item!r}" if isinstance(item, str) else "an image", lambda: _pixel_bytes(item))
    except UNREADABLE as error:
        require_own_fault("cache", error)
        return 0


def _pixel_bytes(item: str | bytes) -> int:
    with (
        open_ordinary(item) if isinstance(item, str) else io.BytesIO(item) as file,
        Image.open(file) as image,
    ):
        return 3 * image.width * image.height


def _asked(source: Source, parts: Iterable[list[int]]) -> Iterator[list[Item]]:
    """Yield the items of each part, asked for as the source allows."""
    batches = (Batch(0, np.array(part, np.int64), np.zeros(len(part), np.int64)) for part in parts)
    for _, items in with_items(Job(source, _PLAIN), kind_of(source), batches):
        yield items


def _decoder(kind: str, num_threads: int, turned: bool) -> Callable[[list[Item]], list[NDArray[np.uint8] | None]]:
    """Return what decodes some items whole: pixels, None for what can't be decoded."""
    from dalipipe.backends import dali_is_there

    if not dali_is_there():
        return lambda items: _pillow_decode(items, num_threads, turned)
    from nvidia.dali import fn, types
    from nvidia.dali.pipeline import Pipeline

    from dalipipe.backends.dali_input import load

    pipeline = Pipeline(_FILL_BATCH, num_threads, device_id=None, prefetch_queue_depth=1, exec_dynamic=True)
    with pipeline:
        item = fn.external_source(name="item", dtype=types.UINT8, ndim=1)
        pipeline.set_outputs(*load(item, kind, turned).decode("cpu"))
    pipeline.build()
    return lambda items: _dali_decode(pipeline, items)


def _pillow_decode(items: list[Item], num_threads: int, turned: bool) -> list[NDArray[np.uint8] | None]:
    with ThreadPoolExecutor(num_threads) as pool:
        return list(pool.map(lambda item: _by_pillow(item, turned), items))


def _by_pillow(item: Item, turned: bool) -> NDArray[np.uint8] | None:
    """Return what Pillow, whose word counts, makes of an item; None for what it can't decode."""
    try:
        return pillow.decode(item, turned)
    except UNREADABLE as error:
        pillow.why_not("cache", item, error)  # which raises where that is not its fault
        return None  # whoever asks for it is told


def _dali_decode(pipeline: Pipeline, items: list[Item]) -> list[NDArray[np.uint8] | None]:
    """Return the pixels of some items, None for what can't be decoded.

    Raises:
        ResourceError, BackendError: that is not the fault of an item.
    """
    from dalipipe.backends.dali_input import encode

    pipeline.feed_input("item", [encode(item) for item in items])
    try:
        decoded, status = pipeline.run()
    except RuntimeError as error:
        require_bytes("cache", error)
        if len(items) > 1:
            return [_dali_decode(pipeline, [item])[0] for item in items]
        obvious_reason(items[0])  # raises where it can't be read, and that is not its fault
        return [None]
    fine = [int(status.at(position)[0]) == Status.OK for position in range(len(items))]
    return [np.array(decoded.at(position)) if fine[position] else None for position in range(len(items))]


class RamCache:
    """A source whose images are decoded once, (H, W, 3) uint8.

    A file that can't be decoded, and one that does not fit, stays what it is in `source`: it is read, and fails, as
    without a cache.

    Args:
        source: Where the images come from; its items are paths or encoded bytes.
        mode: "ram": all of them must fit; "auto": those that fit are kept, in the order of the source.
        budget_gb: Most memory to take, in 10**9 bytes; by default half of what is free.
        num_threads: Threads that decode.
        apply_exif_orientation: Whether photos are kept as their camera says they are to be shown.

    Raises:
        ConfigError: the images do not fit, with mode "ram"; the message says how much they need.
    """

    def __init__(
        self,
        source: Source,
        mode: CacheMode,
        budget_gb: float | None = None,
        num_threads: int = 1,
        *,
        apply_exif_orientation: bool = False,
    ) -> None:
        self.source = source
        self.classes: Sequence[str] = source.classes
        self.labels: NDArray[np.int64] = source.labels
        self._threads, self._upright = num_threads, apply_exif_orientation
        self._pixels: list[NDArray[np.uint8] | None] = [None] * len(source)
        budget = psutil.virtual_memory().available // 2 if budget_gb is None else int(budget_gb * 1e9)
        parts = (list(range(at, min(at + _FILL_BATCH, len(source)))) for at in range(0, len(source), _FILL_BATCH))
        with ThreadPoolExecutor(num_threads) as pool:
            sizes = [size for items in _asked(source, parts) for size in pool.map(_size_bytes, items)]
        self._sizes, need = sizes, sum(sizes)
        if mode == "ram" and need > budget:
            raise ConfigError(
                f"cache: the decoded images need {need / 1e9:.2f} GB, got a budget of {budget / 1e9:.2f} GB. "
                'Raise cache_gb, or use cache="auto", which keeps what fits.'
            )
        fits = np.cumsum(sizes) <= budget
        self._chosen = [index for index in range(len(source)) if fits[index] and sizes[index]]
        self._filled = False
        _log.info("cache: %d of %d images, %.2f GB", len(self._chosen), len(source), sum(np.array(sizes)[fits]) / 1e9)

    @property
    def kind(self) -> str:
        """What the items are: "pixels" if all images are kept, else "mixed path" or "mixed bytes"."""
        self.fill()
        left = [index for index, pixels in enumerate(self._pixels) if pixels is None]
        if not left:
            return "pixels"
        return f"mixed {kind_of(self.source)}"

    @property
    def max_requests(self) -> int:
        """Most requests at once: what the source allows for the images that are not kept."""
        return 1 if self.kind == "pixels" else max_requests_of(self.source)

    def fill(self) -> None:
        """Decode what is to be kept, unless that was done before."""
        if self._filled:
            return
        if self._chosen:
            with explained("cache"):
                self._fill()
        self._filled = True

    def _fill(self) -> None:
        decode = _decoder(kind_of(self.source), self._threads, self._upright)
        parts = list(self._parts())
        for indices, items in zip(parts, _asked(self.source, parts), strict=True):
            for index, item, pixels in zip(indices, items, decode(items), strict=True):
                self._pixels[index] = _by_pillow(item, self._upright) if pixels is None else pixels

    def _parts(self) -> Iterator[list[int]]:
        """Yield what is decoded at once: so many images, and so many bytes."""
        held: list[int] = []
        for index in self._chosen:
            if held and (len(held) == _FILL_BATCH or sum(self._sizes[at] for at in (*held, index)) > _FILL_BYTES):
                yield held
                held = []
            held.append(index)
        if held:
            yield held

    def __len__(self) -> int:
        """Return the number of samples."""
        return len(self._pixels)

    def item(self, index: int) -> Item:
        """Return the pixels of a sample, or where they are not kept its item in the source."""
        self.fill()
        pixels = self._pixels[index]
        return self.source.item(index) if pixels is None else pixels

    def name(self, index: int) -> str:
        """Return what the source calls the sample."""
        return name_of(self.source, index)

    def key(self, index: int) -> str:
        """Return the key that the sample has in the source."""
        return key_of(self.source, index)
