"""Damaged images of every format by the thousand, mixed with good ones: nothing may crash, hang or change a good one.

By hand, for more of them than the tests try:

    python -m tests.faults.mutations dali-cpu=20000 dali-cpu-stock=20000 torchvision=5000

Each portion runs in a process of its own with a time limit. Prints a line a portion; exit status 1 where one crashed,
hung, or changed a good image.
"""

from __future__ import annotations

import json
import os
import signal
import subprocess
import sys
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import asdict, dataclass, fields
from functools import cache
from pathlib import Path

import numpy as np
import torch
from PIL import Image

from dalipipe.backends import Executor, Job, Result, compile_recipe
from dalipipe.recipes import Recipe, ops
from dalipipe.sampling import batched
from tests.faults.cases import encode
from tests.faults.memory import RECIPES, Items

ROOT = Path(__file__).parents[2]
UPRIGHT = Recipe(name="upright", apply_exif_orientation=True, ops=(ops.CenterCrop(size=16), ops.ToDtype(scale=True)))
SLOTS, BATCH_SIZE = 64, 8  # every second slot holds a damaged file
PORTION = 2500  # damaged files a process
LIMIT_S = 300


def _turned() -> bytes:
    """Return Exif that says to turn the image by a quarter."""
    exif = Image.Exif()
    exif[0x0112] = 6
    return exif.tobytes()


@cache
def originals() -> list[bytes]:
    """Return the files that damage is done to."""
    size = (41, 37)
    return [
        encode("JPEG", 1, size, quality=90),
        encode("JPEG", 2, size, quality=75, subsampling=0, optimize=True),
        encode("JPEG", 3, size, quality=85, progressive=True),
        encode("JPEG", 4, size, quality=85, mode="L"),
        encode("JPEG", 5, size, quality=85, mode="CMYK"),
        encode("JPEG", 6, size, quality=85, restart_marker_blocks=2),
        encode("PNG", 7, size),
        encode("PNG", 8, size, mode="P"),
        encode("PNG", 9, size, mode="RGBA"),
        encode("PNG", 10, size, mode="1"),
        encode("WEBP", 11, size, quality=80),
        encode("WEBP", 12, size, lossless=True),
        encode("WEBP", 13, size, quality=80, mode="RGBA"),
        encode("JPEG", 14, size, quality=85, exif=_turned()),
        encode("PNG", 15, size, exif=_turned()),
        encode("BMP", 16, size),
        encode("BMP", 17, size, mode="P"),
        encode("TIFF", 18, size, compression="tiff_lzw"),
        encode("TIFF", 19, size),
        encode("PPM", 20, size),
        encode("JPEG2000", 21, size),
    ]


def _flip_bits(data: bytes, rng: np.random.Generator) -> bytes:
    changed = bytearray(data)
    # Half of them near the beginning, where the header is.
    reach = len(data) if rng.random() < 0.5 else min(len(data), 200)
    for at in rng.integers(0, reach, rng.integers(1, 9)):
        changed[at] ^= 1 << int(rng.integers(0, 8))
    return bytes(changed)


def _overwrite(data: bytes, rng: np.random.Generator) -> bytes:
    changed = bytearray(data)
    at = int(rng.integers(0, len(data)))
    new = rng.bytes(int(rng.integers(1, 5))) if rng.random() < 0.5 else bytes([int(rng.choice([0, 255]))]) * 4
    changed[at : at + len(new)] = new
    return bytes(changed)


def _cut(data: bytes, rng: np.random.Generator) -> bytes:
    return data[: int(rng.integers(0, len(data)))]


def _span(data: bytes, rng: np.random.Generator) -> tuple[int, int]:
    start = int(rng.integers(0, len(data)))
    return start, min(len(data), start + int(rng.integers(1, 64)))


def _delete(data: bytes, rng: np.random.Generator) -> bytes:
    start, stop = _span(data, rng)
    return data[:start] + data[stop:]


def _insert(data: bytes, rng: np.random.Generator) -> bytes:
    at = int(rng.integers(0, len(data)))
    return data[:at] + rng.bytes(int(rng.integers(1, 64))) + data[at:]


def _duplicate(data: bytes, rng: np.random.Generator) -> bytes:
    start, stop = _span(data, rng)
    return data[:stop] + data[start:stop] * int(rng.integers(1, 4)) + data[stop:]


def _splice(data: bytes, rng: np.random.Generator) -> bytes:
    other = originals()[int(rng.integers(0, len(originals())))]
    return data[: int(rng.integers(0, len(data)))] + other[int(rng.integers(0, len(other))) :]


DAMAGE: list[Callable[[bytes, np.random.Generator], bytes]] = [
    _flip_bits,
    _flip_bits,
    _overwrite,
    _cut,
    _delete,
    _insert,
    _duplicate,
    _splice,
]


def damaged(number: int) -> bytes:
    """Return damaged file `number`: the same one always."""
    rng = np.random.default_rng(number)
    data = originals()[int(rng.integers(0, len(originals())))]
    for _ in range(1 if rng.random() < 0.7 else 2):
        if data:
            data = DAMAGE[int(rng.integers(0, len(DAMAGE)))](data, rng)
    return data


@dataclass
class Tally:
    """What became of damaged files and of the good ones among them; the fields add up."""

    tried: int = 0
    delivered: int = 0
    failed: int = 0
    good: int = 0
    good_failed: int = 0
    good_changed: int = 0
    lost: int = 0
    unclear: int = 0
    crashed: int = 0
    hung: int = 0

    def add(self, other: Tally) -> None:
        for name in (field.name for field in fields(self)):
            setattr(self, name, getattr(self, name) + getattr(other, name))

    @property
    def wrong(self) -> bool:
        """Whether anything happened that must not."""
        return any([self.good_failed, self.good_changed, self.lost, self.unclear, self.crashed, self.hung])

    def count(self, result: Result, clean: dict[int, torch.Tensor]) -> None:
        """Count one batch; `clean` has the image of every good slot."""
        images = iter(result.images)
        for at, slot in enumerate(result.batch.indices.tolist()):
            reason = result.failures.get(at)
            image = next(images) if reason is None else None
            if reason is not None and (not reason or reason != " ".join(reason.split())):
                self.unclear += 1
            if slot % 2:
                self.tried += 1
                self.delivered += image is not None
                self.failed += image is None
            else:
                self.good += 1
                self.good_failed += image is None
                self.good_changed += image is not None and not torch.equal(image, clean[slot])
        self.lost += sum(1 for _ in images)


def _epoch(executor: Executor) -> Iterator[Result]:
    return executor.run(batched(range(SLOTS), BATCH_SIZE, epoch=0, drop_last=False))


def attempt(backend: str, first: int, count: int) -> Tally:
    """Run damaged files `first` to `first + count - 1` through a backend, each through one recipe of three."""
    good = [originals()[slot // 2 % len(originals())] for slot in range(SLOTS)]
    source, tally = Items(list(good)), Tally()
    runs = []
    for recipe in (*RECIPES, UPRIGHT):
        executor = compile_recipe(Job(source, recipe, 3, BATCH_SIZE, 2), backend)
        results = list(_epoch(executor))
        runs.append((executor, dict(enumerate(torch.cat([result.images for result in results])))))
    per_epoch = SLOTS // 2
    for turn, start in enumerate(range(first, first + count, per_epoch)):
        numbers = [start + slot // 2 for slot in range(SLOTS)]
        source.items = [damaged(numbers[slot]) if slot % 2 else good[slot] for slot in range(SLOTS)]
        executor, clean = runs[turn % len(runs)]
        before = tally.tried + tally.good
        for result in _epoch(executor):
            tally.count(result, clean)
        tally.lost += SLOTS - (tally.tried + tally.good - before)
    for executor, _ in runs:
        executor.close()
    return tally


def attempts(counts: Mapping[str, int]) -> dict[str, Tally]:
    """As `attempt` for the first so many damaged files, by backend."""
    return {backend: attempt(backend, 0, count) for backend, count in counts.items()}


def in_process(command: Sequence[str], limit_s: float) -> tuple[list[Tally], str]:
    """Run a command that prints Tallies as JSON, one a line.

    Returns them and, where it crashed or hung, one that says so and what is known of it.
    """
    environment = {**os.environ, "PYTHONPATH": os.pathsep.join([str(ROOT), os.environ.get("PYTHONPATH", "")])}
    try:
        result = subprocess.run(
            command, cwd=ROOT, env=environment, capture_output=True, text=True, timeout=limit_s, check=False
        )
    except subprocess.TimeoutExpired:
        return [Tally(hung=1)], f"hung: not done after {limit_s} s"
    tallies = [Tally(**json.loads(line)) for line in result.stdout.splitlines()]
    if result.returncode:
        ended = signal.Signals(-result.returncode).name if result.returncode < 0 else f"status {result.returncode}"
        return [*tallies, Tally(crashed=1)], f"crashed: {ended}\n{result.stderr[-2000:]}"
    return tallies, ""


def portion(wanted: Mapping[str, range], limit_s: float = LIMIT_S) -> tuple[list[Tally], str]:
    """As `attempt` for each backend in `wanted` and the numbers of its files, in one process apart."""
    here = [sys.executable, "-W", "ignore", "-m", "tests.faults.mutations", "--portion"]
    return in_process([*here, *(f"{name}={span.start}:{span.stop}" for name, span in wanted.items())], limit_s)


def main(arguments: Sequence[str]) -> int:
    """Run a campaign, or one portion of it."""
    if arguments and arguments[0] == "--portion":
        for backend, _, span in (argument.partition("=") for argument in arguments[1:]):
            first, stop = map(int, span.split(":"))
            print(json.dumps(asdict(attempt(backend, first, stop - first))), flush=True)
        return 0
    wrong = False
    for argument in arguments or ["dali-cpu=2500", "dali-cpu-stock=2500", "torchvision=2500"]:
        backend, _, count = argument.partition("=")
        total = Tally()
        for first in range(0, int(count), PORTION):
            span = range(first, min(first + PORTION, int(count)))
            tallies, trouble = portion({backend: span})
            for tally in tallies:
                total.add(tally)
            if trouble or any(tally.wrong for tally in tallies):
                print(f"{backend}, files {first} to {span.stop - 1}: {trouble or tallies}", flush=True)
        print(f"{backend}: {total}", flush=True)
        wrong = wrong or total.wrong
    return int(wrong)


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
