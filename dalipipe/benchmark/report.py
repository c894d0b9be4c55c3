"""What a benchmark found, as values and as JSON."""

from __future__ import annotations

import datetime
import os
import platform
from dataclasses import asdict, dataclass
from importlib import metadata
from pathlib import Path
from typing import Any

from dalipipe import __version__
from dalipipe.benchmark.agreement import Agreement
from dalipipe.benchmark.meter import Spread, Stretch
from dalipipe.benchmark.subjects import BASELINE
from dalipipe.benchmark.training import Training

SCHEMA = 1
_LIBRARIES = ("torch", "torchvision", "nvidia-dali-cuda120", "numba", "numpy", "pillow")


@dataclass(frozen=True)
class Measured:
    """What was found about one subject.

    Attributes:
        name: Which subject.
        about: A phrase about it.
        agreement: How its pixels compare with the reference's; None for one that makes no pictures.
        warm_up: The untimed pass before; its first batch is the one after a cold start.
        rounds: The timed stretches, one for each repetition; none where the subject may not be ranked.
        peak_memory_mb: Most main memory of its process and children in the warm-up, in 10**6 bytes.
    """

    name: str
    about: str
    agreement: Agreement | None
    warm_up: Stretch | None = None
    rounds: tuple[Stretch, ...] = ()
    peak_memory_mb: float = 0.0

    @property
    def refused(self) -> bool:
        """Whether it was not timed, since its pictures are not what the recipe means."""
        return self.agreement is not None and not self.agreement.ok

    @property
    def img_per_s(self) -> Spread:
        """Images per second over the rounds."""
        return Spread.of([stretch.img_per_s for stretch in self.rounds])

    @property
    def cpu_s_per_1000(self) -> Spread:
        """CPU seconds for 1,000 images over the rounds."""
        return Spread.of([stretch.cpu_s_per_1000 for stretch in self.rounds])

    @property
    def first_batch_s(self) -> Spread:
        """Seconds to the first batch over the rounds."""
        return Spread.of([stretch.first_batch_s for stretch in self.rounds])


@dataclass(frozen=True)
class Benchmark:
    """What was measured, on what, and what was found.

    Attributes:
        settings: The settings of the run, plain.
        data: Folder, number of images in a pass, their mean size in KB.
        environment: See `environment`.
        subjects: In the order asked for.
        training: A network beside its loader, where that was asked for.
    """

    settings: dict[str, Any]
    data: dict[str, Any]
    environment: dict[str, Any]
    subjects: tuple[Measured, ...]
    training: Training | None = None

    def ratio(self, subject: Measured, baseline: str = BASELINE) -> Spread | None:
        """Return how many times as fast as the baseline, round by round; None where either was not timed."""
        base = next((one for one in self.subjects if one.name == baseline), None)
        if base is None or not base.rounds or not subject.rounds:
            return None
        pairs = zip(subject.rounds, base.rounds, strict=True)
        return Spread.of([one.img_per_s / other.img_per_s for one, other in pairs])

    @property
    def ranking(self) -> list[Measured]:
        """The subjects that were timed, the fastest first."""
        return sorted((one for one in self.subjects if one.rounds), key=lambda one: -one.img_per_s.median)

    @property
    def refused(self) -> list[Measured]:
        """The subjects whose pictures are not what the recipe means."""
        return [one for one in self.subjects if one.refused]

    @property
    def largest_spread(self) -> float:
        """The largest relative spread of images per second of any subject."""
        return max((one.img_per_s.relative for one in self.subjects if one.rounds), default=0.0)

    def plain(self) -> dict[str, Any]:
        """Return everything as it goes into JSON."""
        head = {"schema": SCHEMA, "settings": self.settings, "data": self.data, "environment": self.environment}
        if self.training is not None:
            head["training"] = self.training.plain()
        return {**head, "subjects": [self._plain_subject(one) for one in self.subjects]}

    def _plain_subject(self, one: Measured) -> dict[str, Any]:
        plain: dict[str, Any] = {"name": one.name, "about": one.about, "ranked": bool(one.rounds)}
        if one.agreement is not None:
            gaps = asdict(one.agreement)
            # JSON has no infinity: where nothing could be compared there is no number.
            plain["agreement"] = {key: None if value == float("inf") else value for key, value in gaps.items()}
        if not one.rounds:
            return plain
        ratio = self.ratio(one)
        return plain | {
            "img_per_s": asdict(one.img_per_s),
            f"ratio_to_{BASELINE}": None if ratio is None else asdict(ratio),
            "cpu_s_per_1000": asdict(one.cpu_s_per_1000),
            "first_batch_s": asdict(one.first_batch_s),
            "cold_first_batch_s": None if one.warm_up is None else one.warm_up.first_batch_s,
            "peak_memory_mb": one.peak_memory_mb,
            "rounds": [{**asdict(stretch), "img_per_s": stretch.img_per_s} for stretch in one.rounds],
        }


def environment(gpu: str | None) -> dict[str, Any]:
    """Return what the figures depend on: machine, versions, date and how busy the machine is.

    Args:
        gpu: Name of the CUDA device, None where there is none.
    """
    return {
        "date": datetime.datetime.now(datetime.UTC).isoformat(timespec="seconds"),
        "cpu": cpu_model(),
        "cpus": len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count(),
        "gpu": gpu,
        "system": f"{platform.system()} {platform.release()}",
        "load_1min": round(os.getloadavg()[0], 2),
        "versions": {"dalipipe": __version__, "python": platform.python_version(), **_versions()},
    }


def _versions() -> dict[str, str]:
    found = {}
    for name in _LIBRARIES:
        try:
            found[name] = metadata.version(name)
        except metadata.PackageNotFoundError:  # a CUDA build has another name
            continue
    return found


def cpu_model(cpuinfo: Path = Path("/proc/cpuinfo")) -> str:
    """Return the CPU's name."""
    try:
        lines = cpuinfo.read_text(encoding="utf-8").splitlines()
    except OSError:
        lines = []
    names = (line.partition(":")[2].strip() for line in lines if line.startswith("model name"))
    return next(names, "") or platform.processor() or platform.machine()
