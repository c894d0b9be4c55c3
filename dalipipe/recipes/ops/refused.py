"""torchvision's transforms that can't be ops, and why: what a recipe or a translation says of them."""

from __future__ import annotations

REFUSED: dict[str, tuple[str, str]] = {
    "AugMix": (
        "blends several chains of ops with the image itself, while a recipe is one chain of steps",
        "Leave it out, or choose among ops with RandomChoice",
    ),
    "CutMix": ("mixes a batch, while a recipe works on one image", "Use dalipipe.CutMix on what the loader yields"),
    "FiveCrop": ("makes five images of one, while a loader has one for each label", "Use CenterCrop or RandomCrop"),
    "MixUp": ("mixes a batch, while a recipe works on one image", "Use dalipipe.MixUp on what the loader yields"),
    "TenCrop": ("makes ten images of one, while a loader has one for each label", "Use CenterCrop or RandomCrop"),
}
"""Name of a transform -> why it can't be an op, and what to do instead."""
