"""What was compared, and how it came out: differences gathered image by image."""

from __future__ import annotations

import heapq
import math
from dataclasses import dataclass, field
from typing import Any

import numpy as np
from numpy.typing import NDArray

from dalipipe.parity.tolerances import Difference, Tolerance

Levels = NDArray[np.float64]

_BINS_PER_LEVEL = 64  # for the percentile only
_BINS = 256 * _BINS_PER_LEVEL


@dataclass(frozen=True, order=True)
class Worst:
    """An image that differs, (3, H, W) levels from the backend and from the reference; the larger `mean_abs` the worse.

    `mean_abs` is infinite where the backend has no image.
    """

    mean_abs: float
    max_abs: float
    name: str = field(compare=False)
    draw: int = field(compare=False)
    found: Levels | None = field(compare=False, repr=False, default=None)
    expected: Levels | None = field(compare=False, repr=False, default=None)


@dataclass(frozen=True)
class Row:
    """One step, or the whole recipe, on one backend.

    Attributes:
        step: The op's name, "decode" or "whole recipe".
        position: Of the op in the recipe, from 1; 0 for decoding, None for the whole.
        backend: Which was compared.
        tolerance: What it is held to.
        difference: What was found.
        images: How many images were compared, each draw counting as one.
        over: How many of them exceed the largest difference, or have no image on the backend.
        worst: The name of the worst image.
        problem: Which limit is exceeded; "" where none is.
        shown: The worst images themselves, worst first; only of the whole recipe.
    """

    step: str
    position: int | None
    backend: str
    tolerance: Tolerance
    difference: Difference
    images: int
    over: int
    worst: str
    problem: str
    shown: tuple[Worst, ...] = ()

    @property
    def ok(self) -> bool:
        """Whether it keeps to its tolerance."""
        return not self.problem

    def plain(self) -> dict[str, Any]:
        """Return it as JSON has it."""
        difference = {name: value if math.isfinite(value) else None for name, value in vars(self.difference).items()}
        names = ("step", "position", "backend", "images", "over", "worst", "ok", "problem")
        return {**{name: getattr(self, name) for name in names}, **difference, "tolerance": vars(self.tolerance)}


class Gathered:
    """Differences of many images, gathered without keeping the images.

    Args:
        tolerance: What they are held to.
        keep: How many of the worst images themselves are kept.
    """

    def __init__(self, tolerance: Tolerance, keep: int = 0) -> None:
        self.tolerance = tolerance
        self._keep = keep
        self._counts = np.zeros(_BINS + 1, np.int64)
        self._sum, self._max, self._size, self._differ = 0.0, 0.0, 0, 0
        self._images = self._over = self._missing = 0
        self._worst: list[Worst] = []

    def add(self, label: tuple[str, int], found: Levels, expected: Levels, size: int | None = None) -> None:
        """Add an image.

        Args:
            label: What to call it, and which draw it is.
            found: Levels from the backend, of any shape.
            expected: As many from the reference.
            size: How many values count; by default all. The rest are padding, which must be equal.
        """
        if found.shape != expected.shape:
            self.add_missing(label)
            return
        gap = np.abs(found - expected)
        count = gap.size if size is None else size
        if count == 0:
            return
        mean, largest = float(gap.sum()) / count, float(gap.max())
        if not math.isfinite(mean):
            mean = largest = math.inf
            self._missing += 1
        else:
            bins = np.minimum(gap.ravel() * _BINS_PER_LEVEL, _BINS).astype(np.int64)
            self._counts += np.bincount(bins, minlength=_BINS + 1)
            self._counts[0] -= gap.size - count
            self._sum, self._max, self._size = self._sum + mean * count, max(self._max, largest), self._size + count
            self._differ += int(np.count_nonzero(gap))
        self._images += 1
        self._over += not largest <= self.tolerance.max_abs
        kept = (found, expected) if self._keep else (None, None)
        self._rank(Worst(mean, largest, *label, *kept))

    def add_missing(self, label: tuple[str, int]) -> None:
        """Add an image that the reference has and the backend has not, or has in another size."""
        self._images += 1
        self._over += 1
        self._missing += 1
        self._rank(Worst(math.inf, math.inf, *label))

    def _rank(self, worst: Worst) -> None:
        heapq.heappush(self._worst, worst)
        if len(self._worst) > max(1, self._keep):
            heapq.heappop(self._worst)

    @property
    def difference(self) -> Difference:
        """What was found; infinite where an image is missing or holds what is not a number."""
        if self._missing:
            return Difference(math.inf, math.inf, math.inf, 1.0)
        if self._size == 0:
            return Difference(0.0, 0.0, 0.0, 0.0)
        at = int(np.searchsorted(np.cumsum(self._counts), 0.99 * self._size))
        p99 = min(at / _BINS_PER_LEVEL, self._max)
        return Difference(self._sum / self._size, p99, self._max, self._differ / self._size)

    def row(self, step: str, position: int | None, backend: str) -> Row:
        """Return what was gathered."""
        worst = sorted(self._worst, reverse=True)
        problem = self.tolerance.problem(self.difference)
        if self._missing:
            problem = f"{self._missing} images are missing, or of another size, or not numbers"
        named = worst[0].name if worst and worst[0].mean_abs > 0 else ""
        shown = tuple(one for one in worst if one.found is not None)
        return Row(
            step, position, backend, self.tolerance, self.difference, self._images, self._over, named, problem, shown
        )


@dataclass(frozen=True)
class Comparison:
    """How the backends compare on one recipe.

    Attributes:
        recipe: Its name.
        rows: Per backend: decoding, each step alone, the whole recipe.
        refused: Backends that lack an op of the recipe, and what they say.
        unreadable: Names of the images that the reference can't process; they are left out.
        images: How many images there were.
        draws: How often each was drawn.
    """

    recipe: str
    rows: tuple[Row, ...]
    refused: dict[str, str]
    unreadable: tuple[str, ...]
    images: int
    draws: int

    @property
    def ok(self) -> bool:
        """Whether every row keeps to its tolerance; a backend that refuses the recipe differs in nothing."""
        return all(row.ok for row in self.rows)

    def plain(self) -> dict[str, Any]:
        """Return it as JSON has it."""
        return {
            "recipe": self.recipe,
            "ok": self.ok,
            "images": self.images,
            "draws": self.draws,
            "refused": self.refused,
            "unreadable": list(self.unreadable),
            "rows": [row.plain() for row in self.rows],
        }
