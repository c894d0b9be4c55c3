"""Ops that change levels: what colours there are, not where they lie."""

from __future__ import annotations

from dataclasses import replace
from typing import Annotated, Any, ClassVar, Literal

from pydantic import BeforeValidator, Field, model_validator

from dalipipe.recipes.ops.base import Channels, ImageSpec, Numbers, Op, Probability
from dalipipe.recipes.primitives import PERMUTATIONS, Primitive, on_channels
from dalipipe.recipes.rules import Rule

__all__ = [
    "ColorJitter",
    "GaussianBlur",
    "Grayscale",
    "RandomAdjustSharpness",
    "RandomAutocontrast",
    "RandomChannelPermutation",
    "RandomEqualize",
    "RandomGrayscale",
    "RandomInvert",
    "RandomPosterize",
    "RandomSolarize",
]

Band = tuple[float, float]


def _around(centre: float) -> Any:
    """Return a validator that turns a strength into the range around `centre` that torchvision makes of it."""

    def band(value: Any) -> Any:
        if isinstance(value, int | float) and not isinstance(value, bool):
            if value < 0:
                raise ValueError("a single number must not be negative")
            low = centre - value
            return (max(low, 0.0) if centre else low, float(centre + value))
        return tuple(float(v) if type(v) is int else v for v in value) if isinstance(value, tuple) else value

    return BeforeValidator(band)


Factor = Annotated[Band, _around(1.0)]
Turn = Annotated[Band, _around(0.0)]


_JITTERS = {
    "brightness": Primitive.BRIGHTNESS,
    "contrast": Primitive.CONTRAST,
    "saturation": Primitive.SATURATION,
    "hue": Primitive.HUE,
}


class ColorJitter(Op):
    """Change brightness, contrast, saturation and hue by random factors, in an order drawn for each sample.

    Saturation and hue leave an image of one channel as it is.

    Args:
        brightness: A strength s for factors in [max(0, 1 - s), 1 + s], or the range itself.
        contrast: The same.
        saturation: The same.
        hue: A strength up to 0.5 for shifts in [-s, s] of the whole circle of hues, or the range itself.

    Shapes: (H, W, C) uint8 -> (H, W, C) uint8.
    Source: torchvision.transforms.v2.ColorJitter.
    """

    op: Literal["ColorJitter"] = "ColorJitter"
    primitives: ClassVar[tuple[Primitive, ...]] = tuple(_JITTERS.values())
    rule: ClassVar[Rule | None] = Rule.JITTER
    brightness: Factor = (1.0, 1.0)
    contrast: Factor = (1.0, 1.0)
    saturation: Factor = (1.0, 1.0)
    hue: Turn = (0.0, 0.0)

    @model_validator(mode="after")
    def _ranges(self) -> ColorJitter:
        for name in ("brightness", "contrast", "saturation", "hue"):
            low, high = getattr(self, name)
            least, most = (-0.5, 0.5) if name == "hue" else (0.0, float("inf"))
            if not least <= low <= high <= most:
                allowed = "-0.5 <= low <= high <= 0.5" if name == "hue" else "0 <= low <= high"
                raise ValueError(f"{name} must be a range with {allowed}, got ({low:g}, {high:g})")
        return self

    @property
    def active(self) -> tuple[tuple[str, Band], ...]:
        """Name and range of each property that is changed at all."""
        bands = (("brightness", self.brightness), ("contrast", self.contrast), ("saturation", self.saturation))
        return tuple((n, b) for n, b in (*bands, ("hue", self.hue)) if b != ((0.0, 0.0) if n == "hue" else (1.0, 1.0)))

    def factors(self) -> dict[Primitive, tuple[float, float]]:
        """Return the properties that are changed at all, with their ranges."""
        return {_JITTERS[name]: band for name, band in self.active}

    def numbers(self, part: int, channels: int) -> Numbers:
        """Return which step it is, of how many, and what each may be."""
        bands = [(on_channels(primitive, channels), *band) for primitive, band in self.factors().items()]
        return {"part": part, "count": len(bands), "bands": [number for band in bands for number in band]}

    @property
    def steps(self) -> int:
        """One for each property that is changed."""
        return len(self.active)

    @property
    def uniforms(self) -> int:
        """A place in the order and a factor for each property that is changed."""
        return 2 * len(self.active)


class _Chance(Op):
    """An op that becomes its primitive with probability `p`."""

    rule: ClassVar[Rule | None] = Rule.CHANCE
    p: Probability = 0.5

    @property
    def amount(self) -> tuple[float, float]:
        """The range from which the primitive's first field is drawn; 0 where it has none."""
        return 0.0, 0.0

    def factors(self) -> dict[Primitive, tuple[float, float]]:
        """Return the primitive with the range of its first field."""
        return dict.fromkeys(self.primitives, self.amount)

    def numbers(self, part: int, channels: int) -> Numbers:
        """Return the primitive, its probability, and the range of its first field."""
        low, high = self.amount
        return {"primitive": on_channels(self.primitives[0], channels), "p": self.p, "low": low, "high": high}

    @property
    def uniforms(self) -> int:
        """Act or not; and how much, where that is drawn."""
        low, high = self.amount
        return 1 + (low < high)


class Grayscale(Op):
    """Turn colours into shades of grey. What is grey already stays as it is.

    Args:
        num_output_channels: 3 (the default here, 1 in torchvision) for three equal channels, or 1.

    Shapes: (H, W, 1 or 3) uint8 -> (H, W, num_output_channels) uint8.
    Source: torchvision.transforms.v2.Grayscale.
    """

    op: Literal["Grayscale"] = "Grayscale"
    primitives: ClassVar[tuple[Primitive, ...]] = (Primitive.GRAYSCALE,)
    rule: ClassVar[Rule | None] = Rule.ALWAYS
    num_output_channels: Channels = 3

    def numbers(self, part: int, channels: int) -> Numbers:
        """Return the primitive."""
        return {"primitive": on_channels(Primitive.GRAYSCALE, channels)}

    def check(self, spec: ImageSpec) -> ImageSpec:
        """Return the same image with the channels asked for."""
        return replace(spec, channels=self.num_output_channels)


class RandomGrayscale(_Chance):
    """Turn colours into shades of grey with probability `p`.

    Args:
        p: Probability, 0.1 if not given.

    Shapes: (H, W, C) uint8 -> (H, W, C) uint8.
    Source: torchvision.transforms.v2.RandomGrayscale.
    """

    op: Literal["RandomGrayscale"] = "RandomGrayscale"
    primitives: ClassVar[tuple[Primitive, ...]] = (Primitive.GRAYSCALE,)
    p: Probability = 0.1


class RandomInvert(_Chance):
    """Turn each level l into 255 - l with probability `p`.

    Shapes: (H, W, C) uint8 -> (H, W, C) uint8.
    Source: torchvision.transforms.v2.RandomInvert.
    """

    op: Literal["RandomInvert"] = "RandomInvert"
    primitives: ClassVar[tuple[Primitive, ...]] = (Primitive.INVERT,)


class RandomSolarize(_Chance):
    """Invert the levels from `threshold` on with probability `p`.

    Args:
        threshold: Least level that is inverted, 0 to 255; need not be whole.
        p: Probability.

    Shapes: (H, W, C) uint8 -> (H, W, C) uint8.
    Source: torchvision.transforms.v2.RandomSolarize.
    """

    op: Literal["RandomSolarize"] = "RandomSolarize"
    primitives: ClassVar[tuple[Primitive, ...]] = (Primitive.SOLARIZE,)
    threshold: float = Field(ge=0.0, le=255.0)

    @property
    def amount(self) -> tuple[float, float]:
        """The same for all samples."""
        return self.threshold, self.threshold


class RandomPosterize(_Chance):
    """Keep the upper bits of each level with probability `p`.

    Args:
        bits: How many are kept, 0 to 8.
        p: Probability.

    Shapes: (H, W, C) uint8 -> (H, W, C) uint8.
    Source: torchvision.transforms.v2.RandomPosterize.
    """

    op: Literal["RandomPosterize"] = "RandomPosterize"
    primitives: ClassVar[tuple[Primitive, ...]] = (Primitive.POSTERIZE,)
    bits: int = Field(ge=0, le=8)

    @property
    def amount(self) -> tuple[float, float]:
        """The same for all samples."""
        return self.bits, self.bits


class RandomAutocontrast(_Chance):
    """Stretch each channel's levels to 0 to 255 with probability `p`.

    Shapes: (H, W, C) uint8 -> (H, W, C) uint8.
    Source: torchvision.transforms.v2.RandomAutocontrast.
    """

    op: Literal["RandomAutocontrast"] = "RandomAutocontrast"
    primitives: ClassVar[tuple[Primitive, ...]] = (Primitive.AUTOCONTRAST,)


class RandomEqualize(_Chance):
    """Spread each channel's levels so that all are about equally frequent, with probability `p`.

    Shapes: (H, W, C) uint8 -> (H, W, C) uint8.
    Source: torchvision.transforms.v2.RandomEqualize.
    """

    op: Literal["RandomEqualize"] = "RandomEqualize"
    primitives: ClassVar[tuple[Primitive, ...]] = (Primitive.EQUALIZE,)


class RandomAdjustSharpness(_Chance):
    """Blur (factor below 1) or sharpen (above 1) with probability `p`; the outermost pixels stay as they are.

    Args:
        sharpness_factor: 0 for a blurred image, 1 for the image as it is, 2 for one twice as sharp.
        p: Probability.

    Shapes: (H, W, C) uint8 -> (H, W, C) uint8.
    Source: torchvision.transforms.v2.RandomAdjustSharpness.
    """

    op: Literal["RandomAdjustSharpness"] = "RandomAdjustSharpness"
    primitives: ClassVar[tuple[Primitive, ...]] = (Primitive.SHARPNESS,)
    sharpness_factor: float = Field(ge=0.0)

    @property
    def amount(self) -> tuple[float, float]:
        """The same for all samples."""
        return self.sharpness_factor, self.sharpness_factor


class RandomChannelPermutation(Op):
    """Put red, green and blue into a random order, each of the six equally likely. One channel stays as it is.

    Shapes: (H, W, C) uint8 -> (H, W, C) uint8.
    Source: torchvision.transforms.v2.RandomChannelPermutation.
    """

    op: Literal["RandomChannelPermutation"] = "RandomChannelPermutation"
    primitives: ClassVar[tuple[Primitive, ...]] = (Primitive.CHANNELS,)
    rule: ClassVar[Rule | None] = Rule.CHANCE

    def numbers(self, part: int, channels: int) -> Numbers:
        """Return that it always acts, and the range that the order is drawn from."""
        return {
            "primitive": on_channels(Primitive.CHANNELS, channels),
            "p": 1.0,
            "low": 0.0,
            "high": float(len(PERMUTATIONS)),
        }

    @property
    def uniforms(self) -> int:
        """Act, as always, and which order."""
        return 2


def _kernel(value: Any) -> Any:
    return (
        (value, value) if type(value) is int else value * 2 if isinstance(value, tuple) and len(value) == 1 else value
    )


def _sigma(value: Any) -> Any:
    if type(value) in (int, float):
        return (float(value), float(value))
    return tuple(float(v) if type(v) is int else v for v in value) if isinstance(value, tuple) else value


class GaussianBlur(Op):
    """Convolve with a Gaussian of random width; borders are mirrored.

    Args:
        kernel_size: (horizontal, vertical) taps, or one for both; odd, at most 63.
        sigma: Range of the standard deviation in px, or the standard deviation itself.

    Shapes: (H, W, C) uint8 -> (H, W, C) uint8; both sides must be more than half the kernel's.
    Source: torchvision.transforms.v2.GaussianBlur.
    """

    op: Literal["GaussianBlur"] = "GaussianBlur"
    primitives: ClassVar[tuple[Primitive, ...]] = (Primitive.BLUR,)
    rule: ClassVar[Rule | None] = Rule.BLUR
    kernel_size: Annotated[tuple[int, int], BeforeValidator(_kernel)]
    sigma: Annotated[Band, BeforeValidator(_sigma)] = (0.1, 2.0)
    largest: ClassVar[int] = 63

    @model_validator(mode="after")
    def _sizes(self) -> GaussianBlur:
        if not all(1 <= size <= self.largest and size % 2 for size in self.kernel_size):
            raise ValueError(f"kernel_size must be odd and 1 to {self.largest}, got {self.kernel_size}")
        if not 0 < self.sigma[0] <= self.sigma[1]:
            raise ValueError(f"sigma must be a range with 0 < low <= high, got {self.sigma}")
        return self

    @property
    def uniforms(self) -> int:
        """The standard deviation."""
        return 1

    def check(self, spec: ImageSpec) -> ImageSpec:
        """Refuse an image that is known to be too small to be mirrored at its borders."""
        for side, taps in ((spec.width, self.kernel_size[0]), (spec.height, self.kernel_size[1])):
            self.require(
                side is None or side > taps // 2,
                f"both sides must be more than half of kernel_size {self.kernel_size}, got {spec}",
                "Take a smaller kernel",
            )
        return spec
