"""Reading images with Pillow: what the reference does, and what every backend does with files that aren't DALI's."""

from __future__ import annotations

import ctypes
import io
import logging
import re
from functools import cache
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray
from PIL import Image, UnidentifiedImageError

from dalipipe.backends.base import obvious_reason
from dalipipe.backends.blame import require_own_fault
from dalipipe.decisions.orientation import orientation_of, turns, upright
from dalipipe.limits import pixel_limit
from dalipipe.sources import Item
from dalipipe.sources.base import encoded_bytes

MOST_SAMPLES = 4
"""Samples a px that an image at the pixel limit may have: as many as Pillow keeps."""

_SAMPLES_PER_PIXEL = 277  # the tag of TIFF


@cache
def _silence() -> None:
    """Keep what the libraries under Pillow have to say off the user's terminal: what matters is in their errors."""
    logging.getLogger("PIL").addHandler(logging.NullHandler())
    maps = Path("/proc/self/maps")
    found = re.findall(r"/\S*/libtiff\S*\.so\S*", maps.read_text(errors="replace")) if maps.exists() else []
    for path in dict.fromkeys(found):
        library = ctypes.CDLL(path)  # which is loaded already
        for setter in ("TIFFSetErrorHandler", "TIFFSetWarningHandler"):
            if hasattr(library, setter):
                getattr(library, setter)(None)


def _open(data: bytes) -> Image.Image:
    """Return an image whose header has been read.

    Raises:
        OSError: it is no image, or claims too many samples.
        Exception: the header is broken.
    """
    _silence()
    image = Image.open(io.BytesIO(data))
    limit, tags = pixel_limit(), getattr(image, "tag_v2", {})
    samples = max(len(image.getbands()), int(tags.get(_SAMPLES_PER_PIXEL, 1)))
    if limit is not None and image.width * image.height * samples > MOST_SAMPLES * limit:
        size = f"{image.width} x {image.height} px of {samples} samples"
        image.close()
        raise OSError(f"it claims {size}, more than the limit of {MOST_SAMPLES * limit} samples")
    return image


def decode(item: Item, turned: bool = False) -> NDArray[np.uint8]:
    """Return the pixels of an item, (H, W, 3) RGB.

    Args:
        item: A path, encoded bytes, or pixels, which are returned as they are.
        turned: Whether a photo is turned as its camera noted it.

    Raises:
        OSError: the file can't be opened, or is not an image that Pillow can read.
        ResourceError: it can't be opened, and that is not its fault.
        Exception: the image is broken; see `base.UNREADABLE`.
    """
    if isinstance(item, np.ndarray):
        return item
    data = encoded_bytes(item)
    with _open(data) as image:
        pixels = np.asarray(image.convert("RGB"))
    return upright(pixels, data) if turned else pixels


def shown_size(data: bytes, turned: bool) -> tuple[int, int]:
    """Return height and width that `decode` is to give, by the header alone; it raises what `decode` does."""
    with _open(data) as image:
        width, height = image.size
    if turned and turns(orientation_of(np.frombuffer(data, np.uint8)))[2]:
        return width, height
    return height, width


def why_not(where: str, item: Item, error: Exception) -> str:
    """Return in a few words why `decode` has failed with an error.

    Raises:
        ResourceError, BackendError: it is not the item's fault; `where` begins the message.
    """
    reason = obvious_reason(item)  # a header that claims too much may well have taken all memory
    if reason is None:
        require_own_fault(where, error)
    return reason or _reason_of(error)


def _reason_of(error: Exception) -> str:
    """Return in a few words why Pillow could not decode an image."""
    if isinstance(error, UnidentifiedImageError):  # names the file, as the loader does itself
        return "it is no image that Pillow can read"
    text: Any = str(getattr(error, "strerror", None) or error)
    if not isinstance(error, OSError | ValueError | SyntaxError) or not text.strip():  # it says nothing of the image
        return "it can't be decoded"
    return " ".join(text.lower().split())
