"""The ops of image recipes. `OPS` maps a name to its model; adding an op starts here."""

from __future__ import annotations

from dalipipe.ops.base import ImageSpec, Op
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
        ToDtype,
        Normalize,
    )
}

__all__ = [
    "OPS",
    "CenterCrop",
    "ImageSpec",
    "Normalize",
    "Op",
    "RandomAffine",
    "RandomCrop",
    "RandomErasing",
    "RandomHorizontalFlip",
    "RandomResizedCrop",
    "RandomRotation",
    "RandomVerticalFlip",
    "Resize",
    "ToDtype",
]
