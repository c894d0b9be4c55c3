"""How the primitive of an op is decided for a sample: the rules, and the numbers that an op gives to one.

The numbers belong to the op and are the same for all samples. By default they are the op's arguments of the same names
(`Op.numbers`). `dalipipe.decisions.geometry` has what each rule does, compiled.
"""

from __future__ import annotations

from collections.abc import Mapping
from enum import IntEnum
from types import MappingProxyType
from typing import Any, Final

from dalipipe.recipes.layout import places, size_of


class Rule(IntEnum):
    """The rules, named after what is drawn, or else by the op that has one to itself."""

    RANDOM_RESIZED_CROP = 1
    RESIZE = 2
    CENTER_CROP = 3
    PAD = 4
    RANDOM_CROP = 5
    FLIP_ACROSS = 6
    FLIP_DOWN = 7
    ROTATION = 8
    AFFINE = 9
    ERASING = 10
    PERSPECTIVE = 11
    ALWAYS = 12
    CHANCE = 13
    JITTER = 14
    BLUR = 15
    POLICY = 16


FIELDS: Final[Mapping[Rule, str]] = MappingProxyType(
    {
        Rule.RANDOM_RESIZED_CROP: "size:2 scale:2 ratio:2 antialias interpolation",
        Rule.RESIZE: "size:2 max_size antialias interpolation",  # (s, 0): the shorter side; max_size 0: no limit
        Rule.CENTER_CROP: "size:2",
        Rule.PAD: "padding:4 fill:3",
        Rule.RANDOM_CROP: "size:2 padding:4 pad_if_needed fill:3",
        Rule.FLIP_ACROSS: "p",
        Rule.FLIP_DOWN: "p",
        Rule.ROTATION: "degrees:2 center:2 interpolation fill:3",  # center NaN: the middle
        Rule.AFFINE: "degrees:2 translate:2 scale:2 shear:4 center:2 interpolation fill:3",
        Rule.ERASING: "p scale:2 ratio:2 value:3 finished",
        Rule.PERSPECTIVE: "p distortion_scale interpolation fill:3",
        Rule.ALWAYS: "primitive",
        Rule.CHANCE: "primitive p low high",  # its first field is drawn from low to high
        Rule.JITTER: "part count bands:12",  # bands: primitive, low, high of each
        Rule.BLUR: "kernel_size:2 sigma:2",
        Rule.POLICY: "policy bins magnitude part interpolation fill:3 grey",
    }
)
"""The numbers of each rule."""

NUMBERS: Final = max(size_of(fields) for fields in FIELDS.values())
"""The most numbers that a rule has."""

SIZING: Final = (
    Rule.RANDOM_RESIZED_CROP.value,
    Rule.RESIZE.value,
    Rule.CENTER_CROP.value,
    Rule.PAD.value,
    Rule.RANDOM_CROP.value,
)
"""The rules under which the size of an image changes."""

COLOURING: Final = (Rule.ALWAYS.value, Rule.CHANCE.value, Rule.JITTER.value, Rule.BLUR.value)
"""The rules under which levels change, and nothing moves."""


FOR_ALL: Final = (
    *SIZING,
    Rule.ROTATION.value,
    Rule.AFFINE.value,
    Rule.BLUR.value,
    Rule.FLIP_ACROSS.value,
    Rule.FLIP_DOWN.value,
    Rule.ERASING.value,
)
"""The rules whose primitive all samples can go through: each has one, or one whose fields are zeros changes nothing."""


def places_of(rule: Rule) -> Any:
    """Return where each number of a rule begins, as a named tuple, which compiled code may use."""
    return places(rule.name, FIELDS[rule])
