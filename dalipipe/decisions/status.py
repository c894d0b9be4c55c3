"""Why a sample can't be processed."""

from __future__ import annotations

from enum import IntEnum

from dalipipe.limits import pixel_limit


class Status(IntEnum):
    """Why a sample can't be processed; 0 where it can."""

    OK = 0
    CROP_EXCEEDS_IMAGE = 1
    BLUR_EXCEEDS_IMAGE = 2
    MAKES_TOO_MUCH = 3
    UNREADABLE = 4  # Pillow, whose file it is, has not made the pixels that its header promises
    PUT_OFF = 5  # beside the others of its batch it would take too much memory: to be run again in a smaller batch


_REASONS = {
    Status.CROP_EXCEEDS_IMAGE: "the image is smaller than the window of RandomCrop, and pad_if_needed is off",
    Status.BLUR_EXCEEDS_IMAGE: "the image is not larger than half the kernel of GaussianBlur",
    Status.MAKES_TOO_MUCH: "resized or padded as the recipe asks, it would have more px than the limit of {limit}",
    Status.UNREADABLE: "it can't be decoded",
    Status.PUT_OFF: "the images of its batch, decoded, take too much memory at once",
}


def reason_of(status: Status) -> str:
    """Return in a few words why a sample can't be processed."""
    return _REASONS[status].format(limit=pixel_limit())
