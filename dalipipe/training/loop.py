"""The training loop: what `dalipipe train` does, from the configuration to the files it leaves behind."""

import math
import platform
import time
from dataclasses import asdict
from importlib.metadata import version
from typing import Any, Final

import torch
from torch import nn
from torch.nn.functional import cross_entropy
from torch.optim import SGD, Optimizer
from torch.optim.lr_scheduler import CosineAnnealingLR, LRScheduler

from dalipipe import __version__
from dalipipe.errors import DivergedError
from dalipipe.training.checkpoint import Checkpoint
from dalipipe.training.config import TrainConfig
from dalipipe.training.data import Data, open_data
from dalipipe.training.metrics import Batches, EpochMetrics, Meter, Tally
from dalipipe.training.models import WeightsReport, build_model, check_images, resolve_device
from dalipipe.training.observer import Observer, RunInfo, Step
from dalipipe.training.record import RunRecord

_PACKAGES: Final = ("torch", "torchvision", "nvidia-dali-cuda120", "numpy")


def train(cfg: TrainConfig, observer: Observer | None = None) -> dict[str, Any]:
    """Train a network as the configuration says, and return what summary.json holds.

    Seeds torch's global generator with `cfg.seed`.

    Args:
        cfg: Every option.
        observer: Is told how the run goes.

    Raises:
        DalipipeError: something in the configuration, the data or the weights can't work, which nearly always is found
            before the first image is read.
        DivergedError: the loss is no longer a finite number.
    """
    began = time.monotonic()
    observer = observer or Observer()
    device = resolve_device(cfg.device)
    with open_data(cfg, device.index or 0, observer) as data:
        check_images(cfg.model, data.smallest_batch, data.train.recipe.output_shape, training=True)
        check_images(cfg.model, 1, data.val.recipe.output_shape, training=False)
        observer.preparing(f"{cfg.model}, weights: {cfg.weights}")
        torch.manual_seed(cfg.seed)
        model, weights = build_model(cfg.model, data.classes, cfg.weights)
        model.to(device)
        record = RunRecord(cfg.output)  # not before, so that an attempt without weights leaves no empty directory
        optimizer = SGD(model.parameters(), cfg.lr, momentum=cfg.momentum, weight_decay=cfg.weight_decay)
        schedule = CosineAnnealingLR(optimizer, T_max=cfg.epochs * len(data.train))
        info = describe(cfg, data, device, weights)
        observer.started(info)

        for epoch in range(1, cfg.epochs + 1):
            data.train.set_epoch(epoch - 1)  # loaders count from 0
            trained, meter = train_epoch(epoch, model, data.train, optimizer, schedule, observer)
            observer.validating(epoch)
            validated = evaluate(epoch, model, data.val)
            metrics = EpochMetrics(
                epoch=epoch,
                train_loss=trained.loss,
                train_acc=trained.accuracy,
                val_loss=validated.loss,
                val_acc=validated.accuracy,
                img_per_s=meter.img_per_s,
                data_wait_fraction=meter.data_wait_fraction,
            )
            record.add(metrics, snapshot(info, model, metrics))
            observer.epoch(metrics, best=record.best is metrics)

        summary = summarise(info, record, time.monotonic() - began)
        record.finish(summary)
    return summary


def train_epoch(
    epoch: int, model: nn.Module, batches: Batches, optimizer: Optimizer, schedule: LRScheduler, observer: Observer
) -> tuple[Tally, Meter]:
    """Take one step per batch.

    Args:
        epoch: Its number, from 1.
        model: On the device where it is to be trained.
        batches: Of images and labels, on any device.
        optimizer: Of the model's parameters.
        schedule: Of the optimizer's learning rate; goes on by one with each batch.
        observer: Is told of each step.

    Returns:
        Loss and accuracy of the images, each as the network was when it saw it, and how fast it went.

    Raises:
        DivergedError: the loss of a batch is not finite.
    """
    device = next(model.parameters()).device
    tally, meter = Tally(), Meter()
    model.train()
    for number, (images, labels) in enumerate(meter.watch(batches), 1):
        images, labels = images.to(device, non_blocking=True), labels.to(device, non_blocking=True)
        optimizer.zero_grad()
        logits = model(images)
        loss = cross_entropy(logits, labels)
        loss.backward()
        optimizer.step()
        schedule.step()
        tally.add(loss.item(), logits, labels)  # item() waits for the device, so the step's time counts as its own
        _check_finite(f"epoch {epoch}, batch {number}", tally.loss)
        observer.batch(Step(epoch, number, len(batches), tally.loss, meter.img_per_s, meter.data_wait_fraction))
    return tally, meter


@torch.inference_mode()
def evaluate(epoch: int, model: nn.Module, batches: Batches) -> Tally:
    """Return the loss and accuracy of the model, in evaluation mode, on all images of the batches.

    Raises:
        DivergedError: the loss is not finite.
    """
    device = next(model.parameters()).device
    tally = Tally()
    model.eval()
    for images, labels in batches:
        images, labels = images.to(device, non_blocking=True), labels.to(device, non_blocking=True)
        logits = model(images)
        tally.add(cross_entropy(logits, labels).item(), logits, labels)
    _check_finite(f"epoch {epoch}, validation", tally.loss)
    return tally


def _check_finite(where: str, loss: float) -> None:
    if not math.isfinite(loss):
        raise DivergedError(
            f"{where}: the loss must be a finite number, got {loss}. Lower --lr; the checkpoints before it are kept."
        )


def describe(cfg: TrainConfig, data: Data, device: torch.device, weights: WeightsReport) -> RunInfo:
    """Return what the run turned out to be."""
    return RunInfo(
        cfg=cfg,
        root=data.root,
        classes=data.classes,
        train_images=len(data.train.source),
        val_images=len(data.val.source),
        recipe=data.train.recipe,
        eval_recipe=data.val.recipe,
        backend=data.train.backend,
        device=str(device),
        weights=weights,
    )


def snapshot(info: RunInfo, model: nn.Module, metrics: EpochMetrics) -> Checkpoint:
    """Return the model as it is now, with what is needed to use it."""
    return Checkpoint(
        model=info.cfg.model,
        classes=info.classes,
        recipe=info.recipe.to_toml(),
        eval_recipe=info.eval_recipe.to_toml(),
        state_dict=model.state_dict(),
        epoch=metrics.epoch,
        metrics=asdict(metrics),
    )


def summarise(info: RunInfo, record: RunRecord, duration_s: float) -> dict[str, Any]:
    """Return what summary.json says of a finished run."""
    assert record.best is not None and record.last is not None
    return {
        "best": asdict(record.best),
        "last": asdict(record.last),
        "duration_s": round(duration_s, 3),
        "config": info.cfg.plain(),
        "data": str(info.root),
        "classes": list(info.classes),
        "train_images": info.train_images,
        "val_images": info.val_images,
        "recipe": {"name": info.recipe.name, "fingerprint": info.recipe.fingerprint()},
        "eval_recipe": {"name": info.eval_recipe.name, "fingerprint": info.eval_recipe.fingerprint()},
        "backend": info.backend,
        "device": info.device,
        "weights": {"from": info.weights.origin, "loaded": info.weights.loaded, "fresh": len(info.weights.fresh)},
        "versions": {"dalipipe": __version__, **{name: version(name) for name in _PACKAGES}},
        "python": platform.python_version(),
        "platform": platform.platform(),
    }
