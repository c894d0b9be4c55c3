"""What dalipipe itself takes: Python time per batch on the training thread, and the time from start to first batch."""

from __future__ import annotations

import os
import resource
import statistics
import subprocess
import sys
import tempfile
import time
from pathlib import Path
from typing import Any

import numpy as np

from dalipipe.backends.dali_executor import DaliExecutor
from dalipipe.loading import DataLoader
from dalipipe.sources import FolderSource, SubsetSource

_SCRIPT = """
import sys
from dalipipe import DataLoader
with DataLoader(sys.argv[1], batch_size=int(sys.argv[2]), num_threads=int(sys.argv[3]), recipe="imagenet-train",
                backend="dali-cpu") as loader:
    next(iter(loader))
"""


def feed_times_ms(root: Path, batch_size: int, threads: int, batches: int = 100) -> list[float]:
    """Return the CPU time of the calling thread for preparing each batch: drawing its numbers, listing its items."""
    times: list[float] = []
    feed = DaliExecutor._feed

    def timed(self: DaliExecutor) -> Any:
        start = time.thread_time()
        try:
            return feed(self)
        finally:
            times.append(1000 * (time.thread_time() - start))

    source = FolderSource(root)
    indices = np.arange(batches * batch_size) % len(source)
    DaliExecutor._feed = timed  # type: ignore[method-assign]
    try:
        with DataLoader(
            SubsetSource(source, indices), batch_size, recipe="imagenet-train", backend="dali-cpu", num_threads=threads
        ) as loader:
            for _ in loader:
                pass
    finally:
        DaliExecutor._feed = feed  # type: ignore[method-assign]
    return times[:batches]  # the last call only says that there are no more


def start(root: Path, batch_size: int, threads: int, kernels: str) -> dict[str, float]:
    """Return the time from the start of Python to the first batch, and the CPU time that it took.

    Args:
        root: Folder of images.
        batch_size: Images in the batch.
        threads: Threads of the loader.
        kernels: Folder where compiled kernels are kept.
    """
    begin, before = time.perf_counter(), resource.getrusage(resource.RUSAGE_CHILDREN)
    subprocess.run(
        [sys.executable, "-c", _SCRIPT, root, str(batch_size), str(threads)],
        env={**os.environ, "NUMBA_CACHE_DIR": kernels},
        check=True,
        stdout=subprocess.DEVNULL,
    )
    after = resource.getrusage(resource.RUSAGE_CHILDREN)
    cpu_s = after.ru_utime + after.ru_stime - before.ru_utime - before.ru_stime
    return {"wall_s": time.perf_counter() - begin, "cpu_s": cpu_s}


def measure(root: Path, batch_size: int, threads: int, repetitions: int) -> dict[str, Any]:
    """Return the figures, with every value they come from."""
    feed_ms = feed_times_ms(root, batch_size, threads)
    with tempfile.TemporaryDirectory() as kernels:
        cold = start(root, batch_size, threads, kernels)
        warm = [start(root, batch_size, threads, kernels) for _ in range(repetitions)]
    return {
        "feed_ms_per_batch": {
            "median": statistics.median(feed_ms),
            "p90": float(np.percentile(feed_ms, 90)),
            "batches": len(feed_ms),
        },
        "start_s": {"cold": cold["wall_s"], "warm": statistics.median(one["wall_s"] for one in warm)},
        "start_rounds": {"cold": [cold], "warm": warm},
    }
