"""PIL images that are not decoded before somebody looks at their pixels."""

from __future__ import annotations

import contextlib
import io
import os
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any, Protocol

from PIL import Image

from dalipipe.sources import Item
from dalipipe.sources.reading import is_ordinary

OPEN = Image.open
"""Pillow's own, whatever stands in its place meanwhile."""

_HEADER = frozenset({"size", "width", "height", "mode", "info", "format", "format_description"})
"""What is asked of an image without looking at its pixels."""

_UNLOADED = frozenset({"draft", "fp", "thumbnail", "tile", "verify"})
"""What has a file decoded otherwise, or has to do with that, and so has to come before it is."""

_OWN = frozenset(
    {"__class__", "__dict__", "__enter__", "__exit__", "close", "convert", "copy", "getexif", "load", "__reduce_ex__"}
)
"""What a deferred image answers itself."""


Mark = tuple[int, int, int]


def mark_of(item: Item) -> Mark:
    """Return what tells whether a file is another than it was; the same for what is no file, or none any more."""
    try:
        found = os.stat(item) if isinstance(item, str) else None  # noqa: PTH116 (for each sample)
    except (OSError, ValueError):
        found = None
    return (0, 0, 0) if found is None else (found.st_ino, found.st_size, found.st_mtime_ns)


class Origin(Protocol):
    """What a deferred image is made of."""

    def real(self) -> Image.Image:
        """Return the image, decoded."""
        ...

    def header(self) -> Image.Image:
        """Return an image whose header has been read, decoded or not."""
        ...

    def converted(self) -> Origin | None:
        """Return what the image converted to RGB is made of; None where it has to be decoded for that."""
        ...


class FileOrigin:
    """A file, or the bytes of one.

    Args:
        item: Its path or bytes.
        rgb: Whether the image is converted to RGB.
        mark: What the file was known by when it was opened; by default now.

    Attributes:
        item: See above.
        rgb: See above.
        mark: See above.
    """

    def __init__(self, item: str | bytes, *, rgb: bool = False, mark: Mark | None = None) -> None:
        self.item, self.rgb = item, rgb
        self.mark = mark_of(item) if mark is None else mark
        self._header: Image.Image | None = None

    def opened(self) -> Image.Image:
        """Return the image as Pillow opens it."""
        return OPEN(self.item if isinstance(self.item, str) else io.BytesIO(self.item))

    def header(self) -> Image.Image:
        """See `Origin`. The file is closed again."""
        if self._header is None:
            self._header = self.opened()
            self._header.fp.close()  # type: ignore[attr-defined]
        return self._header

    def real(self) -> Image.Image:
        """See `Origin`."""
        image = self.opened()
        image.load()
        return image.convert("RGB") if self.rgb else image

    def converted(self) -> FileOrigin:
        """See `Origin`."""
        return self if self.rgb else FileOrigin(self.item, rgb=True, mark=self.mark)

    @property
    def mode(self) -> str:
        """What Pillow calls the kind of its pixels."""
        return "RGB" if self.rgb else self.header().mode


class Watcher(Protocol):
    """What wants to know of a deferred image."""

    def failed(self, origin: Origin | None, error: Exception) -> None:
        """Take in what was raised where the image can't be had."""
        ...

    def looked(self, what: str, seconds: float) -> None:
        """Take in that it was decoded, for whom, and how long that took."""
        ...


class DeferredImage(Image.Image):
    """A PIL image that becomes what Pillow would have given once somebody looks at its pixels.

    It knows its size and mode by the header of its file, and remains deferred where it is converted to RGB, copied,
    loaded or closed. Anything else that is done to it happens to the image itself, which it is from then on.

    Args:
        origin: What it is made of.
        watcher: Is told what becomes of it.
    """

    def __init__(self, origin: Origin, watcher: Watcher) -> None:
        own = object.__getattribute__(self, "__dict__")
        own["_origin"], own["_watcher"] = origin, watcher

    def __getattribute__(self, name: str) -> Any:
        """Return an attribute, of the image itself where it is more than a header's."""
        if name in _OWN:
            return object.__getattribute__(self, name)
        own = object.__getattribute__(self, "__dict__")
        if name in _HEADER:
            origin = own["_origin"]
            if name == "mode" and isinstance(origin, FileOrigin) and origin.rgb:
                return "RGB"
            if name.startswith("format") and isinstance(origin, FileOrigin) and origin.rgb:
                return None
            return getattr(_watched(own, origin.header), name)
        become(self, f"Image.{name}", loaded=name not in _UNLOADED)
        return getattr(self, name)

    def __setattr__(self, name: str, value: Any) -> None:
        """Set an attribute of the image itself."""
        become(self)
        setattr(self, name, value)

    def __enter__(self) -> DeferredImage:
        """Return the image."""
        return self

    def __exit__(self, *_exception: object) -> None:
        """Do nothing: the file is not open."""

    def close(self) -> None:
        """Do nothing: the file is not open."""

    def load(self) -> Any:
        """Return what gives access to single pixels; they are decoded when it does."""
        return _Access(self)

    def getexif(self) -> Image.Exif:
        """Return what a camera noted."""
        own = object.__getattribute__(self, "__dict__")
        header = _watched(own, own["_origin"].header)
        if header.format != "JPEG":
            become(self, "Image.getexif")
            return self.getexif()
        return header.getexif()

    def copy(self) -> Image.Image:
        """Return an image of its own, deferred too."""
        own = object.__getattribute__(self, "__dict__")
        return DeferredImage(own["_origin"], own["_watcher"])

    def convert(self, mode: str | None = None, *args: Any, **kwargs: Any) -> Image.Image:
        """Return the image in another mode; to RGB it stays deferred."""
        own = object.__getattribute__(self, "__dict__")
        converted = own["_origin"].converted() if mode == "RGB" and not args and not kwargs else None
        if converted is not None:
            return DeferredImage(converted, own["_watcher"])
        become(self, f"Image.convert({mode!r})")
        return self.convert(mode, *args, **kwargs)

    def __reduce_ex__(self, protocol: Any) -> Any:
        """Return what a copy of the image itself is made of."""
        become(self)
        return self.__reduce_ex__(protocol)


class _Access:
    """Access to the pixels of a deferred image."""

    def __init__(self, image: Image.Image) -> None:
        self._image = image

    def __getitem__(self, place: tuple[int, int]) -> Any:
        become(self._image)
        return self._image.load()[place]  # type: ignore[index]

    def __setitem__(self, place: tuple[int, int], value: Any) -> None:
        become(self._image)
        self._image.load()[place] = value  # type: ignore[index]


def _watched(own: dict[str, Any], ask: Callable[[], Image.Image]) -> Image.Image:
    try:
        return ask()
    except Exception as error:
        own["_watcher"].failed(own["_origin"], error)
        raise


def origin_of(image: object) -> Origin | None:
    """Return what a deferred image is made of; None for anything else."""
    return object.__getattribute__(image, "__dict__")["_origin"] if type(image) is DeferredImage else None


def become(image: Image.Image, what: str = "", *, loaded: bool = True) -> None:
    """Make a deferred image the image itself, decoded or else as Pillow opens it.

    Args:
        image: Any image.
        what: Looks at it.
        loaded: Whether it is decoded.
    """
    if type(image) is not DeferredImage:
        return
    own = object.__getattribute__(image, "__dict__")
    origin = own["_origin"]
    lazy = not loaded and isinstance(origin, FileOrigin) and not origin.rgb
    began, watcher = time.perf_counter(), own["_watcher"]
    real = _watched(own, origin.opened if lazy else origin.real)
    if isinstance(origin, FileOrigin):
        watcher.looked(what or "somebody", time.perf_counter() - began)
    own.clear()
    own.update(real.__dict__)
    object.__setattr__(image, "__class__", type(real))


def item_in(file: Any) -> str | bytes | None:
    """Return the path or the bytes of what `PIL.Image.open` is given; None where that is for Pillow to open.

    A file that can't be found is for Pillow too, which says so; so is what is no ordinary file.
    """
    if isinstance(file, str | bytes | os.PathLike):
        path = os.fsdecode(file)
    elif isinstance(file, io.BytesIO):
        return file.getvalue()
    elif _is_file(file) and isinstance(file.name, str):
        path = file.name
    else:
        return _read(file)
    try:
        return path if is_ordinary(path) else None
    except (OSError, ValueError):
        return None


def _is_file(file: Any) -> bool:
    """Return whether something is an open file itself, and not a part of one, as those in an archive are."""
    return type(file) is io.FileIO or (type(file) is io.BufferedReader and type(file.raw) is io.FileIO)


def _read(file: Any) -> bytes | None:
    """Return what a file-like object holds, from its beginning as Pillow reads it."""
    read, seek = getattr(file, "read", None), getattr(file, "seek", None)
    if read is None:
        return None
    if seek is not None:
        with contextlib.suppress(OSError, ValueError):
            seek(0)
    data = read()
    return data if isinstance(data, bytes) else None


def name_of(item: Item | None) -> str:
    """Return the path of an item where it has one, else nothing."""
    return str(Path(item)) if isinstance(item, str) else ""
