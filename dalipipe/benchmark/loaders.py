"""dalipipe's own loader as a subject."""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from contextlib import contextmanager

import numpy as np
from numpy.typing import NDArray

from dalipipe.backends import with_cache
from dalipipe.benchmark.meter import Batch
from dalipipe.benchmark.work import Work
from dalipipe.loading import DataLoader
from dalipipe.recipes import Recipe
from dalipipe.sources import FolderSource, Source, SubsetSource


class LoaderSubject:
    """`dalipipe.DataLoader` on one of its backends.

    Args:
        work: What to load.
        backend: Name of the backend.
        cached: Whether decoded images stay in memory, as with `cache="ram"`. They are decoded by the first loader, so
            that the later ones show what the second and later epochs of a training run are like.
    """

    def __init__(self, work: Work, backend: str, *, cached: bool = False) -> None:
        self._work = work
        self._backend = backend
        self._source: Source = FolderSource(work.root)
        if cached:
            self._source = with_cache(self._source, work.recipe, "ram", None, work.threads)

    @contextmanager
    def open(self, recipe: Recipe, indices: NDArray[np.int64]) -> Iterator[Iterable[Batch]]:
        """Open a loader over some images, in that order."""
        work = self._work
        with DataLoader(
            SubsetSource(self._source, indices),
            batch_size=work.batch_size,
            recipe=recipe,
            backend=self._backend,
            seed=work.seed,
            num_threads=work.threads,
        ) as loader:
            yield loader
