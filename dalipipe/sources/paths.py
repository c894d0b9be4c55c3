"""Many paths in little memory: bytes one after the other, and where each ends."""

from __future__ import annotations

import os
from collections.abc import Iterable, Iterator, Sequence
from typing import Any, overload

import numpy as np
from numpy.typing import NDArray


class Paths(Sequence[str]):
    """Paths below one folder, as a sequence of text.

    They take what their parts below that folder take as bytes, and 8 bytes each.

    Args:
        prefix: What all of them begin with, kept once.
        parts: What follows in each, joined: (bytes,) uint8.
        ends: Where each ends in `parts`, (N,) int64.
    """

    def __init__(self, prefix: str, parts: NDArray[np.uint8], ends: NDArray[np.int64]) -> None:
        self.prefix, self._parts, self._ends = prefix, parts, ends

    @classmethod
    def of(cls, prefix: str, paths: Iterable[str]) -> Paths:
        """Return some paths, of which each begins with `prefix`."""
        parts, ends = bytearray(), []
        for path in paths:
            parts += os.fsencode(path[len(prefix) :])
            ends.append(len(parts))
        return cls(prefix, np.frombuffer(bytes(parts), np.uint8), np.array(ends, np.int64))

    @classmethod
    def joined(cls, prefix: str, several: Sequence[Paths]) -> Paths:
        """Return the paths of several that have that prefix."""
        begins = np.cumsum([0, *(len(each._parts) for each in several)])
        parts = [np.empty(0, np.uint8), *(each._parts for each in several)]
        ends = [each._ends + begin for each, begin in zip(several, begins.tolist(), strict=False)]
        return cls(prefix, np.concatenate(parts), np.concatenate([np.empty(0, np.int64), *ends]))

    def __len__(self) -> int:
        return len(self._ends)

    @overload
    def __getitem__(self, index: int) -> str: ...
    @overload
    def __getitem__(self, index: slice) -> list[str]: ...
    def __getitem__(self, index: int | slice) -> str | list[str]:
        """Return a path, or those of a slice."""
        if isinstance(index, slice):
            return [self[at] for at in range(*index.indices(len(self)))]
        return self.prefix + self.below(index)

    def __iter__(self) -> Iterator[str]:
        return (self[at] for at in range(len(self)))

    def __eq__(self, other: object) -> bool:
        return isinstance(other, Sequence) and not isinstance(other, str) and list(self) == list(other)

    __hash__ = None  # type: ignore[assignment]

    def __repr__(self) -> str:
        return repr(list(self))

    def below(self, index: int) -> str:
        """Return what follows the prefix.

        Raises:
            IndexError: there is no such path.
        """
        at = range(len(self))[index]
        return os.fsdecode(self._parts[int(self._ends[at - 1]) if at else 0 : int(self._ends[at])].tobytes())

    def joined_parts(self, indices: NDArray[np.int64]) -> tuple[bytes, NDArray[np.int64]]:
        """Return what follows the prefix in some paths, one after the other, and its length in each, (n,)."""
        begins = np.where(indices > 0, self._ends[indices - 1], 0)
        lengths = self._ends[indices] - begins
        if len(indices) and (np.diff(indices) == 1).all():
            return self._parts[begins[0] : self._ends[indices[-1]]].tobytes(), lengths
        shifts = np.repeat(begins - np.cumsum(lengths) + lengths, lengths)
        return self._parts[np.arange(len(shifts)) + shifts].tobytes(), lengths


class Samples(Sequence[tuple[str, int]]):
    """(path, label) of many files, as a sequence; each pair is made when it is asked for.

    Args:
        paths: The paths.
        labels: The label of each, (N,) int64.
    """

    def __init__(self, paths: Paths, labels: NDArray[np.int64]) -> None:
        self._paths, self._labels = paths, labels

    def __len__(self) -> int:
        return len(self._paths)

    @overload
    def __getitem__(self, index: int) -> tuple[str, int]: ...
    @overload
    def __getitem__(self, index: slice) -> list[tuple[str, int]]: ...
    def __getitem__(self, index: int | slice) -> Any:
        """Return a pair, or those of a slice."""
        if isinstance(index, slice):
            return list(zip(self._paths[index], self._labels[index].tolist(), strict=True))
        return self._paths[index], int(self._labels[index])

    def __iter__(self) -> Iterator[tuple[str, int]]:
        return zip(self._paths, self._labels.tolist(), strict=True)

    def __eq__(self, other: object) -> bool:
        return isinstance(other, Sequence) and not isinstance(other, str) and list(self) == list(other)

    __hash__ = None  # type: ignore[assignment]

    def __repr__(self) -> str:
        return repr(list(self))
