"""Reads files that something else overwrites meanwhile: in a process of its own, since what goes wrong ends it."""

import tempfile
import threading
import time
from pathlib import Path

from dalipipe.backends import Job, compile_recipe
from dalipipe.sampling import batched
from dalipipe.sources import FolderSource
from tests.faults.cases import encode
from tests.faults.memory import RECIPES

COUNT = 16


def _overwrite(paths: list[Path], data: list[bytes], stop: threading.Event) -> None:
    """Cut every file short and write it again, in place, over and over."""
    while not stop.is_set():
        for path, content in zip(paths, data, strict=True):
            with path.open("r+b") as file:
                file.truncate(100)
                time.sleep(0.0005)
                file.seek(0)
                file.write(content)


def read(backend: str, seconds: float) -> dict[str, int]:
    """Run epochs for a while; every second file is overwritten. Return what became of them."""
    found = {"epochs": 0, "delivered": 0, "untouched that failed": 0}
    with tempfile.TemporaryDirectory() as name:
        folder = Path(name, "a")
        folder.mkdir()
        paths = [folder / f"{number:02}.jpg" for number in range(COUNT)]
        data = [encode(seed=number, size=(500, 700)) for number in range(COUNT)]
        for path, content in zip(paths, data, strict=True):
            path.write_bytes(content)
        stop = threading.Event()
        thread = threading.Thread(target=_overwrite, args=(paths[::2], data[::2], stop))
        executor = compile_recipe(Job(FolderSource(name), RECIPES[0], 0, 4, 2), backend)
        list(executor.run(batched(range(COUNT), 4, epoch=0, drop_last=False)))
        thread.start()
        end = time.monotonic() + seconds
        while time.monotonic() < end:
            for result in executor.run(batched(range(COUNT), 4, epoch=found["epochs"], drop_last=False)):
                found["delivered"] += len(result.images)
                found["untouched that failed"] += sum(result.batch.indices[at] % 2 for at in result.failures)
            found["epochs"] += 1
        stop.set()
        thread.join()
        executor.close()
    return {key: int(value) for key, value in found.items()}
