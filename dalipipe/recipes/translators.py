"""What translates a single transform of torchvision's, at its place in a Compose.

See `dalipipe.recipes.translation` for what the order means, and how near the result is.
"""

from __future__ import annotations

import inspect
from collections.abc import Iterable, Iterator
from dataclasses import replace
from functools import partial
from typing import Any

from dalipipe.errors import RecipeError
from dalipipe.recipes.ops import OPS, CenterCrop, Grayscale, Normalize, Op, RandomApply, RandomChoice
from dalipipe.recipes.ops.building import DEEPEST, build_op
from dalipipe.recipes.ops.refused import REFUSED
from dalipipe.recipes.placing import State, Translator, add_op, is_v2, plain, refuse
from dalipipe.recipes.recognised import recognised
from dalipipe.recipes.timm_translators import timms

WITHOUT_EFFECT = frozenset({"inplace"})
"""Arguments of torchvision's transforms that change no result."""


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
    of_timm = kind.__module__.startswith(("timm.data.transforms", "timm.data.random_erasing"))
    found = TABLE.get(kind.__name__) if known else TIMM.get(kind.__name__) if of_timm else None
    if found is not None:
        return found
    like = None if known or of_timm else recognised(transform)
    if like is not None:
        return partial(_recognised, like)
    name = kind.__name__ if known else getattr(transform, "__qualname__", f"{kind.__module__}.{kind.__qualname__}")
    if known and name in REFUSED:
        raise RecipeError(f"from_torchvision: {where}: {name} {'. '.join(REFUSED[name])}.")
    own = "" if known else ", which is none of torchvision's own,"
    raise RecipeError(
        f"from_torchvision: {where}: {name}{own} can't be translated. There are: {', '.join(sorted(TABLE))}."
        " Leave it out, do it on the batch, or give recipe=."
    )


def _recognised(op: Op, state: State, transform: object, where: str) -> None:
    """Add the op that does what a transform of a script's own does to a PIL image."""
    if state.form != "pil":
        raise refuse(where, transform, "must get a PIL image, got a tensor", "Put it before ToTensor")
    state.pixels.append(op)
    inner = op.ops[0] if isinstance(op, RandomApply) else op
    state.notes.append(f"{type(transform).__module__}.{type(transform).__qualname__} is taken for {inner.op}")


def _image_op(state: State, transform: Any, where: str) -> None:
    """Copy the arguments of a transform to the op of the same name; refuse those that the op lacks."""
    model = OPS[type(transform).__name__]
    given = {
        name: plain(getattr(transform, name))
        for name in model.model_fields
        if name != "op" and hasattr(transform, name)
    }
    for name, parameter in inspect.signature(type(transform).__init__).parameters.items():
        value = plain(getattr(transform, name, parameter.default))
        if name not in {"self", *model.model_fields, *WITHOUT_EFFECT} and value != parameter.default:
            raise refuse(
                where,
                transform,
                f"{name} must be {parameter.default!r}, got {value!r}",
                f"Recipes have {model.__name__} without {name}",
            )
    add_op(state, transform, where, model, given)


def _to_tensor(state: State, transform: object, where: str) -> None:
    """PIL image -> float tensor in [0, 1]; v2 lets tensors pass."""
    if state.form == "pil":
        state.form, state.unit = "float", 255.0
    elif not is_v2(transform):
        raise refuse(where, transform, "must get a PIL image, got a tensor", "Remove it")


def _to_levels(state: State, transform: object, where: str) -> None:
    """PIL image -> uint8 tensor; v2 lets tensors pass."""
    if state.form == "pil":
        state.form = "uint8"
    elif not is_v2(transform):
        raise refuse(where, transform, "must get a PIL image, got a tensor", "Remove it")


def _to_dtype(state: State, transform: Any, where: str) -> None:
    """uint8 tensor -> float32, divided by 255 where `scale` says so, as it always is with ConvertImageDtype."""
    dtype, scale = transform.dtype, bool(getattr(transform, "scale", True))
    if state.form == "pil":
        raise refuse(where, transform, "must get a tensor, got a PIL image", "Put ToImage() before it")
    if str(dtype) not in ("torch.float32", "torch.uint8"):
        raise refuse(where, transform, f"dtype must be torch.float32, got {dtype}", "Convert the batch instead")
    if str(dtype) == "torch.uint8" and state.form == "float":
        raise refuse(
            where, transform, "dtype must be torch.float32 once pixels are floats, got torch.uint8", "Remove it"
        )
    if str(dtype) == "torch.float32" and state.form == "uint8":
        state.form, state.unit = "float", 255.0 if scale else 1.0


def _to_pil(state: State, transform: Any, where: str) -> None:
    """Tensor -> PIL image, which is exact as long as floats are fractions of 255."""
    mode = "RGB" if state.channels == 3 else "L"
    if getattr(transform, "mode", None) not in (None, mode):
        raise refuse(
            where, transform, f"mode must be None or {mode!r}, got {transform.mode!r}", f"Images are {mode} here"
        )
    if state.form == "float" and (state.interpolated or state.normalize is not None or state.unit != 255.0):
        raise refuse(
            where, transform, "must get whole levels, got floats that were changed", "Put what changes them behind it"
        )
    state.form = "pil"


def _normalize(state: State, transform: Any, where: str) -> None:
    if state.form != "float":
        got = "a PIL image" if state.form == "pil" else "a uint8 tensor"
        raise refuse(where, transform, f"must get floats, got {got}", "Put ToTensor() before it")
    if state.normalize is not None:
        raise refuse(where, transform, "must come once, got a second one", "Keep one Normalize")
    mean, std = plain(transform.mean), plain(transform.std)
    if state.channels == 1 and any(isinstance(value, tuple) and len(value) == 3 for value in (mean, std)):
        if not is_v2(transform) or getattr(transform, "inplace", False):
            raise refuse(where, transform, f"mean and std must be one number for one channel, got {mean}", "Give one")
        state.pixels.append(Grayscale(num_output_channels=3))  # as torch makes three channels of it
    given = {"op": "Normalize", "mean": mean, "std": std}
    op = build_op(given, f"from_torchvision: {where}")
    assert isinstance(op, Normalize)
    state.normalize = op


def _erasing(state: State, transform: Any, where: str) -> None:
    """Erase where torchvision does: the value is in the unit of its place."""
    if state.form == "pil" and not is_v2(transform):
        raise refuse(where, transform, "must get a tensor, got a PIL image", "Put ToTensor() before it")
    value = "random" if transform.value is None else plain(transform.value)
    given = {name: plain(getattr(transform, name)) for name in ("p", "scale", "ratio")}
    op = build_op({"op": "RandomErasing", **given, "value": value}, f"from_torchvision: {where}")
    early = state.pixels if state.form != "float" else state.between
    (early if state.normalize is None else state.tail).append(op)


def _chosen(state: State, transform: Any, where: str, parts: Any) -> tuple[Op, ...]:
    """Return the ops of what is done at random only: it must leave the image in the form in which it came."""
    inner = replace(state, came_with=state.channels, pixels=[], between=[], tail=[])
    for place, part in flatten(parts, where):
        translator(part, place)(inner, part, place)
    if inner.form != state.form or inner.normalize is not state.normalize or inner.between or inner.tail:
        raise refuse(
            where, transform, "may hold what keeps levels levels, got what makes floats", "Move that behind it"
        )
    state.interpolated |= inner.interpolated
    if not inner.pixels:
        raise refuse(where, transform, "must do something, got nothing to choose", "Leave it out, or use RandomApply")
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
        add_op(state, transform, where, Grayscale, {"num_output_channels": 3})


def _classification(state: State, transform: Any, where: str) -> None:
    """Translate what `weights.transforms()` gives: resize, central crop, floats, normalisation."""
    resize = {"size": plain(transform.resize_size), "interpolation": plain(transform.interpolation)}
    add_op(state, transform, where, OPS["Resize"], {**resize, "antialias": transform.antialias})
    add_op(state, transform, where, CenterCrop, {"size": plain(transform.crop_size)})
    if state.form != "float":
        state.form, state.unit = "float", 255.0
    _normalize(state, transform, where)


TIMM: dict[str, Translator] = timms(_to_tensor, _to_levels)
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
