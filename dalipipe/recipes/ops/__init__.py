"""The ops of image recipes. `OPS` maps a name to its model; adding an op starts here."""

from __future__ import annotations

from dalipipe.recipes.ops.base import ImageSpec, Op
from dalipipe.recipes.ops.colour import (
    ColorJitter,
    ColourOp,
    GaussianBlur,
    Grayscale,
    RandomAdjustSharpness,
    RandomAutocontrast,
    RandomEqualize,
    RandomGrayscale,
    RandomInvert,
    RandomPosterize,
    RandomSolarize,
)
from dalipipe.recipes.ops.containers import Container, RandomApply, RandomChoice, leaves
from dalipipe.recipes.ops.erasing import RandomErasing
from dalipipe.recipes.ops.geometric import (
    CenterCrop,
    Pad,
    RandomAffine,
    RandomCrop,
    RandomHorizontalFlip,
    RandomPerspective,
    RandomResizedCrop,
    RandomRotation,
    RandomVerticalFlip,
    Resize,
)
from dalipipe.recipes.ops.policies import AutoAugment, Policy, RandAugment, TrivialAugmentWide
from dalipipe.recipes.ops.ranges import Normalize, ToDtype

OPS: dict[str, type[Op]] = {
    model.__name__: model
    for model in (
        RandomResizedCrop,
        Resize,
        CenterCrop,
        RandomCrop,
        Pad,
        RandomHorizontalFlip,
        RandomVerticalFlip,
        RandomRotation,
        RandomAffine,
        RandomPerspective,
        ColorJitter,
        Grayscale,
        RandomGrayscale,
        RandomInvert,
        RandomSolarize,
        RandomPosterize,
        RandomAutocontrast,
        RandomEqualize,
        RandomAdjustSharpness,
        GaussianBlur,
        RandomErasing,
        RandomApply,
        RandomChoice,
        RandAugment,
        TrivialAugmentWide,
        AutoAugment,
        ToDtype,
        Normalize,
    )
}

__all__ = [
    "OPS",
    "AutoAugment",
    "CenterCrop",
    "ColorJitter",
    "ColourOp",
    "Container",
    "GaussianBlur",
    "Grayscale",
    "ImageSpec",
    "Normalize",
    "Op",
    "Pad",
    "Policy",
    "RandAugment",
    "RandomAdjustSharpness",
    "RandomAffine",
    "RandomApply",
    "RandomAutocontrast",
    "RandomChoice",
    "RandomCrop",
    "RandomEqualize",
    "RandomErasing",
    "RandomGrayscale",
    "RandomHorizontalFlip",
    "RandomInvert",
    "RandomPerspective",
    "RandomPosterize",
    "RandomResizedCrop",
    "RandomRotation",
    "RandomSolarize",
    "RandomVerticalFlip",
    "Resize",
    "ToDtype",
    "TrivialAugmentWide",
    "leaves",
]
