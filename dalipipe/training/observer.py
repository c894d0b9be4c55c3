"""How a run tells the outside how it goes: the loop prints nothing itself. Importing this doesn't import torch."""

from __future__ import annotations

import logging
from dataclasses import dataclass
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from pathlib import Path

    from dalipipe.recipes import Recipe
    from dalipipe.training.config import TrainConfig
    from dalipipe.training.measures.metrics import EpochMetrics
    from dalipipe.training.network.weights import WeightsReport


@dataclass(frozen=True)
class RunInfo:
    """What a run turned out to be, once data, loaders and network are there."""

    cfg: TrainConfig
    root: Path
    classes: tuple[str, ...]
    train_images: int
    val_images: int
    recipe: Recipe
    eval_recipe: Recipe
    backend: str
    device: str
    weights: WeightsReport
    patience: int = 0
    recipe_words: str = ""


@dataclass(frozen=True)
class BatchProgress:
    """Where an epoch stands after `batch` of `batches` training steps; the rest is over the epoch so far."""

    epoch: int
    batch: int
    batches: int
    loss: float
    img_per_s: float
    data_wait_fraction: float


class Observer:
    """Watches a run. The methods do nothing here but for `warning`; override what you need."""

    def preparing(self, what: str) -> None:
        """Tell that something begins that may take a while."""

    def fold(self, number: int, folds: int) -> None:
        """Tell that the run of a fold, counted from 1, begins."""

    def warning(self, message: str) -> None:
        """Tell of something that does not end the run, but that one should know. This one is logged by default."""
        logging.getLogger("dalipipe").warning(message)

    def finished(self, output: Path) -> None:
        """Tell that the run to go on with is finished already, or that of a fold."""

    def resumed(self, where: str) -> None:
        """Tell that the run goes on with "epoch 3, batch 17", say; it is told of before `started`."""

    def started(self, info: RunInfo) -> None:
        """Tell that everything is ready; the first batch comes next."""

    def batch(self, step: BatchProgress) -> None:
        """Tell that a training step is done."""

    def validating(self, epoch: int) -> None:
        """Tell that the training steps of an epoch are done and its validation begins."""

    def epoch(self, metrics: EpochMetrics, best: bool) -> None:
        """Tell that an epoch is done and written down, and whether it is the best so far."""
