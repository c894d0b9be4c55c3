"""A long run in little: many epochs over the demonstration pictures, of which some are bad, without those.

    python -m bench.soak --backend dali-cpu --epochs 200

Loaders come and go; each finds the bad files anew, and is left in the middle of an epoch once. After each epoch memory,
threads and open files of the process are read; after each loader is closed, there must be as many threads and files as
before it. Prints the curves as JSON.
"""

from __future__ import annotations

import argparse
import gc
import json
import logging
import shutil
import tempfile
import time
from pathlib import Path
from typing import Any

import psutil

import dalipipe
from dalipipe import samples
from dalipipe.backends import BACKENDS

BAD = (b"", b"\xff", b"<html><body>404 Not Found</body></html>", bytes(4096))
"""What bad files hold, one after the other; every fifth is a picture cut in half."""


def spoil(folder: Path, share: float) -> int:
    """Overwrite a share of the training pictures, at least one, evenly chosen; return how many."""
    paths = sorted((folder / "train").rglob("*.jpg"))
    count = max(1, round(share * len(paths)))
    for number in range(count):
        path = paths[number * len(paths) // count]
        content = path.read_bytes()
        path.write_bytes(content[: len(content) // 2] if number % 5 == 4 else BAD[number % 5])
    return count


def reading(process: psutil.Process) -> dict[str, float]:
    """Return memory in MB, threads and open files of a process."""
    return {
        "rss_mb": round(process.memory_info().rss / 1e6, 1),
        "threads": process.num_threads(),
        "files": process.num_fds(),
    }


def settled(process: psutil.Process, within_s: float = 2.0) -> dict[str, float]:
    """Return a reading once no thread ends any more: those that were told to may take a moment."""
    gc.collect()
    before, until = reading(process), time.monotonic() + within_s
    while time.monotonic() < until:
        time.sleep(0.1)
        now = reading(process)
        if now["threads"] == before["threads"]:
            return now
        before = now
    return before


def soak(folder: Path, backend: str, epochs: int, loaders: int, bad: int) -> dict[str, Any]:
    """Run the epochs, and return a reading after each epoch and after each loader is closed."""
    process = psutil.Process()
    epoch_readings, closed_readings, images = [], [], 0
    begin = time.perf_counter()
    total = len(dalipipe.FolderSource(folder / "train"))
    for number in range(loaders):
        loader = dalipipe.DataLoader(
            folder / "train", 8, True, recipe="demo-train", backend=backend, seed=number, on_error="skip"
        )
        for _ in range(epochs // loaders):
            seen = [index for _ in loader for index in loader.last_indices.tolist()]
            assert len(seen) == len(set(seen)) == total - bad, f"{len(seen)} of {total} images came, {bad} are bad"
            images += len(seen)
            epoch_readings.append(reading(process))
        next(iter(loader))
        loader.close()
        del loader
        closed_readings.append(settled(process))
    took_s = time.perf_counter() - begin
    return {
        "backend": backend,
        "images": images,
        "bad_files": bad,
        "seconds": round(took_s, 1),
        "epochs": epoch_readings,
        "closed": closed_readings,
    }


def main() -> None:
    parser = argparse.ArgumentParser(description="Many epochs with bad files: memory, threads and files must not grow.")
    parser.add_argument("--backend", default="dali-cpu", choices=[name for name in BACKENDS if name != "dali-gpu"])
    parser.add_argument("--epochs", type=int, default=200)
    parser.add_argument("--loaders", type=int, default=4)
    parser.add_argument("--bad", type=float, default=0.01, help="share of the files that are bad")
    given = parser.parse_args()
    logging.getLogger("dalipipe").setLevel(logging.ERROR)
    with tempfile.TemporaryDirectory() as place:
        folder = Path(shutil.copytree(samples.ensure(), Path(place) / "samples"))
        bad = spoil(folder, given.bad)
        print(json.dumps(soak(folder, given.backend, given.epochs, given.loaders, bad)))


if __name__ == "__main__":
    main()
