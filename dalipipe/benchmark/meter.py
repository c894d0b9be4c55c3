"""The stopwatch: how many images a loader gives in how much time and CPU time, its first wait included."""

from __future__ import annotations

import statistics
import time
from collections.abc import Callable, Iterable, Sequence
from contextlib import AbstractContextManager
from dataclasses import dataclass
from typing import Any

import psutil

Batch = tuple[Any, Any]
"""What a subject yields: images, and something with as many entries as there are images."""

Opener = Callable[[], AbstractContextManager[Iterable[Batch]]]


@dataclass(frozen=True)
class Stretch:
    """One timed stretch over a fresh loader.

    Attributes:
        images: How many came.
        wall_s: From before the loader was made until the last batch was there.
        first_batch_s: The part of `wall_s` until the first batch was there.
        cpu_s: User and system time of the process and all its children over `wall_s`.
        images_in_first_batch: How many of `images` came with the first batch.
    """

    images: int
    wall_s: float
    first_batch_s: float
    cpu_s: float
    images_in_first_batch: int

    @property
    def img_per_s(self) -> float:
        """Images over seconds."""
        return self.images / self.wall_s

    @property
    def cpu_s_per_1000(self) -> float:
        """CPU seconds for 1,000 images."""
        return 1000 * self.cpu_s / self.images

    @property
    def steady_img_per_s(self) -> float:
        """Images per second after the first batch; `img_per_s` where there is one batch only."""
        rest_s = self.wall_s - self.first_batch_s
        later = self.images - self.images_in_first_batch
        return later / rest_s if later and rest_s > 0 else self.img_per_s


@dataclass(frozen=True)
class Spread:
    """The middle and the ends of some numbers."""

    median: float
    low: float
    high: float

    @classmethod
    def of(cls, values: Sequence[float]) -> Spread:
        """Return the spread of at least one number."""
        return cls(statistics.median(values), min(values), max(values))

    @property
    def relative(self) -> float:
        """(high - low) / median."""
        return (self.high - self.low) / self.median


def time_stretch(
    open_loader: Opener,
    *,
    limit_s: float = float("inf"),
    clock: Callable[[], float] = time.perf_counter,
    cpu_clock: Callable[[], float] | None = None,
    finish: Callable[[], None] = lambda: None,
) -> Stretch:
    """Return how long a loader takes to be made and to give its batches.

    Args:
        open_loader: Makes the loader; the clock runs already.
        limit_s: Stop at the first batch that comes so many seconds after the first one.
        clock: Seconds; replaced in tests.
        cpu_clock: CPU seconds; by default those of this process and its children.
        finish: Waits until the last batch can be used; on a GPU, that what was started there is done.

    Raises:
        ValueError: the loader gives no batch.
    """
    cpu_clock = cpu_clock or tree_cpu_s
    images = in_first = 0
    first_s = now = 0.0
    cpu_start, start = cpu_clock(), clock()
    with open_loader() as batches:
        for _, labels in batches:
            images += len(labels)
            now = clock() - start
            if images == len(labels):
                first_s, in_first = now, images
            if now - first_s >= limit_s:
                break
        finish()
        wall_s, cpu_s = clock() - start, cpu_clock() - cpu_start
    if not images:
        raise ValueError("a loader must give at least one batch to be measured, got none")
    return Stretch(images, wall_s, first_s, cpu_s, in_first)


def tree_cpu_s() -> float:
    """Return the user and system time of this process and of its children, the ended ones included."""
    total = 0.0
    process = psutil.Process()
    for one in (process, *process.children(recursive=True)):
        try:
            times = one.cpu_times()
        except psutil.NoSuchProcess:  # it ended meanwhile; its parent has its time from now on
            continue
        total += sum(getattr(times, part, 0.0) for part in ("user", "system", "children_user", "children_system"))
    return total


def tree_memory_mb(pid: int) -> float:
    """Return the memory of a process and its children in MB (10**6 bytes), pages that they share counted once."""
    total = 0
    try:
        process = psutil.Process(pid)
        everyone = (process, *process.children(recursive=True))
    except psutil.NoSuchProcess:
        return 0.0
    for one in everyone:
        try:
            info = one.memory_full_info()
        except (psutil.NoSuchProcess, psutil.AccessDenied):
            continue
        total += getattr(info, "pss", info.rss)
    return total / 1e6
