"""Sources made of others: files one by one, sources without class names, sources one after the other."""

from __future__ import annotations

import operator
import os
from collections.abc import Callable, Sequence
from typing import Any

import numpy as np
from numpy.typing import NDArray

from dalipipe.errors import SourceError
from dalipipe.sources.array import as_labels, numbered
from dalipipe.sources.base import Item, Source, joined_keys, key_of, max_requests_of, name_of
from dalipipe.sources.paths import Paths


class SampleSource:
    """Files given one by one, each with its label.

    Args:
        paths: Path of each file.
        labels: Label of each file.
        classes: The class names.
    """

    def __init__(self, paths: Sequence[str], labels: NDArray[np.int64], classes: Sequence[str]) -> None:
        self.labels = labels
        self.classes = tuple(classes)
        common = os.path.commonprefix(paths)  # noqa: RUF071 - cut at a separator below
        self.paths = Paths.of(common[: common.rfind(os.sep) + 1], paths)

    def __len__(self) -> int:
        return len(self.paths)

    def __repr__(self) -> str:
        return f"SampleSource({len(self)} files, {len(self.classes)} classes)"

    def item(self, index: int) -> str:
        """Return the path of file `index`."""
        return self.paths[index]

    def name(self, index: int) -> str:
        """Return the path of file `index`."""
        return self.paths[index]

    def key(self, index: int) -> str:
        """Return the path of file `index` below the folder that holds them all."""
        return self.paths.below(index)

    def joined_keys(self, indices: NDArray[np.int64]) -> tuple[bytes, NDArray[np.int64]]:
        """Return the keys of some files; see `sources.base.fingerprint`."""
        return self.paths.joined_parts(indices)


class LabelledSource:
    """A source that was written without class names, or with labels that are no array.

    Args:
        source: Has `__len__`, `labels` and `item`.
    """

    def __init__(self, source: Any) -> None:
        self.source = source
        self.labels: NDArray[np.int64] = as_labels(source.labels, type(source).__name__)
        self.classes: tuple[str, ...] = tuple(getattr(source, "classes", None) or numbered(self.labels))

    def __len__(self) -> int:
        return len(self.source)

    def __repr__(self) -> str:
        return f"LabelledSource({self.source!r})"

    @property
    def max_requests(self) -> int:
        """Most requests at once, as the source has it."""
        return max_requests_of(self.source)

    @property
    def items(self) -> Callable[[Sequence[int]], Sequence[Item]]:
        """Several images at once, where the source has that."""
        ask: Callable[[Sequence[int]], Sequence[Item]] = self.source.items
        return ask

    def item(self, index: int) -> Item:
        """Return what the source has as sample `index`."""
        item: Item = self.source.item(index)
        return item

    def name(self, index: int) -> str:
        """Return what the source calls sample `index`."""
        return name_of(self.source, index)

    def key(self, index: int) -> str:
        """Return the key that sample `index` has in the source."""
        return key_of(self.source, index)

    def joined_keys(self, indices: NDArray[np.int64]) -> tuple[bytes, NDArray[np.int64]]:
        """Return the keys that some samples have in the source; see `sources.base.fingerprint`."""
        return joined_keys(self.source, indices)


class ConcatSource:
    """Sources one after the other.

    Class names are those of the parts where all parts have the same, else numbers; labels are never changed.

    Args:
        sources: The parts, of which all hold pixels or none does.
    """

    def __init__(self, sources: Sequence[Source]) -> None:
        self.sources = tuple(sources)
        self.ends: NDArray[np.int64] = np.cumsum([len(source) for source in self.sources], dtype=np.int64)
        self.labels: NDArray[np.int64] = np.concatenate([source.labels for source in self.sources])
        names = {tuple(source.classes) for source in self.sources}
        self.classes: tuple[str, ...] = names.pop() if len(names) == 1 else numbered(self.labels)
        kinds = {_kind(source) for source in self.sources if len(source)}
        if len(kinds) > 1:
            raise SourceError(
                f"ConcatDataset: all parts must hold the same, got {' and '.join(sorted(kinds))}."
                " Make one loader of each."
            )

    def __len__(self) -> int:
        return int(self.ends[-1])

    def __repr__(self) -> str:
        return f"ConcatSource({', '.join(map(repr, self.sources))})"

    def _locate(self, index: int) -> tuple[Source, int]:
        index = operator.index(index) + (len(self) if index < 0 else 0)
        part = int(np.searchsorted(self.ends, index, side="right"))
        return self.sources[part], index - (int(self.ends[part - 1]) if part else 0)

    @property
    def max_requests(self) -> int:
        """Most requests at once: what each part allows."""
        return min((max_requests_of(source) for source in self.sources), default=1)

    def item(self, index: int) -> Item:
        """Return the image of sample `index`."""
        source, inner = self._locate(index)
        return source.item(inner)

    def name(self, index: int) -> str:
        """Return what its own source calls sample `index`."""
        return name_of(*self._locate(index))

    def key(self, index: int) -> str:
        """Return the key that sample `index` has in its own source."""
        return key_of(*self._locate(index))


def _kind(source: Source) -> str:
    item = source.item(0)
    return "paths" if isinstance(item, str) else "bytes" if isinstance(item, bytes) else "pixels"
