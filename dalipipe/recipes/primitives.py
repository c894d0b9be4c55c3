"""What ops come down to: the primitives that backends do. Each is declared once, in `DECLARED`.

An op of a recipe says which primitives it may become. For each sample a rule (`dalipipe.recipes.rules`) turns the op's
numbers, uniform random numbers and the size of the image into one primitive and its fields, a *record*. A backend does
primitives and knows no ops.

A record is RECORD float64 numbers:

    [DO]               the primitive; Primitive.NOTHING where the op decided not to act
    [IN_H] [IN_W]      size of the incoming image in px
    [OUT_H] [OUT_W]    size of the outgoing image in px
    [ARGS:]            the primitive's fields
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from enum import Enum, IntEnum
from itertools import permutations
from types import MappingProxyType
from typing import Any, Final

from dalipipe.recipes.layout import places, size_of, spans

NEAREST, BILINEAR, BICUBIC, NEAREST_EXACT = range(4)
PERMUTATIONS: Final = tuple(permutations(range(3)))
DO, IN_H, IN_W, OUT_H, OUT_W, ARGS = range(6)


class Primitive(IntEnum):
    """The primitives and their numbers in a record."""

    NOTHING = 0
    CROP_RESIZE = 1
    CROP_PAD = 2
    FLIP = 3
    AFFINE = 4
    ERASE = 5
    PERSPECTIVE = 6
    BRIGHTNESS = 7
    CONTRAST = 8
    SATURATION = 9
    HUE = 10
    SHARPNESS = 11
    SOLARIZE = 12
    POSTERIZE = 13
    GRAYSCALE = 14
    INVERT = 15
    AUTOCONTRAST = 16
    EQUALIZE = 17
    BLUR = 18
    CONTRAST_GREY = 19
    CHANNELS = 20


class Reach(Enum):
    """Which pixels of the image before it a pixel after a primitive depends on."""

    POINTWISE = "the pixel in the same place"
    WINDOW = "those of a box, moved, mirrored or resized"
    NEIGHBOURHOOD = "those around the same place"
    MAP = "those around the place that a matrix gives"
    WHOLE = "any of the image"


class Family(Enum):
    """What is done to pixels, as far as that decides how near a backend comes to the reference."""

    COPY = "decoding, crops, flips, erasing"
    RANGE = "rescaling and normalising"
    RESIZE = "resizing, bilinear"
    RESIZE_NEAREST = "resizing, nearest"
    RESIZE_BICUBIC = "resizing, bicubic"
    NEAREST = "rotations and affine maps, nearest"
    BILINEAR = "rotations and affine maps, bilinear"
    PERSPECTIVE = "perspective, bilinear"
    COLOUR = "colours, levels and sharpness"
    BLUR = "Gaussian blur"
    TIES = "perspective and policies, nearest"


Numbers = Mapping[str, Sequence[float]]
"""The fields of one record by name, and "size", the (height, width) of the image after it."""


@dataclass(frozen=True)
class Declaration:
    """What is to be known of a primitive.

    Attributes:
        meaning: What it does, and what its fields are.
        fields: Their names, in the order of a record; "matrix:6" for one of six numbers.
        reach: Which pixels it looks at.
        family: How near a backend comes to the reference, and so why it may differ; with bilinear interpolation where
            there is a choice.
        words: Says in a few words what a record does.
        by_interpolation: The family with another interpolation than "bilinear", where there is a choice.
        gain: Tells, for its first field, how often larger a difference in levels it can make, at most.
        on_grey: What stands for it where the image has one channel, which kernels for three have as three equal ones;
            None: itself.
    """

    meaning: str
    fields: str
    reach: Reach
    family: Family
    words: Callable[[Numbers], str]
    by_interpolation: Mapping[str, Family] = field(default_factory=dict)
    gain: Callable[[float], float] = lambda _: 1.0
    on_grey: Primitive | None = None


def _leap(_: float) -> float:
    """One level may become any, as at a threshold or in a stretched histogram."""
    return 255.0


def _blend(factor: float) -> float:
    """What is blended by a factor with something that differs as well."""
    return factor + abs(1.0 - factor)


def _says(text: str) -> Callable[[Numbers], str]:
    """Return words with the first number of each field in them."""
    return lambda numbers: text.format(**{name: values[0] for name, values in numbers.items()})


def _window(numbers: Numbers) -> str:
    height, width = numbers["size"]
    return f"window {numbers['left'][0]:.0f}, {numbers['top'][0]:.0f}, {width:.0f} x {height:.0f} px"


def _flip(numbers: Numbers) -> str:
    return "flip, left and right" if numbers["across"][0] else "flip, top and bottom"


def _affine(numbers: Numbers) -> str:
    (angle,), (scale,) = numbers["angle"], numbers["scale"]
    (x, y), (shear_x, shear_y) = numbers["shift"], numbers["shear"]
    parts = (
        (angle, f"{angle:+.0f} deg"),
        (x or y, f"by {x:.0f}, {y:.0f} px"),
        (scale - 1, f"x {scale:.2f}"),
        (shear_x or shear_y, f"shear {shear_x:.0f}, {shear_y:.0f}"),
    )
    return " ".join(text for value, text in parts if value) or "affine"


_BOX = "{left:.0f}, {top:.0f}, {width:.0f} x {height:.0f} px"

DECLARED: Final[Mapping[Primitive, Declaration]] = MappingProxyType(
    {
        Primitive.CROP_RESIZE: Declaration(
            "resize a box that lies inside the image; 1 for antialias; interpolation",
            "top left height width antialias interpolation",
            Reach.WINDOW,
            Family.RESIZE,
            _says(f"box {_BOX}"),
            by_interpolation={
                "nearest": Family.RESIZE_NEAREST,
                "nearest-exact": Family.RESIZE_NEAREST,
                "bicubic": Family.RESIZE_BICUBIC,
            },
        ),
        Primitive.CROP_PAD: Declaration(
            "keep a window, which may lie outside; levels outside",
            "top left fill:3",
            Reach.WINDOW,
            Family.COPY,
            _window,
        ),
        Primitive.FLIP: Declaration(
            "1 to mirror left and right; 1 to mirror top and bottom",
            "across down",
            Reach.WINDOW,
            Family.COPY,
            _flip,
        ),
        Primitive.AFFINE: Declaration(
            "output-to-input matrix in px, pixel centres at + 0.5; interpolation; levels outside; and what it was made "
            "of: clockwise angle in degrees, shift x, y in px, scale, shear x, y in degrees, centre x, y in px",
            "matrix:6 interpolation fill:3 angle shift:2 scale shear:2 center:2",
            Reach.MAP,
            Family.BILINEAR,
            _affine,
            by_interpolation={"nearest": Family.NEAREST},
        ),
        Primitive.ERASE: Declaration(
            "put a colour into a box; 1 where that is not in levels but what leaves the recipe",
            "top left height width value:3 finished",
            Reach.POINTWISE,
            Family.COPY,
            _says(f"erased {_BOX}"),
        ),
        Primitive.PERSPECTIVE: Declaration(
            "coefficients a to h: output (x, y) shows input ((a x + b y + c) / w, (d x + e y + f) / w), "
            "w = g x + h y + 1, pixel centres at + 0.5; interpolation; levels outside",
            "coefficients:8 interpolation fill:3",
            Reach.WHOLE,  # a window of it isn't worth the corner cases
            Family.PERSPECTIVE,
            _says("perspective"),
            by_interpolation={"nearest": Family.TIES},
        ),
        Primitive.BRIGHTNESS: Declaration(
            "multiply levels by a factor",
            "factor",
            Reach.POINTWISE,
            Family.COLOUR,
            _says("brightness x {factor:.2f}"),
            gain=lambda factor: max(1.0, factor),
        ),
        Primitive.CONTRAST: Declaration(
            "blend by a factor with the mean grey",
            "factor",
            Reach.WHOLE,
            Family.COLOUR,
            _says("contrast x {factor:.2f}"),
            gain=_blend,
            on_grey=Primitive.CONTRAST_GREY,
        ),
        Primitive.CONTRAST_GREY: Declaration(
            "the same for an image of one channel: blend by a factor with its mean",
            "factor",
            Reach.WHOLE,
            Family.COLOUR,
            _says("contrast x {factor:.2f}"),
            gain=_blend,
        ),
        Primitive.SATURATION: Declaration(
            "blend by a factor with the grey of each pixel",
            "factor",
            Reach.POINTWISE,
            Family.COLOUR,
            _says("saturation x {factor:.2f}"),
            gain=_blend,
            on_grey=Primitive.NOTHING,
        ),
        Primitive.HUE: Declaration(
            "move the hue, in whole circles",
            "circles",
            Reach.POINTWISE,
            Family.COLOUR,
            lambda numbers: f"hue {360 * numbers['circles'][0]:+.0f} degrees",
            gain=lambda _: 4.0,  # by trial: pixels one level off came out 4 apart, those 16 off 49
            on_grey=Primitive.NOTHING,
        ),
        Primitive.SHARPNESS: Declaration(
            "blend by a factor with a 3 x 3 blur; both sides are more than 2 px",
            "factor",
            Reach.NEIGHBOURHOOD,
            Family.COLOUR,
            _says("sharpness x {factor:.2f}"),
            gain=_blend,
        ),
        Primitive.SOLARIZE: Declaration(
            "invert from a least level on",
            "threshold",
            Reach.POINTWISE,
            Family.COLOUR,
            _says("solarize from {threshold:.0f}"),
            gain=_leap,
        ),
        Primitive.POSTERIZE: Declaration(
            "keep so many upper bits",
            "bits",
            Reach.POINTWISE,
            Family.COLOUR,
            _says("posterize to {bits:.0f} bits"),
            gain=_leap,
        ),
        Primitive.GRAYSCALE: Declaration(
            "put the grey of a pixel into its three channels",
            "",
            Reach.POINTWISE,
            Family.COLOUR,
            _says("grayscale"),
            on_grey=Primitive.NOTHING,
        ),
        Primitive.INVERT: Declaration(
            "turn each level l into 255 - l", "", Reach.POINTWISE, Family.COLOUR, _says("invert")
        ),
        Primitive.AUTOCONTRAST: Declaration(
            "stretch each channel to all levels",
            "",
            Reach.WHOLE,
            Family.COLOUR,
            _says("autocontrast"),
            gain=_leap,
        ),
        Primitive.EQUALIZE: Declaration(
            "spread each channel's levels by its histogram",
            "",
            Reach.WHOLE,
            Family.COLOUR,
            _says("equalize"),
            gain=_leap,
        ),
        Primitive.CHANNELS: Declaration(
            "put the channels into another order: a number below 6, whose whole part counts `PERMUTATIONS`",
            "permutation",
            Reach.POINTWISE,
            Family.COPY,
            lambda numbers: "channels {}, {}, {}".format(*PERMUTATIONS[int(numbers["permutation"][0])]),
            on_grey=Primitive.NOTHING,
        ),
        Primitive.BLUR: Declaration(
            "Gaussian blur: taps across and down, standard deviation in px",
            "across down sigma",
            Reach.NEIGHBOURHOOD,
            Family.BLUR,
            _says("blur, sigma {sigma:.2f} px"),
        ),
    }
)
"""Each primitive but NOTHING."""

RECORD: Final = ARGS + max(size_of(declared.fields) for declared in DECLARED.values())
"""Numbers of a record."""


def places_of(primitive: Primitive) -> Any:
    """Return where in a record each field of a primitive begins, as a named tuple, which compiled code may use."""
    return places(primitive.name, DECLARED[primitive].fields, ARGS)


def having(reach: Reach) -> tuple[int, ...]:
    """Return the numbers of the primitives that look at such pixels."""
    return tuple(int(primitive) for primitive, declared in DECLARED.items() if declared.reach is reach)


def on_grey(primitive: Primitive) -> Primitive:
    """Return what stands for a primitive where the image has one channel."""
    other = DECLARED[primitive].on_grey if primitive in DECLARED else None
    return primitive if other is None else other


def on_channels(primitive: Primitive, channels: int) -> Primitive:
    """Return a primitive, or what stands for it where the image has one channel."""
    return on_grey(primitive) if channels == 1 else primitive


def in_words(record: Sequence[float]) -> str:
    """Return in a few words what a record does; "" for NOTHING."""
    primitive = Primitive(int(record[DO]))
    if primitive is Primitive.NOTHING:
        return ""
    declared = DECLARED[primitive]
    numbers = {name: record[ARGS + begin : ARGS + end] for name, begin, end in spans(declared.fields)}
    return declared.words({**numbers, "size": record[OUT_H : OUT_W + 1]})
