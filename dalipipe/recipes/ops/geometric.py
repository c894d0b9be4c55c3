"""Ops that move pixels: crops, resizes, flips, rotations, affine maps.

Names, arguments, defaults and rounding are torchvision v2's.
"""

from __future__ import annotations

import math
from typing import Annotated, Any, ClassVar, Literal

from pydantic import BeforeValidator, Field, model_validator

from dalipipe.recipes.ops.base import Fill, ImageSpec, Interpolation, Numbers, Op, Probability, Side, Size
from dalipipe.recipes.primitives import Primitive
from dalipipe.recipes.rules import Rule

__all__ = [
    "CenterCrop",
    "Pad",
    "RandomAffine",
    "RandomCrop",
    "RandomHorizontalFlip",
    "RandomPerspective",
    "RandomResizedCrop",
    "RandomRotation",
    "RandomVerticalFlip",
    "Resize",
]

ATTEMPTS = 10
"""How many boxes RandomResizedCrop tries before it falls back to the centre, as in torchvision."""

_MIDDLE = (math.nan, math.nan)


def _around_zero(value: Any) -> Any:
    """Turn `degrees=15` into (-15, 15), as torchvision does."""
    if isinstance(value, int | float) and not isinstance(value, bool):
        if value < 0:
            raise ValueError("a single number must be >= 0")
        return (-value, value)
    return value


def _shear_range(value: Any) -> Any:
    """Turn torchvision's forms of shear (one number, two, four) into (x min, x max, y min, y max)."""
    value = _around_zero(value)
    if isinstance(value, tuple) and len(value) not in (2, 4):
        raise ValueError(f"must be one number, two or four, got {value}")
    return (*value, 0.0, 0.0) if isinstance(value, tuple) and len(value) == 2 else value


def _padding(value: Any) -> Any:
    """Turn torchvision's forms of padding (one number, two, four) into (left, top, right, bottom)."""
    if isinstance(value, int) and not isinstance(value, bool):
        return (value,) * 4
    if isinstance(value, tuple) and len(value) not in (1, 2, 4):
        raise ValueError(f"must be one number, two or four, got {value}")
    return (value[0], value[-1]) * 2 if isinstance(value, tuple) and len(value) < 4 else value


Degrees = Annotated[tuple[float, float], BeforeValidator(_around_zero)]
Range = tuple[float, float]
Margin = Annotated[int, Field(ge=0, le=65535)]


def _check_range(name: str, pair: tuple[float, float] | None, low: float, high: float = math.inf) -> None:
    if pair is not None and not (low <= pair[0] <= pair[1] <= high):
        limit = "" if math.isinf(high) else f" <= {high:g}"
        raise ValueError(f"{name} must be (low, high) with {low:g} <= low <= high{limit}, got {pair}")


def shorter_side_size(height: int, width: int, size: int, max_size: int) -> tuple[int, int]:
    """Return (height, width) in px after resizing the shorter side to `size`; `max_size` 0 means no limit.

    Source: torchvision.transforms.functional._compute_resized_output_size; where that gives a side of 0 px, which
    nothing can resize to, this gives 1. Numba compiles it for dalipipe.decisions.geometry.
    """
    short, long = min(height, width), max(height, width)
    new_short, new_long = size, int(size * long / short)
    if max_size > 0 and new_long > max_size:
        new_short, new_long = max(1, int(max_size * new_short / new_long)), max_size
    if width <= height:
        return new_long, new_short
    return new_short, new_long


class RandomResizedCrop(Op):
    """Crop a random box of random area and aspect ratio and resize it.

    Args:
        size: Output (height, width) in px; one number for a square.
        scale: Range of the box's area as a fraction of the image's.
        ratio: Range of the box's width / height, drawn uniformly in its logarithm.
        interpolation: "bilinear".
        antialias: Widen the bilinear filter when shrinking.

    Shapes: (H, W, C) -> (size[0], size[1], C), dtype kept.
    Source: torchvision.transforms.v2.RandomResizedCrop, its ten attempts and central fallback included.
    """

    op: Literal["RandomResizedCrop"] = "RandomResizedCrop"
    primitives: ClassVar[tuple[Primitive, ...]] = (Primitive.CROP_RESIZE,)
    rule: ClassVar[Rule | None] = Rule.RANDOM_RESIZED_CROP
    size: Size
    scale: Range = (0.08, 1.0)
    ratio: Range = (3.0 / 4.0, 4.0 / 3.0)
    interpolation: Literal["bilinear"] = "bilinear"
    antialias: bool = True

    @model_validator(mode="after")
    def _ranges(self) -> RandomResizedCrop:
        _check_range("scale", self.scale, 0.0)
        _check_range("ratio", self.ratio, 1e-6)
        if self.scale[1] <= 0:
            raise ValueError(f"scale must reach above 0, got {self.scale}")
        return self

    @property
    def uniforms(self) -> int:
        """Ten areas, ten ratios, top, left."""
        return 2 * ATTEMPTS + 2

    def check(self, spec: ImageSpec) -> ImageSpec:
        """Return the fixed output size."""
        return spec.resized(*self.size)


class Resize(Op):
    """Resize to a fixed size, or so that the shorter side has a given length.

    Args:
        size: One number for the shorter side (the longer becomes int(size * long / short)), or (height, width), in px.
        max_size: Upper limit of the longer side in px; only with a single number.
        interpolation: "bilinear".
        antialias: Widen the bilinear filter when shrinking.

    Shapes: (H, W, C) -> (h, w, C), dtype kept.
    Source: torchvision.transforms.v2.Resize and its _compute_resized_output_size.
    """

    op: Literal["Resize"] = "Resize"
    primitives: ClassVar[tuple[Primitive, ...]] = (Primitive.CROP_RESIZE,)
    rule: ClassVar[Rule | None] = Rule.RESIZE
    size: Side | tuple[Side, Side]
    max_size: Side | None = None
    interpolation: Literal["bilinear"] = "bilinear"
    antialias: bool = True

    @model_validator(mode="before")
    @classmethod
    def _single(cls, data: Any) -> Any:
        if isinstance(data, dict) and isinstance(data.get("size"), list | tuple) and len(data["size"]) == 1:
            return {**data, "size": data["size"][0]}
        return data

    @model_validator(mode="after")
    def _limit(self) -> Resize:
        if self.max_size is not None and not isinstance(self.size, int):
            raise ValueError("max_size needs a single number as size")
        if self.max_size is not None and isinstance(self.size, int) and self.max_size <= self.size:
            raise ValueError(f"max_size must exceed size, got {self.max_size} for size {self.size}")
        return self

    def numbers(self, part: int, channels: int) -> Numbers:
        """Return size, limit and filter: (s, 0) is the size where only the shorter side has one."""
        size = (self.size, 0) if isinstance(self.size, int) else self.size
        return {"size": size, "max_size": self.max_size or 0, "antialias": self.antialias}

    def check(self, spec: ImageSpec) -> ImageSpec:
        """Return the output size where it does not depend on the file."""
        if not isinstance(self.size, int):
            return spec.resized(*self.size)
        if spec.height is None or spec.width is None:
            return spec.resized(None, None)
        return spec.resized(*shorter_side_size(spec.height, spec.width, self.size, self.max_size or 0))


class CenterCrop(Op):
    """Keep the central window; an image smaller than it is padded with zeros.

    Args:
        size: (height, width) of the window in px; one number for a square.

    Shapes: (H, W, C) -> (size[0], size[1], C), dtype kept.
    Source: torchvision.transforms.v2.CenterCrop, its rounding of odd margins included.
    """

    op: Literal["CenterCrop"] = "CenterCrop"
    primitives: ClassVar[tuple[Primitive, ...]] = (Primitive.CROP_PAD,)
    rule: ClassVar[Rule | None] = Rule.CENTER_CROP
    size: Size

    def check(self, spec: ImageSpec) -> ImageSpec:
        """Refuse a window that is known to exceed the image."""
        for name, incoming, wanted in zip(("height", "width"), (spec.height, spec.width), self.size, strict=True):
            self.require(
                incoming is None or wanted <= incoming,
                f"size {wanted} exceeds the incoming {name} of {incoming} px",
                "Put a Resize before it or lower size",
            )
        return spec.resized(*self.size)


class RandomCrop(Op):
    """Keep a random window, after padding the image.

    Args:
        size: (height, width) of the window in px; one number for a square.
        padding: Pixels added before cropping: one number, (left and right, top and bottom), or (left, top, right,
            bottom).
        pad_if_needed: Pad an image smaller than the window on both sides; without it such a file is a bad file.
        fill: Level 0 to 255 of the added pixels, or one for each channel.

    Shapes: (H, W, C) -> (size[0], size[1], C), dtype kept.
    Source: torchvision.transforms.v2.RandomCrop with padding_mode="constant".
    """

    op: Literal["RandomCrop"] = "RandomCrop"
    primitives: ClassVar[tuple[Primitive, ...]] = (Primitive.CROP_PAD,)
    rule: ClassVar[Rule | None] = Rule.RANDOM_CROP
    size: Size
    padding: Annotated[tuple[Margin, Margin, Margin, Margin], BeforeValidator(_padding)] = (0, 0, 0, 0)
    pad_if_needed: bool = False
    fill: Fill = (0, 0, 0)

    @property
    def uniforms(self) -> int:
        """Top, left."""
        return 2

    def check(self, spec: ImageSpec) -> ImageSpec:
        """Refuse a window that is known to exceed the padded image."""
        left, top, right, bottom = self.padding
        sides = (("height", spec.height, top + bottom, self.size[0]), ("width", spec.width, left + right, self.size[1]))
        for name, incoming, added, wanted in sides:
            self.require(
                self.pad_if_needed or incoming is None or wanted <= incoming + added,
                f"size {wanted} exceeds the incoming {name} of {incoming} px with {added} px of padding",
                "Put a Resize before it, add padding or set pad_if_needed = true",
            )
        return spec.resized(*self.size)


class RandomHorizontalFlip(Op):
    """Mirror left and right with probability `p`.

    Shapes: (H, W, C) -> (H, W, C), dtype kept.
    Source: torchvision.transforms.v2.RandomHorizontalFlip.
    """

    op: Literal["RandomHorizontalFlip"] = "RandomHorizontalFlip"
    primitives: ClassVar[tuple[Primitive, ...]] = (Primitive.FLIP,)
    rule: ClassVar[Rule | None] = Rule.FLIP_ACROSS
    p: Probability = 0.5

    @property
    def uniforms(self) -> int:
        """Flip or not."""
        return 1


class RandomVerticalFlip(Op):
    """Mirror top and bottom with probability `p`.

    Shapes: (H, W, C) -> (H, W, C), dtype kept.
    Source: torchvision.transforms.v2.RandomVerticalFlip.
    """

    op: Literal["RandomVerticalFlip"] = "RandomVerticalFlip"
    primitives: ClassVar[tuple[Primitive, ...]] = (Primitive.FLIP,)
    rule: ClassVar[Rule | None] = Rule.FLIP_DOWN
    p: Probability = 0.5

    @property
    def uniforms(self) -> int:
        """Flip or not."""
        return 1


class RandomRotation(Op):
    """Rotate by a random angle, counter-clockwise, size kept.

    Args:
        degrees: Range of the angle in degrees; one number d means (-d, d).
        interpolation: "nearest" (torchvision's default) or "bilinear".
        center: (x, y) of the centre in px from the upper left corner; default the middle of the image.
        fill: Level 0 to 255 outside the image, or one for each channel.

    Shapes: (H, W, C) -> (H, W, C), dtype kept; bilinear values are rounded back to whole levels.
    Source: torchvision.transforms.v2.RandomRotation with expand=False, on tensors.
    """

    op: Literal["RandomRotation"] = "RandomRotation"
    primitives: ClassVar[tuple[Primitive, ...]] = (Primitive.AFFINE,)
    rule: ClassVar[Rule | None] = Rule.ROTATION
    degrees: Degrees
    interpolation: Interpolation = "nearest"
    center: tuple[float, float] | None = None
    fill: Fill = (0, 0, 0)

    @model_validator(mode="after")
    def _ranges(self) -> RandomRotation:
        _check_range("degrees", self.degrees, -360.0, 360.0)
        return self

    def numbers(self, part: int, channels: int) -> Numbers:
        """Return the arguments; the centre is NaN where it is the middle of the image."""
        arguments = {name: getattr(self, name) for name in ("degrees", "interpolation", "fill")}
        return {**arguments, "center": self.center or _MIDDLE}

    @property
    def uniforms(self) -> int:
        """The angle."""
        return 1


class RandomAffine(Op):
    """Rotate, translate, scale and shear at random, the centre kept in place, size kept.

    Args:
        degrees: Range of the angle in degrees (clockwise); one number d means (-d, d).
        translate: Largest shift as a fraction of the (width, height), each in [0, 1].
        scale: Range of the scale factor.
        shear: Range of the shear angles in degrees: one number s for x in (-s, s), (x min, x max), or four for x and y.
        interpolation: "nearest" (torchvision's default) or "bilinear".
        fill: Level 0 to 255 outside the image, or one for each channel.
        center: (x, y) of the centre in px from the upper left corner; default the middle of the image.

    Shapes: (H, W, C) -> (H, W, C), dtype kept; bilinear values are rounded back to whole levels.
    Source: torchvision.transforms.v2.RandomAffine, on tensors.
    """

    op: Literal["RandomAffine"] = "RandomAffine"
    primitives: ClassVar[tuple[Primitive, ...]] = (Primitive.AFFINE,)
    rule: ClassVar[Rule | None] = Rule.AFFINE
    degrees: Degrees
    translate: tuple[Probability, Probability] | None = None
    scale: Range | None = None
    shear: Annotated[tuple[float, float, float, float] | None, BeforeValidator(_shear_range)] = None
    interpolation: Interpolation = "nearest"
    fill: Fill = (0, 0, 0)
    center: tuple[float, float] | None = None

    @model_validator(mode="after")
    def _ranges(self) -> RandomAffine:
        _check_range("degrees", self.degrees, -360.0, 360.0)
        _check_range("scale", self.scale, 1e-6)
        if self.shear is not None:
            _check_range("shear", self.shear[:2], -89.0, 89.0)
            _check_range("shear", self.shear[2:], -89.0, 89.0)
        return self

    def numbers(self, part: int, channels: int) -> Numbers:
        """Return the arguments, those that are not given as what changes nothing; the centre is NaN for the middle."""
        return {
            "degrees": self.degrees,
            "translate": self.translate or (0.0, 0.0),
            "scale": self.scale or (1.0, 1.0),
            "shear": self.shear or (0.0, 0.0, 0.0, 0.0),
            "center": self.center or _MIDDLE,
            "interpolation": self.interpolation,
            "fill": self.fill,
        }

    @property
    def uniforms(self) -> int:
        """Angle, shift in x and y, scale, shear in x and y."""
        return 6


class Pad(Op):
    """Put a border of one colour around the image.

    Args:
        padding: Width of the border in px: one number, (left and right, top and bottom), or (left, top, right, bottom).
        fill: Level 0 to 255 of the border, or one for each channel.

    Shapes: (H, W, C) uint8 -> (H + top + bottom, W + left + right, C) uint8.
    Source: torchvision.transforms.v2.Pad with padding_mode="constant".
    """

    op: Literal["Pad"] = "Pad"
    primitives: ClassVar[tuple[Primitive, ...]] = (Primitive.CROP_PAD,)
    rule: ClassVar[Rule | None] = Rule.PAD
    padding: Annotated[tuple[Margin, Margin, Margin, Margin], BeforeValidator(_padding)]
    fill: Fill = (0.0, 0.0, 0.0)

    def check(self, spec: ImageSpec) -> ImageSpec:
        """Return the size with the border."""
        left, top, right, bottom = self.padding
        height = None if spec.height is None else spec.height + top + bottom
        return spec.resized(height, None if spec.width is None else spec.width + left + right)


class RandomPerspective(Op):
    """Move the four corners inwards by random distances, as if the image were seen from aside.

    Args:
        distortion_scale: 0 to 1: how far, as a fraction of half the image.
        p: Probability.
        interpolation: "bilinear" or "nearest".
        fill: Level 0 to 255 outside the image, or one for each channel.

    Shapes: (H, W, C) uint8 -> (H, W, C) uint8.
    Source: torchvision.transforms.v2.RandomPerspective.
    """

    op: Literal["RandomPerspective"] = "RandomPerspective"
    primitives: ClassVar[tuple[Primitive, ...]] = (Primitive.PERSPECTIVE,)
    rule: ClassVar[Rule | None] = Rule.PERSPECTIVE
    distortion_scale: float = Field(default=0.5, ge=0.0, le=1.0)
    p: Probability = 0.5
    interpolation: Interpolation = "bilinear"
    fill: Fill = (0.0, 0.0, 0.0)

    @property
    def uniforms(self) -> int:
        """Act or not, and two coordinates for each corner."""
        return 9
