"""What translates a single transform of torchvision's, at its place in a Compose.

See `dalipipe.recipes.translation` for what the order means, and how near the result is.
"""

from __future__ import annotations

import inspect
import numbers
from collections.abc import Callable, Iterable, Iterator
from dataclasses import dataclass, field, replace
from enum import Enum
from typing import Any, Literal

from dalipipe.errors import RecipeError
from dalipipe.recipes.ops import OPS, CenterCrop, Grayscale, Normalize, Op, RandomApply, RandomChoice, ToDtype
from dalipipe.recipes.ops.base import Channels
from dalipipe.recipes.ops.building import DEEPEST, build_op
from dalipipe.recipes.ops.refused import REFUSED

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

WITHOUT_EFFECT = frozenset({"inplace"})
"""Arguments of torchvision's transforms that change no result."""

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
    """

    came_with: Channels = 3
    form: Form = "pil"
    unit: float = 1.0
    normalize: Normalize | None = None
    pixels: list[Op] = field(default_factory=list)
    between: list[Op] = field(default_factory=list)
    tail: list[Op] = field(default_factory=list)
    interpolated: bool = False

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


def parts_of(transform: object) -> tuple[str, list[Any]] | None:
    """Return how to write a part of a Compose or Sequential, and the parts; None for a single transform."""
    home, name = type(transform).__module__, type(transform).__name__
    if name == "Compose" and home.startswith("torchvision.transforms."):
        return ".transforms", list(getattr(transform, "transforms", ()))
    if name == "Sequential" and home == "torch.nn.modules.container" and isinstance(transform, Iterable):
        return "", list(transform)
    return None


def flatten(transform: object, where: str) -> Iterator[tuple[str, object]]:
    """Yield the single transforms in order, each with its place, such as "transforms[1].transforms[0]"."""
    if where.count("[") > DEEPEST:
        raise RecipeError(
            f"from_torchvision: transforms may stand in one another {DEEPEST} deep, got more. Unfold them."
        )
    parts = parts_of(transform)
    if parts is None:
        yield where, transform
        return
    for position, part in enumerate(parts[1]):
        inner = parts_of(part)
        place = f"{where}[{position}]"
        yield from flatten(part, place if inner is None else place + inner[0])


def translator(transform: object, where: str) -> Translator:
    """Return what translates a single transform.

    Raises:
        RecipeError: recipes have nothing like it.
    """
    kind = type(transform)
    known = kind.__module__.startswith(("torchvision.transforms.", "torch.nn.modules."))
    timms = kind.__module__.startswith("timm.data.transforms")
    found = TABLE.get(kind.__name__) if known else TIMM.get(kind.__name__) if timms else None
    if found is not None:
        return found
    name = kind.__name__ if known else getattr(transform, "__qualname__", f"{kind.__module__}.{kind.__qualname__}")
    if known and name in REFUSED:
        raise RecipeError(f"from_torchvision: {where}: {name} {'. '.join(REFUSED[name])}.")
    own = "" if known else ", which is none of torchvision's own,"
    raise RecipeError(
        f"from_torchvision: {where}: {name}{own} can't be translated. There are: {', '.join(sorted(TABLE))}."
        " Leave it out, do it on the batch, or give recipe=."
    )


def _refuse(where: str, transform: object, rule: str, advice: str) -> RecipeError:
    return RecipeError(f"from_torchvision: {where} ({type(transform).__name__}): {rule}. {advice}.")


def _plain(value: Any) -> Any:
    """Return an argument in the types that ops take: enum members by value, tensors and arrays as tuples."""
    if isinstance(value, Enum):
        return value.value
    if hasattr(value, "tolist"):
        value = value.tolist()
    if isinstance(value, list | tuple):
        return tuple(_plain(part) for part in value)
    if isinstance(value, bool) or not isinstance(value, numbers.Real):
        return value
    return int(value) if isinstance(value, numbers.Integral) else float(value)


def _image_op(state: State, transform: Any, where: str) -> None:
    """Copy the arguments of a transform to the op of the same name; refuse those that the op lacks."""
    model = OPS[type(transform).__name__]
    given = {
        name: _plain(getattr(transform, name))
        for name in model.model_fields
        if name != "op" and hasattr(transform, name)
    }
    for name, parameter in inspect.signature(type(transform).__init__).parameters.items():
        value = _plain(getattr(transform, name, parameter.default))
        if name not in {"self", *model.model_fields, *WITHOUT_EFFECT} and value != parameter.default:
            raise _refuse(
                where,
                transform,
                f"{name} must be {parameter.default!r}, got {value!r}",
                f"Recipes have {model.__name__} without {name}",
            )
    _add_op(state, transform, where, model, given)


def _add_op(state: State, transform: object, where: str, model: type[Op], given: dict[str, Any]) -> None:
    """Add an op as it is at this place: what its arguments mean depends on what the image is here."""
    if isinstance(given.get("interpolation"), int):
        given["interpolation"] = PIL_FILTERS.get(given["interpolation"], given["interpolation"])
    if state.form == "pil" and "antialias" in model.model_fields and given.get("interpolation") == "nearest":
        given["interpolation"] = "nearest-exact"  # Pillow's, for torch's own is half a px aside
    if "antialias" in given:
        given["antialias"] = True if state.form == "pil" else bool(given["antialias"])
    if model.__name__ == "RandomCrop" and _is_v2(transform) and len(given.get("padding") or ()) == 4:
        left, right, top, bottom = given["padding"]  # as v2 keeps it, whatever order it was given in
        given["padding"] = (left, top, right, bottom)
    if state.form == "float" and given.get("interpolation") == "bicubic":
        raise _refuse(
            where, transform, "bicubic resizing of floats overshoots, got it behind ToTensor", "Put it before"
        )
    if model.stage == "pixels":
        _require_movable(state, transform, where, model)
        unpadded = model.__name__ == "RandomCrop" and not given.get("padding") and not given.get("pad_if_needed")
        if "fill" in model.model_fields and not unpadded:
            given["fill"] = _level(state, transform, where, given.get("fill"))
        elif unpadded:
            given.pop("fill", None)
    # An argument that is None says the same as its absence.
    arguments = {name: value for name, value in given.items() if value is not None or _demanded(model, name)}
    op = build_op({"op": model.__name__, **arguments}, f"from_torchvision: {where}")
    state.pixels.append(op)
    mixes = getattr(op, "interpolation", "nearest") != "nearest" or model.__name__ not in MOVABLE
    state.interpolated |= state.form == "float" and mixes


def _is_v2(transform: object) -> bool:
    return ".v2." in type(transform).__module__


def _demanded(model: type[Op], name: str) -> bool:
    return model.model_fields[name].is_required()


def _require_movable(state: State, transform: object, where: str, model: type[Op]) -> None:
    if state.tail or state.between:
        raise _refuse(where, transform, "must come before RandomErasing", "Change their order")
    if state.form == "float" and model.__name__ not in MOVABLE:
        raise _refuse(where, transform, "must come before the conversion to float", "Put it before ToTensor or ToDtype")
    if state.normalize is not None and model is CenterCrop and any(state.normalize.mean):
        raise _refuse(
            where, transform, "must come before Normalize, after which the zeros it pads with are grey", "Move it up"
        )


def _level(state: State, transform: object, where: str, fill: Any) -> tuple[int | float, ...]:
    """Return a fill value as a level for each channel: v * std + mean in the unit of this place, rounded."""
    values = (fill,) if isinstance(fill, int | float) else (0,) if fill is None else fill
    numeric = isinstance(values, tuple) and all(isinstance(value, int | float) for value in values)
    if not numeric or len(values) not in (1, 3):
        raise _refuse(
            where, transform, f"fill must be one number or three, got {fill!r}", "Give the colour to fill with"
        )
    values = values * (3 // len(values))
    if state.form != "float":
        return tuple(values)
    mean, std = (state.normalize.mean, state.normalize.std) if state.normalize else ((0.0,) * 3, (1.0,) * 3)
    return tuple(round((value * s + m) * state.unit) for value, m, s in zip(values, mean, std, strict=True))


def _to_tensor(state: State, transform: object, where: str) -> None:
    """PIL image -> float tensor in [0, 1]; v2 lets tensors pass."""
    if state.form == "pil":
        state.form, state.unit = "float", 255.0
    elif not _is_v2(transform):
        raise _refuse(where, transform, "must get a PIL image, got a tensor", "Remove it")


def _to_levels(state: State, transform: object, where: str) -> None:
    """PIL image -> uint8 tensor; v2 lets tensors pass."""
    if state.form == "pil":
        state.form = "uint8"
    elif not _is_v2(transform):
        raise _refuse(where, transform, "must get a PIL image, got a tensor", "Remove it")


def _to_dtype(state: State, transform: Any, where: str) -> None:
    """uint8 tensor -> float32, divided by 255 where `scale` says so, as it always is with ConvertImageDtype."""
    dtype, scale = transform.dtype, bool(getattr(transform, "scale", True))
    if state.form == "pil":
        raise _refuse(where, transform, "must get a tensor, got a PIL image", "Put ToImage() before it")
    if str(dtype) not in ("torch.float32", "torch.uint8"):
        raise _refuse(where, transform, f"dtype must be torch.float32, got {dtype}", "Convert the batch instead")
    if str(dtype) == "torch.uint8" and state.form == "float":
        raise _refuse(
            where, transform, "dtype must be torch.float32 once pixels are floats, got torch.uint8", "Remove it"
        )
    if str(dtype) == "torch.float32" and state.form == "uint8":
        state.form, state.unit = "float", 255.0 if scale else 1.0


def _to_pil(state: State, transform: Any, where: str) -> None:
    """Tensor -> PIL image, which is exact as long as floats are fractions of 255."""
    mode = "RGB" if state.channels == 3 else "L"
    if getattr(transform, "mode", None) not in (None, mode):
        raise _refuse(
            where, transform, f"mode must be None or {mode!r}, got {transform.mode!r}", f"Images are {mode} here"
        )
    if state.form == "float" and (state.interpolated or state.normalize is not None or state.unit != 255.0):
        raise _refuse(
            where, transform, "must get whole levels, got floats that were changed", "Put what changes them behind it"
        )
    state.form = "pil"


def _normalize(state: State, transform: Any, where: str) -> None:
    if state.form != "float":
        got = "a PIL image" if state.form == "pil" else "a uint8 tensor"
        raise _refuse(where, transform, f"must get floats, got {got}", "Put ToTensor() before it")
    if state.normalize is not None:
        raise _refuse(where, transform, "must come once, got a second one", "Keep one Normalize")
    mean, std = _plain(transform.mean), _plain(transform.std)
    if state.channels == 1 and any(isinstance(value, tuple) and len(value) == 3 for value in (mean, std)):
        if not _is_v2(transform) or getattr(transform, "inplace", False):
            raise _refuse(where, transform, f"mean and std must be one number for one channel, got {mean}", "Give one")
        state.pixels.append(Grayscale(num_output_channels=3))  # as torch makes three channels of it
    given = {"op": "Normalize", "mean": mean, "std": std}
    op = build_op(given, f"from_torchvision: {where}")
    assert isinstance(op, Normalize)
    state.normalize = op


def _erasing(state: State, transform: Any, where: str) -> None:
    """Erase where torchvision does: the value is in the unit of its place."""
    if state.form == "pil" and not _is_v2(transform):
        raise _refuse(where, transform, "must get a tensor, got a PIL image", "Put ToTensor() before it")
    value = "random" if transform.value is None else _plain(transform.value)
    given = {name: _plain(getattr(transform, name)) for name in ("p", "scale", "ratio")}
    op = build_op({"op": "RandomErasing", **given, "value": value}, f"from_torchvision: {where}")
    early = state.pixels if state.form != "float" else state.between
    (early if state.normalize is None else state.tail).append(op)


def _chosen(state: State, transform: Any, where: str, parts: Any) -> tuple[Op, ...]:
    """Return the ops of what is done at random only: it must leave the image in the form in which it came."""
    inner = replace(state, came_with=state.channels, pixels=[], between=[], tail=[])
    for place, part in flatten(parts, where):
        translator(part, place)(inner, part, place)
    if inner.form != state.form or inner.normalize is not state.normalize or inner.between or inner.tail:
        raise _refuse(
            where, transform, "may hold what keeps levels levels, got what makes floats", "Move that behind it"
        )
    state.interpolated |= inner.interpolated
    if not inner.pixels:
        raise _refuse(where, transform, "must do something, got nothing to choose", "Leave it out, or use RandomApply")
    return tuple(inner.pixels)


def _apply(state: State, transform: Any, where: str) -> None:
    places = ((f"{where}.transforms[{number}]", part) for number, part in enumerate(transform.transforms))
    steps = tuple(op for place, part in places for op in _chosen(state, transform, place, part))
    state.pixels.append(RandomApply(ops=steps, p=float(transform.p)))


def _choice(state: State, transform: Any, where: str) -> None:
    branches = []
    for number, part in enumerate(transform.transforms):
        steps = _chosen(state, transform, f"{where}.transforms[{number}]", part)
        branches.append(steps[0] if len(steps) == 1 else RandomApply(ops=steps, p=1.0))
    weights = tuple(float(weight) for weight in transform.p or ())
    state.pixels.append(RandomChoice(ops=tuple(branches), p=weights if len(set(weights)) > 1 else None))


def _nothing(state: State, transform: object, where: str) -> None:
    """Do nothing: tensors are tensors."""


def _colours(state: State, transform: object, where: str) -> None:
    """Make three equal channels of one."""
    if state.channels == 1:
        _add_op(state, transform, where, Grayscale, {"num_output_channels": 3})


def _classification(state: State, transform: Any, where: str) -> None:
    """Translate what `weights.transforms()` gives: resize, central crop, floats, normalisation."""
    resize = {"size": _plain(transform.resize_size), "interpolation": _plain(transform.interpolation)}
    _add_op(state, transform, where, OPS["Resize"], {**resize, "antialias": transform.antialias})
    _add_op(state, transform, where, CenterCrop, {"size": _plain(transform.crop_size)})
    if state.form != "float":
        state.form, state.unit = "float", 255.0
    _normalize(state, transform, where)


def _crop_by_timm(state: State, transform: Any, where: str) -> None:
    """Translate RandomResizedCropAndInterpolation, which crops as RandomResizedCrop does but may draw the filter."""
    if isinstance(transform.interpolation, list | tuple):
        raise _refuse(where, transform, 'interpolation must be one, got "random"', 'Choose "bicubic", say')
    given = {name: _plain(getattr(transform, name)) for name in ("size", "scale", "ratio", "interpolation")}
    _add_op(state, transform, where, OPS["RandomResizedCrop"], {**given, "antialias": True})


def _unless_tensor(translate: Translator) -> Translator:
    """Return what translates a PIL image, and lets tensors pass."""

    def translated(state: State, transform: Any, where: str) -> None:
        if state.form == "pil":
            translate(state, transform, where)

    return translated


TIMM: dict[str, Translator] = {
    "MaybePILToTensor": _unless_tensor(_to_levels),
    "MaybeToTensor": _unless_tensor(_to_tensor),
    "RandomResizedCropAndInterpolation": _crop_by_timm,
}
"""Class name of a transform of timm's -> what translates it."""

TABLE: dict[str, Translator] = {
    **{name: _image_op for name, model in OPS.items() if model.stage != "range"},
    "ConvertImageDtype": _to_dtype,
    "Identity": _nothing,
    "ImageClassification": _classification,
    "Normalize": _normalize,
    "PILToTensor": _to_levels,
    "RGB": _colours,
    "RandomApply": _apply,
    "RandomChoice": _choice,
    "RandomErasing": _erasing,
    "ToDtype": _to_dtype,
    "ToImage": _to_levels,
    "ToPILImage": _to_pil,
    "ToPureTensor": _nothing,
    "ToTensor": _to_tensor,
}
"""Class name of a transform -> what translates it. An op of the same name and arguments needs no entry of its own."""
