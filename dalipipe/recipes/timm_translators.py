"""What translates timm's own transforms, beside torchvision's."""

from __future__ import annotations

import math
from typing import Any

from dalipipe.recipes.ops import OPS, RandomChoice
from dalipipe.recipes.ops.building import build_op
from dalipipe.recipes.placing import State, Translator, add_op, plain, refuse


def _crop_by_timm(state: State, transform: Any, where: str) -> None:
    """Translate RandomResizedCropAndInterpolation, which crops as RandomResizedCrop does but may draw the filter."""
    given = {name: plain(getattr(transform, name)) for name in ("size", "scale", "ratio", "interpolation")}
    filters = given.pop("interpolation")
    before = len(state.pixels)
    for each in filters if isinstance(filters, tuple) else (filters,):
        add_op(state, transform, where, OPS["RandomResizedCrop"], {**given, "interpolation": each, "antialias": True})
    if len(state.pixels) - before > 1:
        state.pixels[before:] = [RandomChoice(ops=tuple(state.pixels[before:]))]


def _erasing_by_timm(state: State, transform: Any, where: str) -> None:
    """Translate timm's RandomErasing, which takes normalised batches too; of its modes only the constant one."""
    if transform.rand_color or transform.per_pixel:
        raise refuse(where, transform, 'mode must be "const"', "Noise of every pixel differs between backends")
    if (transform.min_count, transform.max_count) != (1, 1):
        raise refuse(where, transform, f"max_count must be 1, got {transform.max_count}", "Recipes erase one box")
    if state.form != "float":
        raise refuse(where, transform, "must get floats", "Put it behind ToTensor")
    ratio = tuple(round(math.exp(value), 12) for value in transform.log_aspect_ratio)
    given = {"p": float(transform.probability), "scale": (transform.min_area, transform.max_area), "ratio": ratio}
    op = build_op({"op": "RandomErasing", **given, "value": 0}, f"from_torchvision: {where}")
    (state.between if state.normalize is None else state.tail).append(op)


def _unless_tensor(translate: Translator) -> Translator:
    """Return what translates a PIL image, and lets tensors pass."""

    def translated(state: State, transform: Any, where: str) -> None:
        if state.form == "pil":
            translate(state, transform, where)

    return translated


def timms(to_tensor: Translator, to_levels: Translator) -> dict[str, Translator]:
    """Return what translates each of timm's transforms, by the names of their classes.

    Args:
        to_tensor: What translates torchvision's ToTensor.
        to_levels: What translates its PILToTensor.
    """
    return {
        "MaybePILToTensor": _unless_tensor(to_levels),
        "MaybeToTensor": _unless_tensor(to_tensor),
        "RandomErasing": _erasing_by_timm,
        "RandomResizedCropAndInterpolation": _crop_by_timm,
    }
