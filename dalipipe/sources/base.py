"""The `Source` protocol and what holds for every source."""

import hashlib
import os
from collections.abc import Callable, Sequence
from typing import Any, Protocol, TypeAlias

import numpy as np
from numpy.typing import NDArray

from dalipipe.errors import SourceError, listed
from dalipipe.sources.reading import read_file

MAX_REQUESTS, MAX_BATCH_REQUESTS = 64, 4
_KEYS_AT_ONCE = 2**16  # of a fingerprint, which depends on it

Item: TypeAlias = str | bytes | NDArray[np.uint8]
"""A path (as `os.fsdecode` gives it), the bytes of an encoded image, or decoded pixels, HWC uint8, C 3 (RGB)
or 1 (grey)."""


class Source(Protocol):
    """A labelled, indexable collection of images that says where an image is without opening it.

    Items that are not paths are asked for ahead of time, by several threads at once: an object store takes 20 ms to
    answer, so 64 requests have to be under way. So `item` must be safe to call from many threads. One that is not
    (an open HDF5 file, a connection to a database) says `max_requests = 1`: it is asked for one item after the other.
    FileNotFoundError says that it is not there, and it counts as a bad file. A connection that breaks, and what else
    passes, is tried again; see `stores.from_store`. Whatever else `item` raises ends the epoch, in the place of the
    batch that it concerns, and counts against no file.

    A source may also have:
        name(index) -> str: What to call a sample in an error message.
        key(index) -> str: What identifies a sample whatever folder or machine the data lies on.
        items(indices) -> Sequence[Item]: Several images at once, in the order asked for. Where it is there, it is
            asked for whole batches.
        fingerprint() -> str: What `fingerprint` is to return of it, where that is known without a look at each sample.
        order(seed, epoch, shuffle) -> (N,) int64: The samples of an epoch, where that isn't one of each; see
            `MixedSource`.
        max_requests: Most calls of `item` or `items` that are under way at once for one epoch, >= 1; by default 64
            of `item` and 4 of `items`. An epoch that ends early leaves those under way to end by themselves.
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

    @property
    def max_requests(self) -> int:
        """Most requests at once, as the whole source has it."""
        return max_requests_of(self.source)

    @property
    def items(self) -> Callable[[Sequence[int]], Sequence[Item]]:
        """Several images at once, where the whole source has that."""
        whole: Any = self.source
        ask = whole.items
        return lambda indices: ask(self.indices[list(indices)].tolist())

    def item(self, index: int) -> Item:
        """Return the image of sample `index` of the subset."""
        return self.source.item(int(self.indices[index]))

    def name(self, index: int) -> str:
        """Return what the whole source calls the sample."""
        return name_of(self.source, int(self.indices[index]))

    def key(self, index: int) -> str:
        """Return the key that the sample has in the whole source."""
        return key_of(self.source, int(self.indices[index]))

    def joined_keys(self, indices: NDArray[np.int64]) -> tuple[bytes, NDArray[np.int64]]:
        """Return the keys that some samples have in the whole source; see `fingerprint`."""
        return joined_keys(self.source, self.indices[indices])


def name_of(source: Source, index: int) -> str:
    """Return what to call a sample in an error message; show it with `repr`, for a file name may hold anything."""
    name = getattr(source, "name", None)
    if name is not None:
        return str(name(index))
    try:
        item = source.item(index)
    except Exception:  # a name is asked for where something is wrong already
        return f"sample {index}"
    return item if isinstance(item, str) else f"sample {index}"


def answers_batches(source: Source) -> bool:
    """Return whether a source can be asked for several images at once."""
    return callable(getattr(source, "items", None))


def max_requests_of(source: Source) -> int:
    """Return how many requests a source takes at once.

    Raises:
        SourceError: it says something that is no number of requests.
    """
    most = getattr(source, "max_requests", None)
    if most is None:
        return MAX_BATCH_REQUESTS if answers_batches(source) else MAX_REQUESTS
    if isinstance(most, bool) or not isinstance(most, int) or most < 1:
        raise SourceError(
            f"{describe(source)}: max_requests must be a whole number of at least 1, got {most!r}. "
            "Leave it out, or say 1 where one thread at a time may ask."
        )
    return most


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
    own = getattr(source, "fingerprint", None)
    if own is not None:
        return str(own())
    return fingerprint_of(source)


def fingerprint_of(source: Source) -> str:
    """Return what `fingerprint` returns of a source that has none of its own."""
    digest = hashlib.sha256()

    def add(text: str) -> None:
        data = text.encode("utf-8", "surrogatepass")
        digest.update(b"%d:" % len(data) + data)

    add(str(len(source.classes)))
    for name in source.classes:
        add(name)
    for begin in range(0, len(source), _KEYS_AT_ONCE):
        indices = np.arange(begin, min(begin + _KEYS_AT_ONCE, len(source)))
        keys, lengths = joined_keys(source, indices)
        for part in (lengths.astype("<i8").tobytes(), keys, source.labels[indices].astype("<i8").tobytes()):
            digest.update(part)
    return digest.hexdigest()[:16]


def joined_keys(source: Source, indices: NDArray[np.int64]) -> tuple[bytes, NDArray[np.int64]]:
    """Return the keys of some samples as bytes, one after the other, and the length of each in bytes, (n,).

    A source of many samples has a method of that name, which takes `indices` and is fast.
    """
    own: Any = getattr(source, "joined_keys", None)
    if own is not None:
        found: tuple[bytes, NDArray[np.int64]] = own(indices)
        return found
    keys = [_encoded(key_of(source, index)) for index in indices.tolist()]
    return b"".join(keys), np.array([len(key) for key in keys], np.int64)


def _encoded(key: str) -> bytes:
    """Return a key as bytes; of a path those that it has in its file system."""
    try:
        return os.fsencode(key)
    except UnicodeEncodeError:  # text that is no path
        return key.encode("utf-8", "surrogatepass")


def list_names(names: Sequence[str], limit: int = 5) -> str:
    """Return the first `limit` names, quoted so that each stays on the line, and how many more there are."""
    return listed([repr(name) for name in names], limit)


def key_of(source: Source, index: int) -> str:
    """Return what identifies a sample whatever folder or machine the data lies on: its key, name or position."""
    key = getattr(source, "key", None) or getattr(source, "name", None)
    return str(index) if key is None else str(key(index))
