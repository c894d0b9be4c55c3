"""Where an op stands in a recipe that is translated from a chain of transforms, and what its arguments mean there.

What a transform does depends on what the image is at its place: a PIL image, a tensor of levels, or floats.
"""

from __future__ import annotations

import numbers
from collections.abc import Callable
from dataclasses import dataclass, field
from enum import Enum
from typing import Any, Literal

from dalipipe.errors import RecipeError
from dalipipe.recipes.ops import CenterCrop, Grayscale, Normalize, Op, ToDtype
from dalipipe.recipes.ops.base import Channels
from dalipipe.recipes.ops.building import build_op

MOVABLE = frozenset(
    {
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
    }
)
"""Ops that may be moved from floats to levels: they choose or mix pixels by weights that sum to 1."""

PIL_FILTERS = {0: "nearest", 1: "lanczos", 2: "bilinear", 3: "bicubic", 4: "box", 5: "hamming"}
"""Pillow's numbers for interpolation, which torchvision takes as well."""

Form = Literal["pil", "uint8", "float"]


@dataclass
class State:
    """What an image is at a place in the Compose, and what has been translated up to there.

    Attributes:
        came_with: Channels of the incoming image.
        form: A PIL image, or a tensor of levels or floats.
        unit: A float is level / unit, before Normalize.
        normalize: The Normalize met so far.
        pixels: Ops on levels, in order.
        between: Erasings of floats before Normalize, in order.
        tail: Erasings after Normalize, in order.
        interpolated: Whether floats were interpolated, so that they are levels no more.
        notes: What a reader should know.
    """

    came_with: Channels = 3
    form: Form = "pil"
    unit: float = 1.0
    normalize: Normalize | None = None
    pixels: list[Op] = field(default_factory=list)
    between: list[Op] = field(default_factory=list)
    tail: list[Op] = field(default_factory=list)
    interpolated: bool = False
    notes: list[str] = field(default_factory=list)

    @property
    def channels(self) -> Channels:
        """Channels of the image at this place."""
        found = [op.num_output_channels for op in self.pixels if isinstance(op, Grayscale)]
        return found[-1] if found else self.came_with

    def ops(self) -> tuple[Op, ...]:
        """Return the ops of the recipe; Normalize implies the division by 255."""
        convert = self.form == "float" and (self.normalize is None or self.unit == 1.0 or bool(self.between))
        conversion = [ToDtype(scale=self.unit != 1.0)] if convert else []
        return (*self.pixels, *conversion, *self.between, *([self.normalize] if self.normalize else []), *self.tail)


Translator = Callable[[State, Any, str], None]


def refuse(where: str, transform: object, rule: str, advice: str) -> RecipeError:
    """Return the error that says why a transform can't be translated at its place."""
    return RecipeError(f"from_torchvision: {where} ({type(transform).__name__}): {rule}. {advice}.")


def plain(value: Any) -> Any:
    """Return an argument in the types that ops take: enum members by value, tensors and arrays as tuples."""
    if isinstance(value, Enum):
        return value.value
    if hasattr(value, "tolist"):
        value = value.tolist()
    if isinstance(value, list | tuple):
        return tuple(plain(part) for part in value)
    if isinstance(value, bool) or not isinstance(value, numbers.Real):
        return value
    return int(value) if isinstance(value, numbers.Integral) else float(value)


def add_op(state: State, transform: object, where: str, model: type[Op], given: dict[str, Any]) -> None:
    """Add an op as it is at this place: what its arguments mean depends on what the image is here."""
    if isinstance(given.get("interpolation"), int):
        given["interpolation"] = PIL_FILTERS.get(given["interpolation"], given["interpolation"])
    if state.form == "pil" and "antialias" in model.model_fields and given.get("interpolation") == "nearest":
        given["interpolation"] = "nearest-exact"  # Pillow's, for torch's own is half a px aside
    if "antialias" in given:
        given["antialias"] = True if state.form == "pil" else bool(given["antialias"])
    if model.__name__ == "RandomCrop" and is_v2(transform) and len(given.get("padding") or ()) == 4:
        left, right, top, bottom = given["padding"]  # as v2 keeps it, whatever order it was given in
        given["padding"] = (left, top, right, bottom)
    if state.form == "float" and given.get("interpolation") == "bicubic":
        raise refuse(where, transform, "bicubic resizing of floats overshoots, got it behind ToTensor", "Put it before")
    if model.stage == "pixels":
        _require_movable(state, transform, where, model)
        unpadded = model.__name__ == "RandomCrop" and not given.get("padding") and not given.get("pad_if_needed")
        if "fill" in model.model_fields and not unpadded:
            given["fill"] = level(state, transform, where, given.get("fill"))
        elif unpadded:
            given.pop("fill", None)
    # An argument that is None says the same as its absence.
    arguments = {name: value for name, value in given.items() if value is not None or _demanded(model, name)}
    op = build_op({"op": model.__name__, **arguments}, f"from_torchvision: {where}")
    state.pixels.append(op)
    mixes = getattr(op, "interpolation", "nearest") != "nearest" or model.__name__ not in MOVABLE
    state.interpolated |= state.form == "float" and mixes


def is_v2(transform: object) -> bool:
    """Return whether a transform is one of torchvision.transforms.v2."""
    return ".v2." in type(transform).__module__


def _demanded(model: type[Op], name: str) -> bool:
    return model.model_fields[name].is_required()


def _require_movable(state: State, transform: object, where: str, model: type[Op]) -> None:
    if state.tail or state.between:
        raise refuse(where, transform, "must come before RandomErasing", "Change their order")
    if state.form == "float" and model.__name__ not in MOVABLE:
        raise refuse(where, transform, "must come before the conversion to float", "Put it before ToTensor or ToDtype")
    if state.normalize is not None and model is CenterCrop and any(state.normalize.mean):
        raise refuse(
            where, transform, "must come before Normalize, after which the zeros it pads with are grey", "Move it up"
        )


def level(state: State, transform: object, where: str, fill: Any) -> tuple[int | float, ...]:
    """Return a fill value as a level for each channel: v * std + mean in the unit of this place, rounded."""
    values = (fill,) if isinstance(fill, int | float) else (0,) if fill is None else fill
    numeric = isinstance(values, tuple) and all(isinstance(value, int | float) for value in values)
    if not numeric or len(values) not in (1, 3):
        raise refuse(
            where, transform, f"fill must be one number or three, got {fill!r}", "Give the colour to fill with"
        )
    values = values * (3 // len(values))
    if state.form != "float":
        return tuple(values)
    mean, std = (state.normalize.mean, state.normalize.std) if state.normalize else ((0.0,) * 3, (1.0,) * 3)
    return tuple(round((value * s + m) * state.unit) for value, m, s in zip(values, mean, std, strict=True))
