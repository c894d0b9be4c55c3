"""All of a run that changes while it trains, in one place."""

from __future__ import annotations

from collections.abc import Callable
from contextlib import AbstractContextManager
from dataclasses import asdict
from typing import Any, Final

import torch
from torch import Tensor, nn

from dalipipe.errors import DalipipeError, StateError, shown
from dalipipe.loading import BatchMix, CutMix, DataLoader, MixUp, RandomChoice
from dalipipe.training.config import TrainConfig
from dalipipe.training.measures.metrics import EpochMetrics, Tally
from dalipipe.training.network.blocks import Blocks, Freezing
from dalipipe.training.network.models import fill, head_names
from dalipipe.training.network.optim import make_average, make_optimizer, make_schedule
from dalipipe.training.run.processes import Processes
from dalipipe.training.run.stopping import Stopper

ALONE: Final = Processes()
_DTYPES = {"fp32": torch.float32, "bf16": torch.bfloat16, "fp16": torch.float16}


class TrainState:
    """The network, what teaches it, and how far the run has come.

    Args:
        cfg: Every option.
        model: The network, on its device.
        loader: Of the training images.
        class_weights: (classes,) float32, how much each class weighs in the loss; None for all the same.
        val: Loader of the validation images, whose bad files are remembered.
        processes: That train together.

    Attributes:
        model: The network itself; `forward` is what is called in training, compiled where that was asked for.
        loader: Of the training images; its place in the epoch is part of the state.
        optimizer, schedule, scaler, ema, freezing, stopper: What their names say; `ema` may be None.
        epoch: Epochs done.
        batch: Batches done of the epoch that runs.
        pending: Batches whose gradients have not moved the weights yet.
        is_trained: Whether these are all; what is left of the epoch is its validation.
        tally: Loss and accuracy of these.
        history: What came out of the epochs done.
    """

    def __init__(
        self,
        cfg: TrainConfig,
        model: nn.Module,
        loader: DataLoader,
        class_weights: Tensor | None = None,
        val: DataLoader | None = None,
        processes: Processes = ALONE,
    ) -> None:
        self.cfg, self.loader, self.val, self.processes = cfg, loader, val, processes
        self.model = processes.synchronised(model)
        model = self.model
        self.device = next(model.parameters()).device
        blocks = Blocks.of(model, head_names(model))
        self.freezing = Freezing(model, blocks, cfg)
        self.optimizer = make_optimizer(model, blocks, cfg)
        self.schedule = make_schedule(self.optimizer, cfg, -(-len(loader) // cfg.accumulate))
        self.scaler = torch.amp.GradScaler(self.device.type, enabled=cfg.precision == "fp16")
        self.ema = make_average(model, cfg.ema) if cfg.ema else None
        self.stopper = Stopper(cfg.monitor, cfg.patience_for(len(loader.source)), cfg.min_delta)
        self.weights = None if class_weights is None else class_weights.to(self.device)
        self.criterion = nn.CrossEntropyLoss(self.weights, label_smoothing=cfg.label_smoothing)
        self.mix = make_mix(cfg, len(loader.source.classes))
        self.epoch, self.batch, self.pending, self.is_trained, self.tally = 0, 0, 0, False, Tally()
        self.history: list[EpochMetrics] = []
        self.forward: Callable[[Tensor], Tensor] = model
        self.wrap()

    @property
    def network(self) -> nn.Module:
        """The network to validate and to keep: the moving average, where there is one."""
        return self.model if self.ema is None else self.ema.module

    def wrap(self) -> None:
        """Make `forward` of the model; anew whenever other parameters are trained."""
        self.wrapped = self.processes.wrapped(self.model)
        self.forward = torch.compile(self.wrapped) if self.cfg.compile else self.wrapped

    def weight_of(self, labels: Tensor) -> float:
        """Return how much a batch counts in the mean loss of several."""
        return float(len(labels)) if self.weights is None else float(self.weights[labels].sum())

    def autocast(self) -> AbstractContextManager[Any]:
        """Return the context in which the network computes."""
        precision = self.cfg.precision
        return torch.autocast(self.device.type, _DTYPES[precision], enabled=precision != "fp32")

    def begin_epoch(self) -> None:
        """Get ready for the next epoch, or for what is left of one that was broken off."""
        if self.freezing.begin_epoch(self.epoch + 1):
            self.wrap()
        if self.batch == 0:
            self.loader.set_epoch(self.epoch)  # loaders count from 0
            self.tally = Tally()
        self.freezing.train_mode()

    def end_epoch(self, metrics: EpochMetrics) -> bool:
        """Count the epoch as done, and return whether it is the best so far."""
        self.history.append(metrics)
        self.epoch, self.batch, self.is_trained = self.epoch + 1, 0, False
        return self.stopper.update(metrics)

    @property
    def last_lr(self) -> float:
        """The learning rate of the head in the last step that was made."""
        rate = self.schedule.lr_lambdas[0]
        return float(self.schedule.base_lrs[0] * rate(max(0, self.schedule.last_epoch - 1)))

    @property
    def has_moved(self) -> bool:
        """Whether no gradients wait for those of further batches."""
        return self.pending == 0

    @property
    def place(self) -> tuple[int, int, bool]:
        """How far the run has come: epochs done, batches done of the next, whether these are all."""
        return self.epoch, self.batch, self.is_trained

    @property
    def where(self) -> str:
        """What comes next, for people."""
        if self.finished:
            return "the last evaluation"
        if self.is_trained or self.batch == len(self.loader):
            return f"epoch {self.epoch + 1}, validation"
        return f"epoch {self.epoch + 1}, batch {self.batch + 1}"

    @property
    def finished(self) -> bool:
        """Whether all epochs are done, or the run has stopped early."""
        return self.epoch >= self.cfg.epochs or self.stopper.stopped

    def share_bad_files(self) -> None:
        """Tell every process of the files that others could not use."""
        for loader in (self.loader, self.val):
            if loader is not None and self.processes.size > 1:
                for files in self.processes.gathered(loader.bad_files):
                    loader.add_bad_files(files)

    def state_dict(self) -> dict[str, Any]:
        """Return everything that changes: tensors, numbers and text, so that torch.load needs no code to read it.

        All processes must call it: the random states of all of them are in it.
        """
        self.share_bad_files()
        is_cuda = self.device.type == "cuda"
        return {
            "epoch": self.epoch,
            "batch": self.batch,
            "is_trained": self.is_trained,
            "tally": asdict(self.tally),
            "history": [asdict(metrics) for metrics in self.history],
            "model": self.model.state_dict(),
            "ema": None if self.ema is None else self.ema.state_dict(),
            "optimizer": self.optimizer.state_dict(),
            "schedule": self.schedule.state_dict(),
            "scaler": self.scaler.state_dict(),
            "stopper": self.stopper.state_dict(),
            "loader": self.loader.state_dict(),
            "bad_val": [] if self.val is None else self.val.state_dict()["bad"],
            "rng": self.processes.gathered(torch.get_rng_state()),
            "cuda_rng": self.processes.gathered(torch.cuda.get_rng_state(self.device)) if is_cuda else [],
        }

    def load_state_dict(self, state: dict[str, Any]) -> None:
        """Go on where `state_dict` was taken, with the same configuration.

        Raises:
            StateError: the loader's state is of other data or another recipe, or the state is none that a run saved.
        """
        try:
            self._load(state)
        except DalipipeError:
            raise
        except (AttributeError, IndexError, KeyError, RuntimeError, TypeError, ValueError) as error:
            raise StateError(
                f"checkpoint of the run: must hold what this network's run saved, got {type(error).__name__}: "
                f"{shown(str(error))}. Remove it, so that the one before is used, or begin in another output."
            ) from error

    def _load(self, state: dict[str, Any]) -> None:
        self.loader.load_state_dict(state["loader"])
        self.epoch, self.batch, self.is_trained = state["epoch"], state["batch"], state["is_trained"]
        self.tally = Tally(**state["tally"])
        self.history = [EpochMetrics(**metrics) for metrics in state["history"]]
        fill(self.model, state["model"])
        if self.ema is not None:
            fill(self.ema, state["ema"])
        self.optimizer.load_state_dict(state["optimizer"])
        self.schedule.load_state_dict(state["schedule"])
        self.scaler.load_state_dict(state["scaler"])
        self.stopper.load_state_dict(state["stopper"])
        if self.val is not None:
            self.val.load_bad_files(state["bad_val"])
        if len(state["rng"]) != self.processes.size:  # other processes than these: they draw anew
            self.processes.seed(self.cfg.seed + 1 + self.epoch)
            return
        torch.set_rng_state(state["rng"][self.processes.rank])
        if state["cuda_rng"] and self.device.type == "cuda":
            torch.cuda.set_rng_state(state["cuda_rng"][self.processes.rank], self.device)


def make_mix(cfg: TrainConfig, classes: int) -> BatchMix | None:
    """Return what mixes the images of a batch, None for nothing."""
    mixes: list[BatchMix] = []
    if cfg.mixup:
        mixes.append(MixUp(alpha=cfg.mixup, num_classes=classes, seed=cfg.seed))
    if cfg.cutmix:
        mixes.append(CutMix(alpha=cfg.cutmix, num_classes=classes, seed=cfg.seed))
    return RandomChoice(mixes, seed=cfg.seed) if len(mixes) == 2 else next(iter(mixes), None)
