"""RandomErasing: the one op on pixels that may also follow the ops that rescale and normalise."""

from __future__ import annotations

from typing import Annotated, Any, ClassVar, Literal

from pydantic import BeforeValidator, model_validator

from dalipipe.recipes.ops.base import ImageSpec, Numbers, Op, Probability, Range, check_range, triple
from dalipipe.recipes.ops.sizing import ATTEMPTS
from dalipipe.recipes.primitives import Primitive
from dalipipe.recipes.rules import Rule

__all__ = ["RandomErasing"]


def _value(value: Any) -> Any:
    """Turn one number into three; refuse torchvision's "random" with the reason."""
    if value == "random":
        raise ValueError(
            'value "random" is not available, for noise of each pixel would not be the same on every backend; '
            "give a number or three"
        )
    return triple(value)


class RandomErasing(Op):
    """Put one colour into a random rectangle, with probability `p`.

    It may stand before the ops that rescale or normalise, or after them.

    Args:
        p: Probability of erasing anything.
        scale: Range of the rectangle's area as a fraction of the image's.
        ratio: Range of the rectangle's height / width, drawn uniformly in its logarithm.
        value: What is put there, one number or one for each channel, in the unit of this place: whole levels 0 to 255
            on uint8 pixels, floats after ToDtype or Normalize (0, the default, is then the mean).

    Shapes: (H, W, C) -> (H, W, C), dtype kept.
    Source: torchvision.transforms.v2.RandomErasing, its ten attempts included, without value="random"; Zhong et al.,
    "Random Erasing Data Augmentation" (AAAI 2020).
    """

    op: Literal["RandomErasing"] = "RandomErasing"
    anywhere: ClassVar[bool] = True
    primitives: ClassVar[tuple[Primitive, ...]] = (Primitive.ERASE,)
    rule: ClassVar[Rule | None] = Rule.ERASING
    p: Probability = 0.5
    scale: Range = (0.02, 0.33)
    ratio: Range = (0.3, 3.3)
    value: Annotated[tuple[float, float, float], BeforeValidator(_value)] = (0.0, 0.0, 0.0)

    @model_validator(mode="after")
    def _ranges(self) -> RandomErasing:
        check_range("scale", self.scale, 0.0, 1.0)
        check_range("ratio", self.ratio, 1e-6)
        return self

    @property
    def uniforms(self) -> int:
        """Erase or not, ten areas, ten ratios, top, left."""
        return 2 * ATTEMPTS + 3

    def numbers(self, part: int, channels: int) -> Numbers:
        """Return the arguments, for a value in levels."""
        return {"p": self.p, "scale": self.scale, "ratio": self.ratio, "value": self.value, "finished": False}

    def check(self, spec: ImageSpec) -> ImageSpec:
        """Refuse a value that is no level where the pixels are levels."""
        levels = all(level == int(level) and 0 <= level <= 255 for level in self.value)
        self.require(
            spec.dtype == "float32" or levels,
            f"value must be whole levels 0 to 255 where pixels are uint8, got {self.value}",
            "Give levels, or put it after ToDtype or Normalize",
        )
        return spec
