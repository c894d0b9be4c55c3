"""TensorBoard events of a run: a curve for every measure, a point for every epoch."""

from __future__ import annotations

import importlib.util
from dataclasses import asdict
from pathlib import Path
from typing import TYPE_CHECKING, Final

from dalipipe.errors import ConfigError

if TYPE_CHECKING:
    from dalipipe.training.measures.metrics import EpochMetrics

DIRECTORY: Final = "tensorboard"

_PARTS: Final = {"train": "training", "val": "validation"}


def require_tensorboard() -> None:
    """Refuse to begin a run whose events can't be written.

    Raises:
        ConfigError: tensorboard is not installed.
    """
    if importlib.util.find_spec("tensorboard") is None:
        raise ConfigError(
            "--tensorboard: needs tensorboard, got an environment without it. "
            'Run: pip install "dalipipe[tensorboard]", or leave the option out.'
        )


def write_events(output: Path, metrics: EpochMetrics) -> None:
    """Add an epoch's measures to OUTPUT/tensorboard, as `loss/training`, `loss/validation`, `lr` and so on.

    Each epoch has a file of its own there, so that none is ever half written; TensorBoard reads them as one run.

    Args:
        output: Directory of the run.
        metrics: Of the epoch.
    """
    from torch.utils.tensorboard import SummaryWriter

    with SummaryWriter(str(output / DIRECTORY)) as writer:
        for name, value in asdict(metrics).items():
            part, _, measure = name.partition("_")
            if name != "epoch":
                writer.add_scalar(f"{measure}/{_PARTS[part]}" if part in _PARTS else name, value, metrics.epoch)
