"""Ops that change what a level means: they end a recipe, after the last op that works on uint8 pixels."""

from __future__ import annotations

from dataclasses import replace
from typing import Annotated, ClassVar, Literal

from pydantic import BeforeValidator, model_validator

from dalipipe.recipes.ops.base import ImageSpec, Op, Stage, triple

__all__ = ["Normalize", "ToDtype"]

Channels = Annotated[tuple[float, float, float], BeforeValidator(triple)]


class ToDtype(Op):
    """Turn uint8 levels into float32, with `scale` into fractions of 255.

    Args:
        dtype: "float32".
        scale: Divide by 255, so that values lie in [0, 1].

    Shapes: (H, W, C) uint8 -> (H, W, C) float32.
    Source: torchvision.transforms.v2.ToDtype.
    """

    op: Literal["ToDtype"] = "ToDtype"
    stage: ClassVar[Stage] = "range"
    dtype: Literal["float32"] = "float32"
    scale: bool = False

    def check(self, spec: ImageSpec) -> ImageSpec:
        """Refuse a second conversion."""
        self.require(spec.dtype == "uint8", "the pixels are float32 already", "Remove this op")
        return replace(spec, dtype="float32", scaled=self.scale)


class Normalize(Op):
    """Subtract a mean and divide by a standard deviation, channel by channel.

    uint8 levels are taken as fractions of 255: the ToDtype(scale=true) that torchvision wants before it is implied.

    Args:
        mean: Mean of the red, green and blue channel; one number for all three.
        std: Standard deviations, > 0.

    Shapes: (H, W, C) -> (H, W, C) float32.
    Source: torchvision.transforms.v2.Normalize.
    """

    op: Literal["Normalize"] = "Normalize"
    stage: ClassVar[Stage] = "range"
    mean: Channels
    std: Channels

    @model_validator(mode="after")
    def _positive(self) -> Normalize:
        if min(self.std) <= 0:
            raise ValueError(f"every std must be > 0, got {self.std}")
        return self

    def check(self, spec: ImageSpec) -> ImageSpec:
        """Refuse to normalise twice."""
        self.require(not spec.normalized, "the pixels are normalised already", "Keep one Normalize")
        scaled = True if spec.dtype == "uint8" else spec.scaled
        return replace(spec, dtype="float32", scaled=scaled, normalized=True)
