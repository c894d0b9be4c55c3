"""A benchmark from its settings to its report."""

from __future__ import annotations

import math
import tempfile
from collections.abc import Callable, Iterable, Mapping, Sequence
from contextlib import ExitStack
from dataclasses import asdict, dataclass, replace
from pathlib import Path
from typing import Protocol

import numpy as np
from numpy.typing import NDArray

from dalipipe.backends import resolve_backend
from dalipipe.benchmark.agreement import Agreement, Sample, compare, compare_loosely
from dalipipe.benchmark.meter import Stretch
from dalipipe.benchmark.process import SubjectProcess
from dalipipe.benchmark.report import Benchmark, Measured, environment
from dalipipe.benchmark.subjects import CEILING, PEERS, REFERENCE, all_subjects, check_subjects, default_subjects
from dalipipe.benchmark.training import PARTS, Part, Training, train_in_turns
from dalipipe.benchmark.work import Work
from dalipipe.decisions.permutation import permutation
from dalipipe.errors import ConfigError, SourceError
from dalipipe.parity import open_images
from dalipipe.recipes import Recipe
from dalipipe.sources import FolderSource
from dalipipe.training.network.models import check_model_name

COMPARED_IMAGES = 24
_WARM_UP_BATCHES = 8
_MAX_PASSES = 10_000


@dataclass(frozen=True)
class Settings:
    """What one benchmark does.

    Attributes:
        data: Folder with a folder of images per class, or with train that holds those; None for generated pictures.
        recipe: Name or TOML file of the recipe.
        backends: What to measure, see `all_subjects`; empty for all that can run here.
        batch_size: Images in a batch.
        threads: Threads of each loader, or worker processes of those that use processes.
        repetitions: Timed stretches of each.
        seconds: Shortest duration of a timed stretch.
        images: Most different images in a pass; a larger folder is represented by so many, drawn at random.
        seed: Of the draw and of the random decisions.
        model: A network of `dalipipe.training` to time alone and fed by a loader, None for none.

    Raises:
        ConfigError: a value out of its range.
    """

    data: Path | None = None
    recipe: str = "imagenet-train"
    backends: tuple[str, ...] = ()
    batch_size: int = 64
    threads: int = 1
    repetitions: int = 5
    seconds: float = 3.0
    images: int = 1000
    seed: int = 0
    model: str | None = None

    def __post_init__(self) -> None:
        for name in ("batch_size", "threads", "repetitions", "images"):
            if (value := getattr(self, name)) < 1:
                raise ConfigError(f"--{name.replace('_', '-')}: must be at least 1, got {value}. Raise it.")
        if not 0 < self.seconds < math.inf:
            raise ConfigError(f"--seconds: must be more than 0 and finite, got {self.seconds}. The default is 3.")
        if not 0 <= self.seed < 2**64:
            raise ConfigError(f"--seed: must be 0 to 2**64 - 1, got {self.seed}. The default is 0.")
        if self.model is not None:
            check_model_name(self.model)


class Measurable(Protocol):
    """What `measure` needs of a subject's process."""

    peak_memory_mb: float

    def sample(self, count: int, recipe: str, path: Path) -> None:
        """Write the first images of the pool and their labels to an .npz."""
        ...

    def time(self, passes: int, limit_s: float | None = None) -> Stretch:
        """Time a fresh loader."""
        ...

    def build_model(self, model: str, classes: int) -> str:
        """Build a network in the process; return where it runs."""
        ...

    def train(self, part: Part, passes: int, limit_s: float) -> Stretch:
        """Time a part of training it."""
        ...

    def close(self) -> None:
        """End the process."""
        ...


Start = Callable[[str, Work, NDArray[np.int64]], Measurable]
Notify = Callable[[str, int, int], None]
"""Told before each step: what comes, how many steps are done, how many there are."""


def measure(
    settings: Settings, notify: Notify = lambda what, done, total: None, start: Start | None = None
) -> Benchmark:
    """Check that the subjects give the same pictures, then time those that do, in turns.

    Each subject runs in a process of its own, which is idle while another is measured.

    In every repetition each subject gets one stretch with a fresh loader, and the order rotates from one repetition to
    the next, so that whatever else the machine does falls on all alike.

    Args:
        settings: What to measure.
        notify: Told of the progress.
        start: Starts the process of a subject; by default `SubjectProcess`.

    Raises:
        DalipipeError: settings, folder, recipe or a subject can't be used.
    """
    start = start or SubjectProcess
    names = check_subjects(settings.backends) if settings.backends else default_subjects()
    if settings.model is not None and set(names) == {CEILING}:
        raise ConfigError(f"--model: needs a loader, got {CEILING} alone. Name another in --backends.")
    recipe = Recipe.load(settings.recipe).require_one_view("bench")
    source = open_images(settings.data)
    pool = permutation(len(source), settings.seed, 0)[: settings.images]
    work = Work(str(source.root), recipe, settings.batch_size, settings.threads, settings.seed)
    facts = environment(_gpu_name() if "dali-gpu" in names else None)
    total = 2 + len(names) * (1 + settings.repetitions)
    total += 0 if settings.model is None else len(PARTS) * (1 + settings.repetitions)
    steps = _Steps(notify, total)
    steps.next("reading the files once")
    data = {"root": str(source.root), "images": len(pool), "mean_kb": read_all(source, pool)}
    found = {name: Measured(name, all_subjects()[name], None) for name in names}
    with ExitStack() as stack:
        processes: dict[str, Measurable] = {}
        passes: dict[str, int] = {}
        for name in names:
            steps.next(f"{name}: warming up")
            processes[name] = process = start(name, work, pool)
            stack.callback(process.close)
            first, passes[name] = warm_up(process, settings, len(pool))
            found[name] = replace(found[name], warm_up=first, peak_memory_mb=process.peak_memory_mb)
        steps.next("comparing the pictures")
        if REFERENCE not in processes:
            processes[REFERENCE] = start(REFERENCE, work, pool)
            stack.callback(processes[REFERENCE].close)
        for name, agreement in _agreements(names, processes, recipe, min(COMPARED_IMAGES, len(pool))).items():
            found[name] = replace(found[name], agreement=agreement)
        ranked = [name for name in names if not found[name].refused]
        for repetition in range(settings.repetitions):
            for name in rotated(ranked, repetition):
                steps.next(f"{name}: repetition {repetition + 1} of {settings.repetitions}")
                stretch = processes[name].time(passes[name])
                found[name] = replace(found[name], rounds=(*found[name].rounds, stretch))
        training = None
        if settings.model is not None and (fed := _feeding(found.values())):
            training = _train(settings, fed, (processes[fed], passes[fed], len(source.classes)), steps)
    plain = {**asdict(settings), "data": None if settings.data is None else str(settings.data), "backends": list(names)}
    plain |= {"recipe": recipe.name, "fingerprint": recipe.fingerprint()}
    return Benchmark(plain, data, facts, tuple(found.values()), training)


class _Steps:
    """Counts the steps for `notify`."""

    def __init__(self, notify: Notify, total: int) -> None:
        self._notify, self._total, self._done = notify, total, -1

    def next(self, what: str) -> None:
        self._done += 1
        self._notify(what, self._done, self._total)


def _feeding(found: Iterable[Measured]) -> str | None:
    """Return the subject that feeds the network: what "auto" stands for, else the fastest; None where none can."""
    able = {one.name: one.img_per_s.median for one in found if one.rounds and one.name != CEILING}
    chosen = resolve_backend("auto")
    return chosen if chosen in able else max(able, key=lambda name: able[name], default=None)


def _train(settings: Settings, name: str, subject: tuple[Measurable, int, int], steps: _Steps) -> Training:
    """Time a network alone, its loader alone, and both.

    Args:
        settings: What to measure.
        name: The loader.
        subject: The loader's process, the passes of a stretch, and the number of classes.
        steps: Told of the progress.
    """
    assert settings.model is not None
    model, (process, passes, classes) = settings.model, subject
    device = process.build_model(model, classes)
    rounds = train_in_turns(
        lambda part, seconds: process.train(part, passes, seconds),
        settings.repetitions,
        settings.seconds,
        lambda what: steps.next(f"{model} with {name}, {what}"),
    )
    return Training(model, device, name, rounds)


def rotated(names: Sequence[str], by: int) -> list[str]:
    """Return the names with the first `by` moved to the end."""
    by %= max(1, len(names))
    return [*names[by:], *names[:by]]


def read_all(source: FolderSource, pool: NDArray[np.int64]) -> float:
    """Read every file once, so that all subjects find it in memory; return their mean size in KB (1,000 bytes)."""
    size = 0
    for index in pool.tolist():
        path = source.item(index)
        try:
            with open(path, "rb") as file:  # noqa: PTH123 (a path may hold bytes that are not UTF-8)
                size += len(file.read())
        except OSError as error:
            raise SourceError(
                f"file {path!r}: must be readable, got {error.strerror}. Remove it or correct its permissions."
            ) from error
    return size / len(pool) / 1000


def _gpu_name() -> str:
    import torch

    return torch.cuda.get_device_name()


def warm_up(process: Measurable, settings: Settings, pool: int) -> tuple[Stretch, int]:
    """Run a subject untimed; return that stretch and how many passes a timed one takes."""
    enough = min(_MAX_PASSES, math.ceil(_WARM_UP_BATCHES * settings.batch_size / pool))
    warm_up = process.time(enough, limit_s=settings.seconds)
    passes = math.ceil(settings.seconds * warm_up.steady_img_per_s / pool)
    return warm_up, min(max(passes, 1), _MAX_PASSES)


def _agreements(
    names: Sequence[str], processes: Mapping[str, Measurable], recipe: Recipe, count: int
) -> dict[str, Agreement]:
    """Hold the first images of every subject against the reference's.

    A backend of dalipipe takes the reference's decisions, so its pixels are compared through the recipe itself. The
    others take their own: their pixels are compared through the evaluation twin, which decides nothing at random, and
    through the recipe only what does not depend on the decisions.
    """
    twin = recipe.eval_twin()
    with tempfile.TemporaryDirectory(prefix="dalipipe-bench-") as folder:

        def take(name: str, through: Recipe) -> Sample:
            return _sample(processes[name], count, through, Path(folder) / "sample.npz")

        reference, reference_twin = take(REFERENCE, recipe), take(REFERENCE, twin)
        found = {}
        for name in names:
            if name in PEERS:
                found[name] = compare(take(name, twin), reference_twin, twin)
                if found[name].ok and (problem := compare_loosely(take(name, recipe), reference, recipe)):
                    found[name] = replace(found[name], ok=False, because=problem)
            elif name != CEILING:
                found[name] = compare(take(name, recipe), reference, recipe)
        return found


def _sample(process: Measurable, count: int, recipe: Recipe, path: Path) -> Sample:
    process.sample(count, recipe.to_toml(), path)
    with np.load(path) as arrays:
        return Sample(arrays["images"], arrays["labels"])
