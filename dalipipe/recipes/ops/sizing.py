"""Ops that change the size of an image: crops, resizes, a border. Arguments and rounding are torchvision v2's."""

from __future__ import annotations

from typing import Annotated, Any, ClassVar, Literal

from pydantic import BeforeValidator, Field, model_validator

from dalipipe.recipes.ops.base import (
    Fill,
    ImageSpec,
    Numbers,
    Op,
    Range,
    Side,
    Size,
    check_range,
)
from dalipipe.recipes.primitives import Primitive
from dalipipe.recipes.rules import Rule

__all__ = ["CenterCrop", "Pad", "RandomCrop", "RandomResizedCrop", "Resize"]

Filter = Literal["nearest", "nearest-exact", "bilinear", "bicubic"]

ATTEMPTS = 10
"""How many boxes RandomResizedCrop tries before it falls back to the centre, as in torchvision."""

Margin = Annotated[int, Field(ge=0, le=65535)]


def _padding(value: Any) -> Any:
    """Turn torchvision's forms of padding (one number, two, four) into (left, top, right, bottom)."""
    if isinstance(value, int) and not isinstance(value, bool):
        return (value,) * 4
    if isinstance(value, tuple) and len(value) not in (1, 2, 4):
        raise ValueError(f"must be one number, two or four, got {value}")
    return (value[0], value[-1]) * 2 if isinstance(value, tuple) and len(value) < 4 else value


def _check_filter(interpolation: Filter, antialias: bool) -> None:
    if interpolation == "bicubic" and not antialias:
        raise ValueError(
            "bicubic needs antialias = true, for without it torch's is another cubic than DALI's and Pillow's"
        )


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
        interpolation: "bilinear", "bicubic", "nearest" (torch's) or "nearest-exact" (Pillow's, half a px aside).
        antialias: Widen the filter when shrinking; nearest has none, and "bicubic" is not available without.

    Shapes: (H, W, C) -> (size[0], size[1], C), dtype kept.
    Source: torchvision.transforms.v2.RandomResizedCrop, its ten attempts and central fallback included.
    """

    op: Literal["RandomResizedCrop"] = "RandomResizedCrop"
    primitives: ClassVar[tuple[Primitive, ...]] = (Primitive.CROP_RESIZE,)
    rule: ClassVar[Rule | None] = Rule.RANDOM_RESIZED_CROP
    size: Size
    scale: Range = (0.08, 1.0)
    ratio: Range = (3.0 / 4.0, 4.0 / 3.0)
    interpolation: Filter = "bilinear"
    antialias: bool = True

    @model_validator(mode="after")
    def _ranges(self) -> RandomResizedCrop:
        check_range("scale", self.scale, 0.0)
        check_range("ratio", self.ratio, 1e-6)
        if self.scale[1] <= 0:
            raise ValueError(f"scale must reach above 0, got {self.scale}")
        _check_filter(self.interpolation, self.antialias)
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
        interpolation: "bilinear", "bicubic", "nearest" (torch's) or "nearest-exact" (Pillow's, half a px aside).
        antialias: Widen the filter when shrinking; nearest has none, and "bicubic" is not available without.

    Shapes: (H, W, C) -> (h, w, C), dtype kept.
    Source: torchvision.transforms.v2.Resize and its _compute_resized_output_size.
    """

    op: Literal["Resize"] = "Resize"
    primitives: ClassVar[tuple[Primitive, ...]] = (Primitive.CROP_RESIZE,)
    rule: ClassVar[Rule | None] = Rule.RESIZE
    size: Side | tuple[Side, Side]
    max_size: Side | None = None
    interpolation: Filter = "bilinear"
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
        _check_filter(self.interpolation, self.antialias)
        return self

    def numbers(self, part: int, channels: int) -> Numbers:
        """Return size, limit and filter: (s, 0) is the size where only the shorter side has one."""
        size = (self.size, 0) if isinstance(self.size, int) else self.size
        limit = self.max_size or 0
        return {"size": size, "max_size": limit, "antialias": self.antialias, "interpolation": self.interpolation}

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
