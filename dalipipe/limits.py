"""How large an image may be: one limit for what a header claims and for what a recipe makes of an image."""

from __future__ import annotations

from PIL import Image


def pixel_limit() -> int | None:
    """Return the most px that an image may have; None for any number.

    A header of a few bytes can claim 65535 x 65535 px, which would take tens of GB to decode; and of an image of
    60000 x 1 px a recipe that resizes the shorter side to 256 px would make one of four thousand megapixels. An image
    that claims more, or of which a step would make more, is bad. The limit is Pillow's own, 2 *
    PIL.Image.MAX_IMAGE_PIXELS, for every backend: to change it, set PIL.Image.MAX_IMAGE_PIXELS (None: no limit) before
    a loader is made.
    """
    return None if Image.MAX_IMAGE_PIXELS is None else 2 * Image.MAX_IMAGE_PIXELS
