"""Which images are looked at: a folder's, or generated ones where none is given."""

from __future__ import annotations

import os

import numpy as np

from dalipipe import samples
from dalipipe.sources import FolderSource, find_parts


def open_images(data: str | os.PathLike[str] | None) -> FolderSource:
    """Return the images of a folder that holds a folder per class, or train that holds those.

    Args:
        data: The folder; None for generated demonstration pictures.

    Raises:
        SourceError: the folder can't be used.
    """
    root = samples.ensure() if data is None else data
    parts = find_parts(root)
    return FolderSource(root if parts is None else parts.train)


def spread_out(total: int, count: int) -> list[int]:
    """Return at most `count` of the numbers below `total`, evenly spaced, so that every class has its part."""
    if count >= total:
        return list(range(total))
    return [int(index) for index in np.linspace(0, total - 1, count).round()]
