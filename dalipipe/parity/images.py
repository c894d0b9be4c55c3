"""Which images are looked at: a folder's, or generated ones where none is given."""

from __future__ import annotations

import os
from pathlib import Path

import numpy as np

from dalipipe import samples
from dalipipe.sources import FolderSource


def open_images(data: str | os.PathLike[str] | None) -> FolderSource:
    """Return the images of a folder that holds a folder per class, or train that holds those.

    Args:
        data: The folder; None for generated demonstration pictures.

    Raises:
        SourceError: the folder can't be used.
    """
    root = samples.ensure() if data is None else Path(data).expanduser()
    train = root / "train"
    if train.is_dir() and any(entry.is_dir() for entry in train.iterdir()):
        return FolderSource(train)
    return FolderSource(root)


def spread_out(total: int, count: int) -> list[int]:
    """Return at most `count` of the numbers below `total`, evenly spaced, so that every class has its part."""
    if count >= total:
        return list(range(total))
    return [int(index) for index in np.linspace(0, total - 1, count).round()]
