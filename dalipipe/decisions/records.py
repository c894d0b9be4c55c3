"""What a step's record holds: the decision of one sample, in numbers that every backend reads.

A record is RECORD float64 numbers:

    [DO]               the primitive; Do.NOTHING where the op decided not to act
    [IN_H] [IN_W]      size of the incoming image in px
    [OUT_H] [OUT_W]    size of the outgoing image in px
    [ARGS:]            the primitive's arguments (see `Do`)
"""

from __future__ import annotations

from enum import IntEnum

from dalipipe.limits import pixel_limit

RECORD = 24
DO, IN_H, IN_W, OUT_H, OUT_W, ARGS = 0, 1, 2, 3, 4, 5
NEAREST, BILINEAR = 0, 1


class Do(IntEnum):
    """The primitives that a backend must be able to do, and their arguments from [ARGS] on."""

    NOTHING = 0
    CROP_RESIZE = 1  # top, left, height, width of the box, which lies inside the image; 1 for antialias. Bilinear.
    CROP_PAD = 2  # top, left of the window (may lie outside); red, green, blue level outside
    FLIP = 3  # 1 to mirror left and right; 1 to mirror top and bottom
    # six entries of the output-to-input matrix in px, pixel centres at + 0.5; interpolation; red, green, blue level
    # outside; and what the matrix was made of: clockwise angle in degrees, shift x, y in px, scale, shear x, y in
    # degrees, centre x, y in px
    AFFINE = 4
    ERASE = 5  # top, left, height, width of the box; red, green, blue; 1 where those are what leaves the recipe
    # eight coefficients a to h: output (x, y) shows input ((a x + b y + c) / w, (d x + e y + f) / w),
    # w = g x + h y + 1, pixel centres at + 0.5; interpolation; red, green, blue level outside
    PERSPECTIVE = 6
    BRIGHTNESS = 7  # factor
    CONTRAST = 8  # factor
    SATURATION = 9  # factor
    HUE = 10  # shift in whole circles
    SHARPNESS = 11  # factor; both sides are more than 2 px
    SOLARIZE = 12  # least level that is inverted
    POSTERIZE = 13  # bits that are kept
    GRAYSCALE = 14
    INVERT = 15
    AUTOCONTRAST = 16
    EQUALIZE = 17
    CONTRAST_GREY = 19  # factor; of an image of one channel, which kernels for three have as three equal ones
    BLUR = 18  # taps across, taps down; standard deviation in px


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
