"""The `Source` protocol and what holds for every source."""

import hashlib
from collections.abc import Sequence
from typing import Protocol, TypeAlias

import numpy as np
from numpy.typing import NDArray

from dalipipe.errors import SourceError, listed
from dalipipe.sources.reading import read_file

Item: TypeAlias = str | bytes | NDArray[np.uint8]
"""A path (as `os.fsdecode` gives it), the bytes of an encoded image, or decoded pixels, HWC uint8, C 3 (RGB)
or 1 (grey)."""


class Source(Protocol):
    """A labelled, indexable collection of images that says where an image is without opening it.

    A source may also have `name(index) -> str`, what to call a sample in an error message, and `key(index) -> str`,
    what identifies a sample whatever folder or machine the data lies on.
    """

    @property
    def classes(self) -> Sequence[str]:
        """The class names; the position of a name is its label."""
        ...

    @property
    def labels(self) -> NDArray[np.int64]:
        """The label of every sample, (N,) int64."""
        ...

    def __len__(self) -> int: ...

    def item(self, index: int) -> Item:
        """Return the image of sample `index`: its path, its encoded bytes or its pixels."""
        ...


class SubsetSource:
    """Some samples of a source, in a given order, with the classes and labels of the whole.

    Args:
        source: The source to choose from.
        indices: Positions in `source`.
    """

    def __init__(self, source: Source, indices: Sequence[int] | NDArray[np.int64]) -> None:
        self.source = source
        self.indices: NDArray[np.int64] = np.asarray(indices, dtype=np.int64)
        self.classes = source.classes
        self.labels: NDArray[np.int64] = source.labels[self.indices]

    def __len__(self) -> int:
        return len(self.indices)

    def __repr__(self) -> str:
        return f"SubsetSource({len(self)} of {self.source!r})"

    def item(self, index: int) -> Item:
        """Return the image of sample `index` of the subset."""
        return self.source.item(int(self.indices[index]))

    def name(self, index: int) -> str:
        """Return what the whole source calls the sample."""
        return name_of(self.source, int(self.indices[index]))

    def key(self, index: int) -> str:
        """Return the key that the sample has in the whole source."""
        return key_of(self.source, int(self.indices[index]))


def name_of(source: Source, index: int) -> str:
    """Return what to call a sample in an error message; show it with `repr`, for a file name may hold anything."""
    name = getattr(source, "name", None)
    if name is not None:
        return str(name(index))
    item = source.item(index)
    return item if isinstance(item, str) else f"sample {index}"


def encoded_bytes(item: str | bytes) -> bytes:
    """Return the bytes of an encoded image, read from its file where the item is a path.

    Raises:
        OSError: the file can't be read.
        ResourceError: it can't, and that is not its fault.
    """
    return item if isinstance(item, bytes) else read_file(item)


def describe(source: Source) -> str:
    """Return what to call a source in an error message: its folder where it has one, else its type."""
    while isinstance(source, SubsetSource):
        source = source.source
    root = getattr(source, "root", None)
    return type(source).__name__ if root is None else f"folder {str(root)!r}"


def require_classes(source: Source, at_least: int = 2) -> None:
    """Refuse a source with too few classes to tell apart.

    Args:
        source: The source to check.
        at_least: The least number of classes, >= 1.

    Raises:
        SourceError: The source has fewer classes.
    """
    if len(source.classes) < at_least:
        raise SourceError(
            f"{describe(source)}: training needs at least {at_least} classes, got {len(source.classes)}"
            f" ({list_names(source.classes)}). Give the folder that holds one folder per class."
        )


def fingerprint(source: Source) -> str:
    """Return 16 hex digits that change with the classes, the samples, their order or their labels.

    Images are not opened and their place is left out: a copy of a data set elsewhere has the same fingerprint, and so
    has one whose pixels were changed under the same names.
    """
    digest = hashlib.sha256()

    def add(text: str) -> None:
        data = text.encode("utf-8", "surrogatepass")
        digest.update(b"%d:" % len(data) + data)

    add(str(len(source.classes)))
    for name in source.classes:
        add(name)
    for index, label in enumerate(source.labels.tolist()):
        add(key_of(source, index))
        add(str(label))
    return digest.hexdigest()[:16]


def list_names(names: Sequence[str], limit: int = 5) -> str:
    """Return the first `limit` names, quoted so that each stays on the line, and how many more there are."""
    return listed([repr(name) for name in names], limit)


def key_of(source: Source, index: int) -> str:
    """Return what identifies a sample whatever folder or machine the data lies on: its key, name or position."""
    key = getattr(source, "key", None) or getattr(source, "name", None)
    return str(index) if key is None else str(key(index))
