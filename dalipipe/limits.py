"""How large an image may be, for what a header claims and for what a recipe makes of it; and a batch of them."""

from __future__ import annotations

from PIL import Image

_BATCH_BYTES = 10**9
_PHOTO_BYTES = 48_000_000


def pixel_limit() -> int | None:
    """Return the most px that an image may have; None for any number.

    A header of a few bytes can claim 65535 x 65535 px, which would take tens of GB to decode; and of an image of
    60000 x 1 px a recipe that resizes the shorter side to 256 px would make one of four thousand megapixels. An image
    that claims more, or of which a step would make more, is bad. The limit is Pillow's own, 2 *
    PIL.Image.MAX_IMAGE_PIXELS, for every backend: to change it, set PIL.Image.MAX_IMAGE_PIXELS (None: no limit) before
    a loader is made.
    """
    return None if Image.MAX_IMAGE_PIXELS is None else 2 * Image.MAX_IMAGE_PIXELS


def decode_budget(batch_size: int) -> int:
    """Return how many bytes the images of a batch may take when DALI decodes them at once; what is beyond comes later.

    DALI holds a whole batch of decoded images, of which each may have 500 MB within `pixel_limit`. What comes
    later is read twice and not prepared ahead, so a camera's photos must not wait: as many of 16 megapixels as a batch
    has never do. Each batch that is prepared ahead may take as much; a decoder's own memory, for one image in each
    thread, comes on top.

    Args:
        batch_size: Largest batch.
    """
    return max(_BATCH_BYTES, _PHOTO_BYTES * batch_size)
