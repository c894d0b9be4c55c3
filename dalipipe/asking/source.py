"""A data set that is asked, as the rest of a loader knows it."""

from __future__ import annotations

import hashlib
from typing import Any

import numpy as np
from numpy.typing import NDArray

from dalipipe.errors import SourceError
from dalipipe.sources import Item


class AskedSource:
    """The samples of a data set that only the data set itself can give.

    Args:
        dataset: Any with `__getitem__` and `__len__`.
        length: How many samples it has; by default it is asked.

    Attributes:
        dataset: See above.
        classes: One, of all samples: what its labels mean is the data set's own.
        labels: Zeros, (N,) int64, for the same reason.
        paths: Of samples that can't be used, the files.
    """

    max_requests = 1
    classes: tuple[str, ...] = ("sample",)

    def __init__(self, dataset: Any, length: int | None = None) -> None:
        self.dataset = dataset
        self.labels: NDArray[np.int64] = np.broadcast_to(np.int64(0), len(dataset) if length is None else length)
        self.paths: dict[int, str] = {}

    def __len__(self) -> int:
        return len(self.labels)

    def __repr__(self) -> str:
        return f"AskedSource({type(self.dataset).__name__} of {len(self)})"

    def item(self, index: int) -> Item:
        """Refuse: it has samples, of which images may be a part.

        Raises:
            SourceError: always.
        """
        raise SourceError(
            f"{type(self.dataset).__name__}: has no images by themselves, got asked for that of sample {index}. "
            "Iterate the loader."
        )

    def name(self, index: int) -> str:
        """Return what to call a sample in an error message: its file where it is known."""
        return self.paths.get(index) or f"sample {index}"

    def key(self, index: int) -> str:
        """Return the position of a sample."""
        return str(index)

    def fingerprint(self) -> str:
        """Return 16 hex digits that change with the type and the length of the data set."""
        text = f"{type(self.dataset).__qualname__} {len(self)}"
        return hashlib.sha256(text.encode()).hexdigest()[:16]
