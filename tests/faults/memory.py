"""Takes files that claim too many px, and batches of large images, through the backends, and measures the cost.

To be run in a process of its own, whose peak of memory counts.
"""

import ctypes
import io
import math
import re
from pathlib import Path

import numpy as np
from PIL import Image

from dalipipe.backends import BACKENDS, Job, compile_recipe, with_cache
from dalipipe.recipes import Recipe, ops
from dalipipe.sampling import batched
from tests.faults.headers import CLAIMS, NEAR_CLAIMS, progressive_jpeg

RECIPES = (
    Recipe(name="window", ops=(ops.RandomResizedCrop(size=16), ops.ToDtype(scale=True))),
    Recipe(name="whole", ops=(ops.Resize(size=(16, 16)), ops.ToDtype(scale=True))),
)
WITHIN_PX = 9_000  # side of an image that the limit lets through
LARGE_PX, LARGE_COUNT = 5_000, 6  # 450 MB, decoded


class Items:
    classes = ("a",)

    def __init__(self, items: list[bytes]) -> None:
        self.items = items
        self.labels = np.zeros(len(items), dtype=np.int64)

    def __len__(self) -> int:
        return len(self.items)

    def item(self, index: int) -> bytes:
        return self.items[index]


def _good() -> bytes:
    buffer = io.BytesIO()
    Image.new("RGB", (40, 30), (9, 8, 7)).save(buffer, "JPEG")
    return buffer.getvalue()


def _peak_mb() -> float:
    """Return the most memory that the process has had since `_forget_peak`."""
    found = re.search(r"^VmHWM:\s+(\d+)", Path("/proc/self/status").read_text(), re.MULTILINE)
    assert found is not None
    return int(found.group(1)) / 1024


def _forget_peak() -> None:
    """Begin to measure anew: what came before, such as compiling, must not hide what follows."""
    ctypes.CDLL(None).malloc_trim(0)  # gives back what is free already
    Path("/proc/self/clear_refs").write_text("5")


def run(backend: str, claims: dict[str, bytes], cache: bool = False) -> dict[str, object]:
    """Run each claim beside a good image, through both recipes.

    Returns the reasons by claim, how many images were delivered, and by how many MB the process grew meanwhile.
    """
    source = Items([item for claim in claims.values() for item in (_good(), claim)])
    kept = with_cache(source, RECIPES[0], "auto" if cache else None, None, 1)
    names, reasons, delivered, grown = list(claims), {}, 0, 0.0
    for recipe in RECIPES:
        executor = compile_recipe(Job(kept, recipe, 0, 4, 2), backend)
        for _ in executor.run(batched([0] * 16, 4, epoch=0, drop_last=False)):
            pass
        _forget_peak()
        before = _peak_mb()
        for result in executor.run(batched(range(len(source)), 4, epoch=0, drop_last=False)):
            delivered += len(result.images)
            for position, reason in result.failures.items():
                reasons[names[int(result.batch.indices[position]) // 2]] = reason
        grown += _peak_mb() - before
        executor.close()
    return {"reasons": reasons, "delivered": delivered, "grown_mb": round(grown)}


def run_large(backend: str, decoded_bytes: float) -> dict[str, object]:
    """Run a batch of large images, decoded whole; return how many came, and by how many MB the process grew."""
    items = []
    for number in range(LARGE_COUNT):
        buffer = io.BytesIO()
        Image.new("RGB", (LARGE_PX, LARGE_PX), (number, 8, 7)).save(buffer, "PNG", compress_level=1)
        items.append(buffer.getvalue())
    job = Job(Items([_good(), *items]), RECIPES[1], 0, LARGE_COUNT, 2, prefetch=1, decoded_bytes=decoded_bytes)
    executor = compile_recipe(job, backend)
    list(executor.run(batched([0], 1, epoch=0, drop_last=False)))
    _forget_peak()
    before, delivered = _peak_mb(), 0
    for result in executor.run(batched(range(1, 1 + LARGE_COUNT), LARGE_COUNT, epoch=0, drop_last=False)):
        delivered += len(result.images)
    grown = _peak_mb() - before
    executor.close()
    return {"delivered": delivered, "grown_mb": round(grown)}


def measure() -> dict[str, dict[str, object]]:
    """Return what `run` and `run_large` do for each backend."""
    claims = {name: make(*size) for name, (make, size) in (CLAIMS | NEAR_CLAIMS).items()}
    backends = [name for name in BACKENDS if name != "dali-gpu"]
    found: dict[str, dict[str, object]] = {backend: run(backend, claims) for backend in backends}
    found["dali-cpu with a cache"] = run("dali-cpu", claims, cache=True)
    found["within the limit"] = run("dali-cpu", {"large": progressive_jpeg(WITHIN_PX, WITHIN_PX)})
    for backend in ("dali-cpu", "dali-cpu-stock"):
        found[f"{backend} in parts"] = run_large(backend, 80_000_000)
    found["at once"] = run_large("dali-cpu", math.inf)
    return found
