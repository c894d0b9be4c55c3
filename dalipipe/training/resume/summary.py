"""summary.json: what a run was, where it ran, and what came out of it."""

import platform
from collections.abc import Mapping, Sequence
from contextlib import suppress
from dataclasses import asdict
from importlib.metadata import PackageNotFoundError, version
from typing import Any, Final

from dalipipe import __version__
from dalipipe.loading import BadFile
from dalipipe.training.measures.evaluation import Evaluation
from dalipipe.training.measures.metrics import EpochMetrics
from dalipipe.training.observer import RunInfo

_PACKAGES: Final = ("torch", "torchvision", "nvidia-dali-cuda120", "numpy")


def versions() -> dict[str, str]:
    """Return the versions of the packages that decide what a run comes to; of those that are installed."""
    found = {"dalipipe": __version__}
    for name in _PACKAGES:
        with suppress(PackageNotFoundError):
            found[name] = version(name)
    return found


def summarise(
    info: RunInfo,
    epochs: tuple[EpochMetrics, EpochMetrics],
    evaluation: Evaluation,
    duration_s: float,
    bad_files: Mapping[str, Sequence[BadFile]],
) -> dict[str, Any]:
    """Return what summary.json says of a finished run.

    Args:
        info: What the run turned out to be.
        epochs: The best and the last.
        evaluation: Of the best epoch's network.
        duration_s: From the first moment to the last, in seconds.
        bad_files: Those of each part that could not be used.
    """
    best, last = epochs
    return {
        "best": best.measures(),
        "last": last.measures(),
        "stopped_early": last.epoch < info.cfg.epochs,
        "evaluation": evaluation.plain(),
        "duration_s": round(duration_s, 3),
        "timing": {"best": best.timing(), "last": last.timing()},
        "config": info.cfg.plain(absolute=True),
        "patience": info.patience,
        "data": str(info.root),
        "classes": list(info.classes),
        "train_images": info.train_images,
        "val_images": info.val_images,
        "recipe": {"name": info.recipe.name, "fingerprint": info.recipe.fingerprint()},
        "eval_recipe": {"name": info.eval_recipe.name, "fingerprint": info.eval_recipe.fingerprint()},
        "backend": info.backend,
        "device": info.device,
        "weights": {
            "from": info.weights.origin,
            "loaded": info.weights.loaded,
            "fresh": len(info.weights.fresh),
            "skipped": len(info.weights.skipped),
            "prefix": info.weights.prefix,
        },
        "versions": versions(),
        "bad_files": {part: [asdict(file) for file in files] for part, files in bad_files.items()},
        "python": platform.python_version(),
        "platform": platform.platform(),
    }
