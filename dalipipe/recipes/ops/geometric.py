"""Ops that move pixels and keep the size: flips, rotations, affine maps, perspective; as torchvision v2 has them."""

from __future__ import annotations

import math
from typing import Annotated, Any, ClassVar, Literal

from pydantic import BeforeValidator, Field, model_validator

from dalipipe.recipes.ops.base import (
    Fill,
    Interpolation,
    Numbers,
    Op,
    Probability,
    Range,
    check_range,
)
from dalipipe.recipes.primitives import Primitive
from dalipipe.recipes.rules import Rule

__all__ = ["RandomAffine", "RandomHorizontalFlip", "RandomPerspective", "RandomRotation", "RandomVerticalFlip"]

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


Degrees = Annotated[tuple[float, float], BeforeValidator(_around_zero)]


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
        check_range("degrees", self.degrees, -360.0, 360.0)
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
        check_range("degrees", self.degrees, -360.0, 360.0)
        check_range("scale", self.scale, 1e-6)
        if self.shear is not None:
            check_range("shear", self.shear[:2], -89.0, 89.0)
            check_range("shear", self.shear[2:], -89.0, 89.0)
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
