"""dalipipe feeds images to PyTorch as fast as the machine allows, on NVIDIA DALI.

    import dalipipe

    with dalipipe.DataLoader("photos/train", batch_size=64, shuffle=True, recipe="imagenet-train") as loader:
        for images, labels in loader:
            ...

Importing dalipipe is light: torch, DALI, torchvision and Numba are imported when a name that needs them is first used.
"""

from __future__ import annotations

import importlib
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from dalipipe.errors import (
        BackendError,
        ConfigError,
        DalipipeError,
        DecodeError,
        DivergedError,
        PeerError,
        RecipeError,
        ResourceError,
        SamplerError,
        SourceError,
        SourceNotFoundError,
        StateError,
        StoppedError,
        WeightsError,
    )
    from dalipipe.loading import CutMix, DataLoader, MixUp, dali_iterator
    from dalipipe.pictures import preview
    from dalipipe.recipes import Recipe, list_recipes
    from dalipipe.sources import FolderSource, Source, split_sources
    from dalipipe.training.network.trained import load_model

__version__ = "0.1.0"

_HOMES = {
    **dict.fromkeys(
        (
            "BackendError",
            "ConfigError",
            "DalipipeError",
            "DecodeError",
            "DivergedError",
            "PeerError",
            "RecipeError",
            "ResourceError",
            "SamplerError",
            "SourceError",
            "SourceNotFoundError",
            "StateError",
            "StoppedError",
            "WeightsError",
        ),
        "errors",
    ),
    "CutMix": "loading",
    "DataLoader": "loading",
    "FolderSource": "sources",
    "MixUp": "loading",
    "MixedSource": "sources",
    "Recipe": "recipes",
    "Source": "sources",
    "dali_iterator": "loading",
    "list_recipes": "recipes",
    "load_model": "training.network",
    "preview": "pictures",
    "split_sources": "sources",
}

__all__ = [
    "BackendError",
    "ConfigError",
    "CutMix",
    "DalipipeError",
    "DataLoader",
    "DecodeError",
    "DivergedError",
    "FolderSource",
    "MixUp",
    "MixedSource",
    "PeerError",
    "Recipe",
    "RecipeError",
    "ResourceError",
    "SamplerError",
    "Source",
    "SourceError",
    "SourceNotFoundError",
    "StateError",
    "StoppedError",
    "WeightsError",
    "dali_iterator",
    "list_recipes",
    "load_model",
    "preview",
    "split_sources",
]


def __getattr__(name: str) -> Any:
    """Import a public name when it is first used."""
    if name not in _HOMES:
        raise AttributeError(f"module 'dalipipe' has no attribute {name!r}")
    value = getattr(importlib.import_module(f"dalipipe.{_HOMES[name]}"), name)
    globals()[name] = value
    return value


def __dir__() -> list[str]:
    """Return the public names, imported or not."""
    return list(__all__)
