"""What every op is: data with arguments, checks and a rule for the shape of its output. An op does not run."""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass, replace
from typing import Annotated, Any, ClassVar, Literal

from pydantic import BaseModel, BeforeValidator, ConfigDict, Field, model_validator

from dalipipe.errors import RecipeError
from dalipipe.recipes.primitives import DECLARED, Family, Primitive, on_channels
from dalipipe.recipes.rules import FIELDS, Rule

Stage = Literal["pixels", "range", "tail"]
"""When an op may come: "pixels" works on uint8 images, "range" changes what a level means, "tail" may follow it."""

Channels = Literal[1, 3]
"""How many numbers a pixel has: grey, or red, green and blue."""

Interpolation = Literal["nearest", "bilinear"]
Probability = Annotated[float, Field(ge=0.0, le=1.0)]


@dataclass(frozen=True)
class ImageSpec:
    """What is known of an image between two ops before it is opened.

    Attributes:
        height: Height in px, None where it depends on the file.
        width: Width in px, None where it depends on the file.
        dtype: "uint8" (levels 0 to 255) or "float32".
        scaled: Whether float values are fractions of 255.
        normalized: Whether a mean was subtracted.
        channels: 3, red, green and blue, or 1, grey.
    """

    height: int | None = None
    width: int | None = None
    dtype: Literal["uint8", "float32"] = "uint8"
    scaled: bool = False
    normalized: bool = False
    channels: Channels = 3

    def resized(self, height: int | None, width: int | None) -> ImageSpec:
        """Return the same image with another size."""
        return replace(self, height=height, width=width)

    def __str__(self) -> str:
        """Return for example "224 x 224 x 3 uint8"."""
        side = [("?" if n is None else str(n)) for n in (self.height, self.width)]
        return f"{side[0]} x {side[1]} x {self.channels} {self.dtype}"


Numbers = dict[str, Any]
"""What an op gives to its rule: a number, several, or the name of an interpolation, for each of the rule's names."""


class Arguments(BaseModel):
    """An op as data, of images or of sentences: its name and its arguments."""

    model_config = ConfigDict(frozen=True, extra="forbid", validate_default=True, strict=True, allow_inf_nan=False)

    op: str

    @model_validator(mode="before")
    @classmethod
    def _tuples(cls, data: Any) -> Any:
        """Turn TOML's lists into the tuples that the fields hold."""
        if not isinstance(data, dict):
            return data
        return {name: tuple(value) if isinstance(value, list) else value for name, value in data.items()}

    def arguments(self) -> dict[str, Any]:
        """Return the arguments that differ from their defaults, ready for TOML."""
        return self.model_dump(mode="json", exclude={"op"}, exclude_defaults=True, exclude_none=True)


def tables_of(ops: Sequence[Arguments]) -> list[dict[str, Any]]:
    """Return ops as the tables that TOML has for them."""
    return [{"op": op.op, **op.arguments()} for op in ops]


class Op(Arguments):
    """One step of a recipe: its arguments, what it makes of a shape, which primitives it may become, and by which rule.

    Class attributes:
        primitives: What it may become, whatever its arguments; none for an op of the range, or one that holds others.
        rule: How that is decided for a sample.
    """

    stage: ClassVar[Stage] = "pixels"
    anywhere: ClassVar[bool] = False  # whether an op on pixels may follow one of the range, and so belong to the tail
    primitives: ClassVar[tuple[Primitive, ...]] = ()
    rule: ClassVar[Rule | None] = None

    @property
    def uniforms(self) -> int:
        """How many uniform random numbers one sample needs; 0 for an op that decides nothing."""
        return 0

    @property
    def steps(self) -> int:
        """How many primitives are done one after the other for one sample."""
        return 1

    @property
    def is_random(self) -> bool:
        """Whether the op draws random numbers."""
        return self.uniforms > 0

    def factors(self) -> dict[Primitive, tuple[float, float]]:
        """Return what the op may become with these arguments, and the range of its first field, 1 where it has none."""
        return dict.fromkeys(self.primitives, (1.0, 1.0))

    def becomes(self, channels: int) -> tuple[Primitive, ...]:
        """Return what the op may become with these arguments, other than nothing, where the image has such channels."""
        found = dict.fromkeys(on_channels(primitive, channels) for primitive in self.factors())
        return tuple(primitive for primitive in found if primitive is not Primitive.NOTHING)

    def numbers(self, part: int, channels: int) -> Numbers:
        """Return what the op's rule gets: the arguments that are called as the rule calls its numbers.

        Args:
            part: Which of the op's steps.
            channels: Of the image before it.
        """
        names = [field.partition(":")[0] for field in FIELDS[self.rule].split()] if self.rule is not None else []
        return {name: getattr(self, name) for name in names}

    @property
    def family(self) -> Family:
        """What the op does to pixels, for the tolerances."""
        if self.stage == "range":
            return Family.RANGE
        if not self.primitives:
            return Family.COPY
        declared = DECLARED[self.primitives[0]]
        return declared.by_interpolation.get(getattr(self, "interpolation", ""), declared.family)

    def check(self, spec: ImageSpec) -> ImageSpec:
        """Return what the op makes of `spec`.

        Raises:
            RecipeError: the op can't work on such an image.
        """
        return spec

    def require(self, condition: bool, rule: str, advice: str) -> None:
        """Raise the standard error of this op unless `condition` holds.

        Raises:
            RecipeError: `<op>: <rule>. <advice>.`
        """
        if not condition:
            raise RecipeError(f"{self.op}: {rule}. {advice}.")


def check_range(name: str, pair: tuple[float, float] | None, low: float, high: float = math.inf) -> None:
    """Refuse a pair that is no range within limits.

    Raises:
        ValueError: names the argument and the limits; pydantic reports it.
    """
    if pair is not None and not (low <= pair[0] <= pair[1] <= high):
        limit = "" if math.isinf(high) else f" <= {high:g}"
        raise ValueError(f"{name} must be (low, high) with {low:g} <= low <= high{limit}, got {pair}")


def _pair(value: Any) -> Any:
    """Turn one side into what a (height, width) field takes."""
    if isinstance(value, int) and not isinstance(value, bool):
        return (value, value)
    return value * 2 if isinstance(value, tuple) and len(value) == 1 else value


def triple(value: Any) -> Any:
    """Turn one number into one for each channel."""
    if isinstance(value, int | float) and not isinstance(value, bool):
        return (value,) * 3
    return value * 3 if isinstance(value, tuple) and len(value) == 1 else value


Side = Annotated[int, Field(ge=1, le=65535)]
Size = Annotated[tuple[Side, Side], BeforeValidator(_pair)]
Level = Annotated[float, Field(ge=0, le=255)]
Fill = Annotated[tuple[Level, Level, Level], BeforeValidator(triple)]
Range = tuple[float, float]
