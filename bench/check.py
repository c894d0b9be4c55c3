"""Speed of `dalipipe check` beside DALI decoding the same files and doing nothing else.

Both run in this process, in turns, so that a disturbance of the machine strikes both; the ratio is that of one round.
What is timed of the check is all of it: listing, reading, headers, decoding, the search for duplicates. Of decoding
alone the pipeline is built beforehand; it gets paths, as in training, and prepares two batches ahead.

    python -m bench.check PHOTOS --copies 5

The ratio of the CPU times is the steadier one on a busy machine. Copies of the photos differ in bytes behind the
picture, so that they are no duplicates of one another.
"""

from __future__ import annotations

import argparse
import json
import statistics
import tempfile
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

from nvidia.dali import fn, types
from nvidia.dali.pipeline import Pipeline

from dalipipe.backends.dali_input import encode
from dalipipe.inspection import inspect
from dalipipe.inspection.walk import BATCH
from dalipipe.loading import available_threads
from dalipipe.sources import FolderSource


def copy_photos(photos: Path, root: Path, copies: int) -> FolderSource:
    """Write every photo several times, each time with other bytes behind the picture."""
    source = FolderSource(photos)
    for index in range(len(source)):
        original = Path(source.item(index))
        content = original.read_bytes()
        folder = root / source.classes[int(source.labels[index])]
        folder.mkdir(exist_ok=True)
        for number in range(copies):
            (folder / f"{number}-{original.name}").write_bytes(content + number.to_bytes(4, "little"))
    return FolderSource(root)


def decode_only(source: FolderSource, threads: int) -> Callable[[], None]:
    """Return what decodes every file of a folder once."""
    paths = [encode(source.item(index)) for index in range(len(source))]

    def batches() -> Iterator[list[Any]]:
        while True:
            for begin in range(0, len(paths), BATCH):
                yield paths[begin : begin + BATCH]

    pipeline = Pipeline(BATCH, threads, device_id=None, prefetch_queue_depth=2, exec_dynamic=True)
    with pipeline:
        path = fn.external_source(source=batches(), dtype=types.UINT8, ndim=1)
        pipeline.set_outputs(fn.decoders.image(fn.io.file.read(path), output_type=types.RGB))
    pipeline.build()

    def run() -> None:
        for _ in range(0, len(paths), BATCH):
            pipeline.run()

    return run


def timed_s(action: Callable[[], Any]) -> tuple[float, float]:
    """Return how long something took, and how much time of CPUs."""
    begin, cpu = time.perf_counter(), time.process_time()
    action()
    return time.perf_counter() - begin, time.process_time() - cpu


def measure(source: FolderSource, threads: int, rounds: int) -> dict[str, Any]:
    """Return images per second of both, and the ratio, as median, least and most of the rounds."""
    decode = decode_only(source, threads)
    subjects = {"check": lambda: inspect(source.root, threads), "decode_only": decode}
    for action in subjects.values():  # files into memory, libraries loaded
        action()
    taken: dict[str, list[tuple[float, float]]] = {name: [] for name in subjects}
    for number in range(rounds):
        order = list(subjects) if number % 2 else list(subjects)[::-1]
        for name in order:
            taken[name].append(timed_s(subjects[name]))
    ours, theirs = taken["check"], taken["decode_only"]
    figures = {
        "check_img_per_s": [len(source) / wall for wall, _ in ours],
        "decode_only_img_per_s": [len(source) / wall for wall, _ in theirs],
        "ratio": [other / own for (own, _), (other, _) in zip(ours, theirs, strict=True)],
        "ratio_by_cpu_time": [other / own for (_, own), (_, other) in zip(ours, theirs, strict=True)],
    }
    spreads = {
        name: {
            "median": round(statistics.median(values), 3),
            "min": round(min(values), 3),
            "max": round(max(values), 3),
        }
        for name, values in figures.items()
    }
    return {"images": len(source), "threads": threads, "rounds": rounds, **spreads}


def main() -> None:
    parser = argparse.ArgumentParser(description="Speed of dalipipe check beside decoding alone.")
    parser.add_argument("photos", type=Path, help="a folder of classes")
    parser.add_argument("--copies", type=int, default=5, help="of each photo")
    parser.add_argument("--rounds", type=int, default=7)
    parser.add_argument("--threads", type=int, default=available_threads())
    given = parser.parse_args()
    with tempfile.TemporaryDirectory() as folder:
        source = copy_photos(given.photos, Path(folder), given.copies)
        print(json.dumps(measure(source, given.threads, given.rounds), indent=2))


if __name__ == "__main__":
    main()
