"""The training loop: what `dalipipe train` does, from the configuration to the files it leaves behind."""

import os
import time
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import asdict
from typing import Any

import torch
from torch import Tensor

from dalipipe.errors import ConfigError
from dalipipe.training.checkpoint import Checkpoint, load_checkpoint
from dalipipe.training.config import TrainConfig
from dalipipe.training.data import Data, open_data
from dalipipe.training.evaluation import Evaluation, evaluate
from dalipipe.training.events import require_tensorboard, write_events
from dalipipe.training.folds import train_folds
from dalipipe.training.metrics import EpochMetrics, Meter
from dalipipe.training.models import check_images, create_model, resolve_device
from dalipipe.training.observer import Observer, RunInfo, Step
from dalipipe.training.problems import check_finite, memory_explained
from dalipipe.training.record import BEST, RunRecord
from dalipipe.training.report import Outcome, write_report
from dalipipe.training.state import TrainState
from dalipipe.training.summary import summarise
from dalipipe.training.weights import load_weights


def train(cfg: TrainConfig, observer: Observer | None = None) -> dict[str, Any]:
    """Train a network as the configuration says, and return what summary.json holds.

    Seeds torch's global generator with `cfg.seed`. With `cfg.folds` this is done for each of them: see `train_folds`.

    Args:
        cfg: Every option.
        observer: Is told how the run goes.

    Raises:
        DalipipeError: something in the configuration, the data or the weights can't work, which nearly always is found
            before the first image is read.
        DivergedError: the loss is no longer a finite number.
        ResourceError: memory does not suffice.
    """
    observer = observer or Observer()
    with _determinism(cfg.deterministic):
        if cfg.folds is not None:
            return train_folds(cfg, observer, train_once)
        return train_once(cfg, observer)


def train_once(cfg: TrainConfig, observer: Observer, fold: int | None = None) -> dict[str, Any]:
    """Train one network and return what summary.json holds; see `train`.

    Args:
        cfg: Every option.
        observer: Is told how the run goes.
        fold: Which of `cfg.folds`, from 0, validates; None for the usual division.
    """
    began = time.monotonic()
    device = resolve_device(cfg.device)
    if cfg.precision == "fp16" and device.type != "cuda":
        raise ConfigError(f"--precision: fp16 needs a CUDA device, got {device}. Use bf16.")
    if cfg.tensorboard:
        require_tensorboard()
    with open_data(cfg, device.index or 0, observer, fold) as data:
        state, info = prepare(cfg, data, device, observer)
        record = RunRecord(cfg.output)  # not before, so that an attempt without weights leaves no empty directory
        if fold is None:
            record.begin(cfg.to_toml())
        observer.started(info)
        while not state.finished:
            metrics = run_epoch(state, data, observer)
            best = state.stopper.update(metrics)
            state.end_epoch()
            record.add(metrics, snapshot(info, state, metrics), best=best)
            observer.epoch(metrics, best)
            if cfg.tensorboard:
                write_events(cfg.output, metrics)
        return conclude(state, data, info, record, time.monotonic() - began)


def prepare(cfg: TrainConfig, data: Data, device: torch.device, observer: Observer) -> tuple[TrainState, RunInfo]:
    """Return the state of a run at its beginning, and what the run turned out to be.

    Raises:
        DalipipeError: network, weights and images don't go together.
    """
    observer.preparing(f"{cfg.model}, weights: {cfg.weights}")
    torch.manual_seed(cfg.seed)
    model = create_model(cfg.model, len(data.classes), cfg.head, cfg.dropout)
    check_images(cfg.model, model, data.smallest_batch, data.train.recipe.output_shape, training=True)
    check_images(cfg.model, model, 1, data.val.recipe.output_shape, training=False)
    weights = load_weights(model, cfg.model, data.classes, cfg.weights)
    with memory_explained(cfg.model, cfg):
        model.to(device)
        if cfg.channels_last:
            model.to(memory_format=torch.channels_last)
        state = TrainState(cfg, model, data.train, data.class_weights)
    info = RunInfo(
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
        patience=state.stopper.patience,
    )
    return state, info


def run_epoch(state: TrainState, data: Data, observer: Observer) -> EpochMetrics:
    """Train for an epoch, or for what is left of it, validate, and return what came out."""
    state.begin_epoch()
    meter = train_epoch(state, observer)
    number = state.epoch + 1
    observer.validating(number)
    with memory_explained(f"epoch {number}, validation", state.cfg):
        validated = validate(state, data)
    check_finite(f"epoch {number}, validation", validated.loss)
    return EpochMetrics(
        epoch=number,
        train_loss=state.tally.loss,
        train_acc=state.tally.accuracy,
        **{f"val_{name}": value for name, value in validated.scores().items()},
        lr=state.optimizer.param_groups[0]["lr"],
        img_per_s=meter.img_per_s,
        data_wait_fraction=meter.data_wait_fraction,
    )


def train_epoch(state: TrainState, observer: Observer) -> Meter:
    """Learn from each batch of the epoch that is left, and return how fast that went.

    Raises:
        DivergedError: the loss of a batch is not finite.
        ResourceError: memory does not suffice.
    """
    meter, number, batches = Meter(), state.epoch + 1, len(state.loader)
    for images, labels in meter.watch(state.loader):
        where = f"epoch {number}, batch {state.batch + 1}"
        with memory_explained(where, state.cfg):
            learn(state, images, labels, where)
        wait = meter.data_wait_fraction
        observer.batch(Step(number, state.batch, batches, state.tally.loss, meter.img_per_s, wait))
    return meter


def learn(state: TrainState, images: Tensor, labels: Tensor, where: str) -> None:
    """Learn from one batch; every `cfg.accumulate` batches, and at the end of the epoch, the weights move.

    Raises:
        DivergedError: the loss is not finite; the weights are as they were.
    """
    images = images.to(state.device, non_blocking=True)
    labels = labels.to(state.device, non_blocking=True)
    targets = labels
    if state.mix is not None:
        images, targets = state.mix(images, labels, epoch=state.epoch, batch=state.batch)
    with state.autocast():
        logits = state.forward(images)
        loss = state.criterion(logits, targets)
    value = loss.item()  # waits for the device, so that the step's time counts as its own
    check_finite(where, value, state.loader)
    first = state.batch - state.batch % state.cfg.accumulate
    group = min(state.cfg.accumulate, len(state.loader) - first)
    state.scaler.scale(loss / group).backward()
    state.tally.add(value, logits, labels)
    state.batch += 1
    if state.batch == first + group:
        move(state)


def move(state: TrainState) -> None:
    """Move the weights along the gradients gathered, and what follows the weights."""
    if state.cfg.clip_norm is not None:
        state.scaler.unscale_(state.optimizer)
        torch.nn.utils.clip_grad_norm_(state.model.parameters(), state.cfg.clip_norm)
    state.scaler.step(state.optimizer)
    state.scaler.update()
    state.optimizer.zero_grad()
    state.schedule.step()
    if state.ema is not None:
        state.ema.update_parameters(state.model)


def validate(state: TrainState, data: Data) -> Evaluation:
    """Return how good the network, or its moving average, is on the validation images."""
    with state.autocast():
        return evaluate(state.network, data.val, data.classes, tta=state.cfg.tta)


def snapshot(info: RunInfo, state: TrainState, metrics: EpochMetrics) -> Checkpoint:
    """Return the network as it is now, with what is needed to use it."""
    return Checkpoint(
        model=info.cfg.model,
        classes=info.classes,
        recipe=info.recipe.to_toml(),
        eval_recipe=info.eval_recipe.to_toml(),
        state_dict=state.network.state_dict(),
        epoch=metrics.epoch,
        metrics=asdict(metrics),
        config=info.cfg.plain(),
    )


def conclude(state: TrainState, data: Data, info: RunInfo, record: RunRecord, duration_s: float) -> dict[str, Any]:
    """Restore the best epoch's network, evaluate it once more, and write down what came out of the run."""
    state.network.load_state_dict(load_checkpoint(record.directory / BEST).state_dict)
    evaluation = validate(state, data)
    assert state.stopper.best is not None and record.last is not None
    summary = summarise(info, (state.stopper.best, record.last), evaluation, duration_s)
    record.finish(summary)
    if info.cfg.report:
        write_report(record.directory, Outcome(info, data.train.source, data.val.source, evaluation, summary))
    return summary


@contextmanager
def _determinism(wanted: bool) -> Iterator[None]:
    """Use only algorithms that give the same bits each time."""
    if not wanted:
        yield
        return
    os.environ.setdefault("CUBLAS_WORKSPACE_CONFIG", ":4096:8")  # what torch asks for on CUDA
    before = torch.are_deterministic_algorithms_enabled(), torch.backends.cudnn.benchmark
    torch.use_deterministic_algorithms(True)
    torch.backends.cudnn.benchmark = False
    try:
        yield
    finally:
        torch.use_deterministic_algorithms(before[0])
        torch.backends.cudnn.benchmark = before[1]
