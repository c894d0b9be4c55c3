"""What was changed in a data set since a loader was made of it: looked at as each epoch begins."""

from __future__ import annotations

import os
import pickle
import zlib
from collections.abc import Iterator
from typing import Any

import numpy as np

from dalipipe.errors import ConfigError
from dalipipe.sources.torch_datasets import transform_of

_READ = ("samples", "imgs", "targets", "labels", "data", "indices", "datasets", "loader", "target_transform")
"""What a source is made of, where a data set has it."""


class Watch:
    """Remembers what a data set holds, to tell later whether that was changed.

    Lists and arrays are known again by a digest of what they hold, images by where they lie: a source sees pixels that
    are changed in place. It takes about 0.3 s for ImageNet's 1.28 million samples (two cores).

    Args:
        dataset: What the loader was given.
        with_transform: Whether its transform decides on the recipe; it may then be changed at any time.
        is_source: Whether it is itself the source, of which nothing was copied: only its length is looked at.
    """

    def __init__(self, dataset: Any, *, with_transform: bool, is_source: bool = False) -> None:
        self._dataset, self.with_transform, self._is_source = dataset, with_transform, is_source
        self._marks = dict(self._look())

    def transform(self) -> Any:
        """Return the data set's transform as it is now, None where it has none or it does not count.

        Raises:
            ConfigError: something else was changed.
        """
        now = dict(self._look())
        for name in (*self._marks, *now):
            if name not in now or name not in self._marks or not _same(self._marks[name], now[name]):
                why = " and recipe= counts instead" if name.endswith(".transform") else ""
                raise ConfigError(
                    f"DataLoader: {name} was changed after the loader was made{why}, which it can't follow."
                    " Make a new loader."
                )
        return transform_of(self._dataset) if self.with_transform else None

    def _look(self) -> Iterator[tuple[str, tuple[object, object]]]:
        """Yield the name of each thing that counts, the thing itself and its digest."""
        if self._is_source:
            yield "the data set's length", (None, len(self._dataset))
            return
        for where, part in _parts(self._dataset, "dataset"):
            for name in (*_READ, *(() if self.with_transform else ("transform",))):
                value = getattr(part, name, None)
                if value is not None and not _is_method(value, part):
                    yield f"{where}.{name}", (value, _digest(value))


def _parts(dataset: Any, where: str) -> Iterator[tuple[str, Any]]:
    """Yield a data set and those that it holds, each with how to write it."""
    if isinstance(dataset, str | os.PathLike):
        return
    yield where, dataset
    inner = getattr(dataset, "dataset", None)
    if inner is not None:
        yield from _parts(inner, f"{where}.dataset")
    datasets = getattr(dataset, "datasets", None)
    if isinstance(datasets, list | tuple):
        for position, part in enumerate(datasets):
            yield from _parts(part, f"{where}.datasets[{position}]")


def _is_method(value: object, owner: object) -> bool:
    return getattr(value, "__self__", None) is owner


def _same(one: tuple[object, object], other: tuple[object, object]) -> bool:
    """Return whether two looks saw the same: equal digests, or where there is none one and the same thing."""
    return one[1] == other[1] if one[1] is not None and other[1] is not None else one[0] is other[0]


def _digest(value: Any) -> object:
    """Return what changes with what a list or an array holds, computed in C; None for anything else."""
    if type(value).__module__ == "torch" and hasattr(value, "numpy"):
        value = value.detach().cpu().numpy()
    if isinstance(value, np.ndarray):
        form = (value.shape, value.dtype.str)
        if value.ndim > 2:
            return *form, value.ctypes.data
        return *form, zlib.crc32(value.tobytes()) if value.dtype.kind != "O" else None
    if isinstance(value, range):
        return value
    if not isinstance(value, list | tuple):
        return None
    try:
        return len(value), hash(tuple(value))
    except TypeError:  # lists in a list
        return len(value), _packed(value)


def _packed(value: Any) -> object:
    try:
        return zlib.crc32(pickle.dumps(value))
    except Exception:
        return None
