"""Measures the contenders of a scene: same images, same output, in turns, each in a process of its own."""

from __future__ import annotations

import tempfile
from collections.abc import Callable, Iterable
from contextlib import ExitStack
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray
from PIL import Image

from bench.contenders import Contender
from dalipipe.benchmark.agreement import Sample, compare, compare_loosely
from dalipipe.benchmark.measure import COMPARED_IMAGES, Settings, read_all, rotated, warm_up
from dalipipe.benchmark.meter import Stretch
from dalipipe.benchmark.process import WORKER, SubjectProcess
from dalipipe.benchmark.subjects import CEILING, PEERS, REFERENCE
from dalipipe.benchmark.work import Work
from dalipipe.decisions.permutation import permutation
from dalipipe.recipes import Recipe
from dalipipe.sources import FolderSource

JPEG_QUALITY = 90
Notify = Callable[[str], None]


@dataclass(frozen=True)
class Plan:
    """How a scene is measured.

    Attributes:
        settings: Batch size, threads, repetitions, seconds and the most images of a pass.
        environments: Folder of the peers' environments.
    """

    settings: Settings
    environments: Path

    def start(self, contender: Contender, root: Path, pool: NDArray[np.int64]) -> SubjectProcess:
        """Start the process of a contender."""
        threads = self.settings.threads if contender.threads is None else contender.threads
        work = Work(str(root), Recipe.load(contender.recipe), self.settings.batch_size, threads)
        command: tuple[str | Path, ...] = WORKER
        if contender.peer is not None:
            python = self.environments / contender.peer / "bin" / "python"
            command = (python, "-P", "-m", f"bench.peers.{contender.peer}")
        return SubjectProcess(contender.subject, work, pool, command)


def reduce(root: Path, longest_px: int, target: Path) -> None:
    """Write the images of a folder again as JPEG files, those that are longer reduced to a longest side."""
    source = FolderSource(root)
    for path, label in source.samples:
        folder = target / source.classes[label]
        folder.mkdir(parents=True, exist_ok=True)
        with Image.open(path) as image:
            picture = image.convert("RGB")
        picture.thumbnail((longest_px, longest_px), Image.Resampling.LANCZOS)
        picture.save(folder / f"{Path(path).stem}.jpg", quality=JPEG_QUALITY)


def describe(source: FolderSource, pool: NDArray[np.int64]) -> dict[str, Any]:
    """Return how many images a pass has and what they are like."""
    pixels = []
    for index in pool.tolist():
        with Image.open(source.item(index)) as image:
            pixels.append(image.width * image.height)
    return {"images": len(pool), "mean_kb": read_all(source, pool), "mean_mp": float(np.mean(pixels)) / 1e6}


def measure(root: Path, contenders: Iterable[Contender], how: Plan, notify: Notify) -> dict[str, Any]:
    """Return what was measured of the contenders on the images of a folder."""
    contenders, settings = list(contenders), how.settings
    source = FolderSource(root)
    pool = permutation(len(source), settings.seed, 0)[: settings.images]
    data = describe(source, pool)
    found: list[dict[str, Any]] = []
    with ExitStack() as stack:
        judge = _Judge(how.start(Contender(REFERENCE, REFERENCE), root, pool), min(COMPARED_IMAGES, len(pool)))
        stack.callback(judge.close)
        processes: list[tuple[SubjectProcess, int]] = []
        for contender in contenders:
            notify(f"{contender.label}: starting")
            process = how.start(contender, root, pool)
            stack.callback(process.close)
            because = judge.complaint(contender, process)
            first, passes = warm_up(process, settings, len(pool))
            processes.append((process, passes))
            found.append(
                {
                    **asdict(contender),
                    "threads": contender.threads or settings.threads,
                    "refused": because,
                    "versions": process.facts.get("versions", {}),
                    "peak_memory_mb": process.peak_memory_mb,
                    "cold_first_batch_s": first.first_batch_s,
                    "rounds": [],
                }
            )
        ranked = [position for position, one in enumerate(found) if not one["refused"]]
        for repetition in range(settings.repetitions):
            for position in rotated(ranked, repetition):
                notify(f"{contenders[position].label}: round {repetition + 1} of {settings.repetitions}")
                process, passes = processes[position]
                found[position]["rounds"].append(_plain(process.time(passes)))
    return {**data, "contenders": found}


def _plain(stretch: Stretch) -> dict[str, float]:
    return {**asdict(stretch), "img_per_s": stretch.img_per_s, "steady_img_per_s": stretch.steady_img_per_s}


class _Judge:
    """Holds the pictures of a contender against the reference's."""

    def __init__(self, reference: SubjectProcess, count: int) -> None:
        self._reference, self._count = reference, count
        self._samples: dict[str, Sample] = {}
        self.close = reference.close

    def complaint(self, contender: Contender, process: SubjectProcess) -> str:
        """Return what is wrong with its pictures; "" where nothing is, or where it makes none."""
        if contender.subject == CEILING:
            return ""
        recipe = Recipe.load(contender.recipe)
        if contender.recipe not in self._samples:
            self._samples[contender.recipe] = self._take(self._reference, recipe)
        reference, ours = self._samples[contender.recipe], self._take(process, recipe)
        if contender.peer is not None or contender.subject in PEERS:  # they take their own random decisions
            return compare_loosely(ours, reference, recipe)
        return compare(ours, reference, recipe).because

    def _take(self, process: SubjectProcess, recipe: Recipe) -> Sample:
        with tempfile.TemporaryDirectory() as folder:
            path = Path(folder, "sample.npz")
            process.sample(self._count, recipe.to_toml(), path)
            with np.load(path) as arrays:
                return Sample(arrays["images"], arrays["labels"])
