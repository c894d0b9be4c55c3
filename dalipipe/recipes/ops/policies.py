"""Policies: published sets of ops of which some are drawn for each sample, with torchvision's magnitudes."""

from __future__ import annotations

from typing import ClassVar, Literal

from pydantic import Field, model_validator

from dalipipe.recipes.ops.base import Fill, Interpolation, Numbers, Op
from dalipipe.recipes.primitives import Family, Primitive
from dalipipe.recipes.rules import Rule

__all__ = ["AutoAugment", "Policy", "RandAugment", "TrivialAugmentWide"]

RAND_AUGMENT, TRIVIAL_AUGMENT_WIDE, AUTO_AUGMENT = range(3)
IMAGENET_BINS = 10
"""How many magnitudes AutoAugment's policy for ImageNet tells apart."""

_SPACE = (
    Primitive.AFFINE,
    Primitive.BRIGHTNESS,
    Primitive.CONTRAST,
    Primitive.SATURATION,
    Primitive.SHARPNESS,
    Primitive.SOLARIZE,
    Primitive.POSTERIZE,
    Primitive.AUTOCONTRAST,
    Primitive.EQUALIZE,
)


class Policy(Op):
    """What the policies have in common.

    Args:
        interpolation: "nearest" or "bilinear", for shears, translations and rotations.
        fill: Level 0 to 255 that they leave outside the image, or one for each channel.
    """

    primitives: ClassVar[tuple[Primitive, ...]] = _SPACE
    rule: ClassVar[Rule | None] = Rule.POLICY
    policy_number: ClassVar[int]
    interpolation: Interpolation = "nearest"
    fill: Fill = (0.0, 0.0, 0.0)

    def _magnitudes(self) -> tuple[int, int]:
        """Return how many magnitudes there are, and which of them where it is fixed."""
        raise NotImplementedError

    def numbers(self, part: int, channels: int) -> Numbers:
        """Return which policy, its magnitudes, which step of it, and how what moves is filled."""
        bins, magnitude = self._magnitudes()
        return {
            "policy": self.policy_number,
            "bins": bins,
            "magnitude": magnitude,
            "part": part,
            "interpolation": self.interpolation,
            "fill": self.fill,
            "grey": channels == 1,
        }

    @property
    def family(self) -> Family:
        """The family of what moves, the furthest off: corners and centres on whole px put coordinates midway."""
        return Family.TIES if self.interpolation == "nearest" else Family.BILINEAR

    @property
    def uniforms(self) -> int:
        """For each op: which, how much, to which side."""
        return 3 * self.steps


class RandAugment(Policy):
    """Do `num_ops` ops out of 14, each equally likely, all with one magnitude.

    Args:
        num_ops: How many, one after the other.
        magnitude: Which bin of each op's magnitudes, from 0 on.
        num_magnitude_bins: How many bins there are.
        interpolation: "nearest" or "bilinear".
        fill: Level 0 to 255 outside the image, or one for each channel.

    Shapes: (H, W, C) uint8 -> (H, W, C) uint8.
    Source: Cubuk et al., RandAugment (arXiv:1909.13719); torchvision.transforms.v2.RandAugment.
    """

    op: Literal["RandAugment"] = "RandAugment"
    policy_number: ClassVar[int] = RAND_AUGMENT
    num_ops: int = Field(default=2, ge=1, le=8)
    magnitude: int = Field(default=9, ge=0)
    num_magnitude_bins: int = Field(default=31, ge=2)

    @model_validator(mode="after")
    def _within(self) -> RandAugment:
        if self.magnitude >= self.num_magnitude_bins:
            raise ValueError(
                f"magnitude must be less than num_magnitude_bins = {self.num_magnitude_bins}, got {self.magnitude}"
            )
        return self

    def _magnitudes(self) -> tuple[int, int]:
        return self.num_magnitude_bins, self.magnitude

    @property
    def steps(self) -> int:
        """How many ops are done one after the other."""
        return self.num_ops


class TrivialAugmentWide(Policy):
    """Do one op out of 14, with a magnitude drawn from wide ranges.

    Args:
        num_magnitude_bins: How many magnitudes there are for each op.
        interpolation: "nearest" or "bilinear".
        fill: Level 0 to 255 outside the image, or one for each channel.

    Shapes: (H, W, C) uint8 -> (H, W, C) uint8.
    Source: Müller and Hutter, TrivialAugment (arXiv:2103.10158); torchvision.transforms.v2.TrivialAugmentWide.
    """

    op: Literal["TrivialAugmentWide"] = "TrivialAugmentWide"
    policy_number: ClassVar[int] = TRIVIAL_AUGMENT_WIDE
    num_magnitude_bins: int = Field(default=31, ge=2)

    def _magnitudes(self) -> tuple[int, int]:
        return self.num_magnitude_bins, 0


class AutoAugment(Policy):
    """Do one of the 25 pairs of ops that were learned on ImageNet, each op with its own probability.

    Args:
        policy: "imagenet".
        interpolation: "nearest" or "bilinear".
        fill: Level 0 to 255 outside the image, or one for each channel.

    Shapes: (H, W, C) uint8 -> (H, W, C) uint8.
    Source: Cubuk et al., AutoAugment (arXiv:1805.09501); torchvision.transforms.v2.AutoAugment.
    """

    op: Literal["AutoAugment"] = "AutoAugment"
    policy_number: ClassVar[int] = AUTO_AUGMENT
    primitives: ClassVar[tuple[Primitive, ...]] = (*_SPACE, Primitive.INVERT)
    policy: Literal["imagenet"] = "imagenet"

    def _magnitudes(self) -> tuple[int, int]:
        return IMAGENET_BINS, 0

    @property
    def steps(self) -> int:
        """Two."""
        return 2

    @property
    def uniforms(self) -> int:
        """The pair; for each op: whether, and to which side."""
        return 5
