"""The ops of image recipes. `OPS` maps a name to its model; adding an op starts here."""

from __future__ import annotations

from dalipipe.ops.base import ImageSpec, Op
from dalipipe.ops.containers import Container, RandomApply, RandomChoice, leaves
from dalipipe.ops.erasing import RandomErasing
from dalipipe.ops.geometric import (
    CenterCrop,
    RandomAffine,
    RandomCrop,
    RandomHorizontalFlip,
    RandomResizedCrop,
    RandomRotation,
    RandomVerticalFlip,
    Resize,
)
from dalipipe.ops.ranges import Normalize, ToDtype

OPS: dict[str, type[Op]] = {
    model.__name__: model
    for model in (
        RandomResizedCrop,
        Resize,
        CenterCrop,
        RandomCrop,
        RandomHorizontalFlip,
        RandomVerticalFlip,
        RandomRotation,
        RandomAffine,
        RandomErasing,
        RandomApply,
        RandomChoice,
        ToDtype,
        Normalize,
    )
}

__all__ = [
    "OPS",
    "CenterCrop",
    "Container",
    "ImageSpec",
    "Normalize",
    "Op",
    "RandomAffine",
    "RandomApply",
    "RandomChoice",
    "RandomCrop",
    "RandomErasing",
    "RandomHorizontalFlip",
    "RandomResizedCrop",
    "RandomRotation",
    "RandomVerticalFlip",
    "Resize",
    "ToDtype",
    "leaves",
]
