"""torchvision's colour functions in DALI's stock operators: arithmetic, reductions and a filter.

Each function takes images, uint8 HWC on either device, and a primitive's context, and returns images of the kind.
DALI's casts round, so levels are cut explicitly where torch cuts them. Sources: torchvision.transforms.v2.functional of
the same names.
"""

from __future__ import annotations

from typing import Any, Protocol

import numpy as np
from numpy.typing import NDArray
from nvidia.dali import fn, math, types
from nvidia.dali.data_node import DataNode

from dalipipe.backends.table import Entry
from dalipipe.recipes.primitives import Primitive


class Arguments(Protocol):
    """What a function gets to know of its primitive."""

    def argument(self, position: int) -> DataNode:
        """Return one number of the primitive's record, counted from its first argument, as a float32 on the CPU."""

    def size(self) -> DataNode:
        """Return the images' (height, width), int32 on the CPU, without a look at the images."""

    def constant(self, values: NDArray[Any]) -> DataNode:
        """Return an array for each of the images, on their device."""


def _levels(values: DataNode) -> DataNode:
    """Return floats as levels: clamped, then cut."""
    return fn.cast(math.floor(math.clamp(values, 0.0, 255.0)), dtype=types.UINT8)


def _blend(images: DataNode, other: DataNode, factor: DataNode) -> DataNode:
    return _levels(images * factor + other * (1.0 - factor))


def _grey(images: DataNode) -> DataNode:
    """Return (H, W, 1) float32 whole levels of grey."""
    red, green, blue = (images[:, :, channel : channel + 1] for channel in range(3))
    return math.floor(red * 0.2989 + green * 0.587 + blue * 0.114)


def brightness(images: DataNode, context: Arguments) -> DataNode:
    """Multiply all levels."""
    return _levels(images * context.argument(0))


def contrast(images: DataNode, context: Arguments) -> DataNode:
    """Blend with the mean level of grey."""
    return _blend(images, fn.reductions.mean(_grey(images), keep_dims=True), context.argument(0))


def contrast_grey(images: DataNode, context: Arguments) -> DataNode:
    """Blend with the mean level of images of one channel, which stands in all three."""
    return _blend(images, fn.reductions.mean(fn.cast(images, dtype=types.FLOAT), keep_dims=True), context.argument(0))


def saturation(images: DataNode, context: Arguments) -> DataNode:
    """Blend with the levels of grey."""
    return _blend(images, _grey(images), context.argument(0))


def grayscale(images: DataNode, _context: Arguments) -> DataNode:
    """Put the level of grey into all channels."""
    grey = fn.cast(_grey(images), dtype=types.UINT8)
    return fn.cat(grey, grey, grey, axis=2)


def hue(images: DataNode, context: Arguments) -> DataNode:
    """Turn the circle of hues.

    A channel of the way back is v - c max(0, min(k, 4 - k, 1)), k = (n + 6 h) mod 6 with n = 5, 3, 1 for red, green,
    blue: another form of the six cases that torchvision tells apart (Smith, Color gamut transform pairs, 1978).
    """
    scaled = images * np.float32(1 / 255)
    red, green, blue = (scaled[:, :, channel : channel + 1] for channel in range(3))
    high = math.max(math.max(red, green), blue)
    span = high - math.min(math.min(red, green), blue)
    divisor = span + fn.cast(span == 0.0, dtype=types.FLOAT)
    is_red = fn.cast(high == red, dtype=types.FLOAT)
    is_green = fn.cast(high == green, dtype=types.FLOAT) * (1.0 - is_red)
    is_blue = 1.0 - is_red - is_green
    turn = is_red * (green - blue) + is_green * (blue - red) + is_blue * (red - green)
    sixth = turn / divisor + 2.0 * is_green + 4.0 * is_blue
    k = context.constant(np.array([[[5, 3, 1]]], np.float32)) + (sixth + context.argument(0) * 6.0)
    k = k - math.floor(k / 6.0) * 6.0
    fall = math.clamp(math.min(k, 4.0 - k), 0.0, 1.0)
    return _levels((high - span * fall) * 255.999)


def invert(images: DataNode, _context: Arguments) -> DataNode:
    """Turn each level l into 255 - l."""
    return fn.cast(255 - images, dtype=types.UINT8)


def solarize(images: DataNode, context: Arguments) -> DataNode:
    """Invert the levels from a threshold on."""
    over = fn.cast(images >= context.argument(0), dtype=types.INT32)
    return fn.cast(images + over * (255 - 2 * images), dtype=types.UINT8)


def posterize(images: DataNode, context: Arguments) -> DataNode:
    """Keep the upper bits."""
    width = 2.0 ** (8.0 - context.argument(0))
    return fn.cast(math.floor(images / width) * width, dtype=types.UINT8)


def autocontrast(images: DataNode, _context: Arguments) -> DataNode:
    """Stretch each channel to all levels."""
    low = fn.cast(fn.reductions.min(images, axes=[0, 1], keep_dims=True), dtype=types.FLOAT)
    high = fn.cast(fn.reductions.max(images, axes=[0, 1], keep_dims=True), dtype=types.FLOAT)
    flat = fn.cast(low == high, dtype=types.FLOAT)
    scale = (high - low) * np.float32(1 / 255) + flat
    return _levels((images - low * (1.0 - flat)) / scale)


def sharpness(images: DataNode, context: Arguments) -> DataNode:
    """Blend with a 3 x 3 blur; the outermost pixels stay. Both sides must be more than 2 px."""
    weights = np.ones((3, 3), np.float32) / 13
    weights[1, 1] = 5 / 13
    blurred = math.floor(fn.filter(images, context.constant(weights), mode="valid", dtype=types.FLOAT) + 0.5)
    size = context.size()
    inner = fn.slice(images, start=[1, 1], shape=size - 2, axes=[0, 1])
    change = fn.slice(
        (blurred - inner) * (1.0 - context.argument(0)),
        start=[-1, -1],
        shape=size,
        axes=[0, 1],
        out_of_bounds_policy="pad",
    )
    return _levels(images + change)


def channels(images: DataNode, context: Arguments) -> DataNode:
    """Put channels into the order with a number: half of it is the first one, odd or even tells which is next."""
    number = fn.cast(math.floor(context.argument(0)), dtype=types.INT32)
    first = number // 2
    low, high = fn.cast(first == 0, dtype=types.INT32), 2 - fn.cast(first == 2, dtype=types.INT32)
    second = low + (number - 2 * first) * (high - low)
    order = (first, second, 3 - first - second)
    return fn.cat(*[images[:, :, channel : channel + 1] for channel in order], axis=2)


_STEPS = 16  # levels that are counted side by side


def equalize(images: DataNode, context: Arguments) -> DataNode:
    """Spread each channel's levels by its histogram.

    DALI has no histogram that stays on the device. Here `below` counts, for 16 levels at a time, the pixels that are
    darker than each; a pixel's new level is the table's value where its own level stands.
    """
    wide = fn.expand_dims(images, axes=[3])
    marks = [
        context.constant(np.arange(at, at + _STEPS, dtype=np.int32).reshape(1, 1, 1, _STEPS))
        for at in range(0, 256, _STEPS)
    ]
    below = fn.cat(
        *[fn.reductions.sum(fn.cast(wide < mark, dtype=types.FLOAT), axes=[0, 1], keep_dims=True) for mark in marks],
        axis=3,
    )
    total = fn.reductions.sum(fn.cast(wide < 256, dtype=types.FLOAT), axes=[0, 1], keep_dims=True)
    # The greatest level that occurs is that below which the most pixels lie without all of them lying there.
    short = below * fn.cast(below < total, dtype=types.FLOAT)
    share = math.floor(fn.reductions.max(short, axes=[3], keep_dims=True) / 255.0)
    flat = fn.cast(share == 0.0, dtype=types.FLOAT)
    table = math.min(math.floor((below + math.floor(share / 2.0)) / (share + flat)), 255.0)
    rises = table - fn.cat(table[:, :, :, 0:1] * 0.0, table[:, :, :, 0:255], axis=3)
    parts = [
        fn.reductions.sum(
            fn.cast(wide >= mark, dtype=types.FLOAT) * rises[:, :, :, at * _STEPS : (at + 1) * _STEPS], axes=[3]
        )
        for at, mark in enumerate(marks)
    ]
    spread = parts[0]
    for part in parts[1:]:
        spread = spread + part
    keep = flat[:, :, :, 0]
    return fn.cast(spread * (1.0 - keep) + images * keep, dtype=types.UINT8)


_ARITHMETIC, _REDUCTIONS = "arithmetic", "reductions, arithmetic"

TABLE: dict[Primitive, Entry] = {
    Primitive.BRIGHTNESS: Entry(brightness, _ARITHMETIC),
    Primitive.CONTRAST: Entry(contrast, _REDUCTIONS),
    Primitive.CONTRAST_GREY: Entry(contrast_grey, _REDUCTIONS),
    Primitive.SATURATION: Entry(saturation, _ARITHMETIC),
    Primitive.HUE: Entry(hue, _ARITHMETIC),
    Primitive.SHARPNESS: Entry(sharpness, "filter, arithmetic"),
    Primitive.SOLARIZE: Entry(solarize, _ARITHMETIC),
    Primitive.POSTERIZE: Entry(posterize, _ARITHMETIC),
    Primitive.GRAYSCALE: Entry(grayscale, _ARITHMETIC),
    Primitive.INVERT: Entry(invert, _ARITHMETIC),
    Primitive.CHANNELS: Entry(channels, "tensor_subscript, cat"),
    Primitive.AUTOCONTRAST: Entry(autocontrast, _REDUCTIONS),
    Primitive.EQUALIZE: Entry(equalize, _REDUCTIONS),
}
