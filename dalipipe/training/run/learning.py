"""The steps of an epoch: from a batch to weights that have moved."""

from __future__ import annotations

from collections.abc import Callable
from contextlib import nullcontext

import torch
from torch import Tensor

from dalipipe.errors import DecodeError
from dalipipe.training.measures.metrics import Meter
from dalipipe.training.observer import BatchProgress, Observer
from dalipipe.training.run.problems import check_finite, high_start, memory_explained
from dalipipe.training.run.state import TrainState


def nothing() -> None:
    """Do nothing."""


def train_epoch(state: TrainState, observer: Observer, after_batch: Callable[[], None] = nothing) -> Meter:
    """Learn from each batch of the epoch that is left, and return how fast that went.

    Args:
        state: Of the run.
        observer: Is told of each step.
        after_batch: Is called then.

    Raises:
        DecodeError: too few files of the epoch can be used.
        DivergedError: the loss of a batch is not finite.
        ResourceError: memory does not suffice.
    """
    meter, number, batches = Meter(), state.epoch + 1, len(state.loader)
    classes = len(state.loader.source.classes)
    if state.is_trained or state.batch == batches:  # it was broken off in its validation
        return meter
    for images, labels in meter.watch(state.loader):
        where = f"epoch {number}, batch {state.batch + 1}"
        if len(labels) == 1 and state.cfg.on_error == "skip" and state.cfg.batch_size > 1:
            continue  # what is left of a batch with bad files: batch norm can't learn from one image
        is_first = state.place == (0, 0, False)
        with memory_explained(where, state.cfg):
            learn(state, images, labels, where)
        if is_first and state.processes.is_first and (warning := high_start(state.tally.loss, classes)):
            observer.warning(f"{where}: {warning}")
        wait = meter.data_wait_fraction
        observer.batch(BatchProgress(number, state.batch, batches, state.tally.loss, meter.img_per_s, wait))
        after_batch()
    if state.pending:  # the last batches did not come, since all of their files are bad
        move(state)
    if state.tally.images == 0:
        raise DecodeError(
            f"epoch {number}: must have a batch of two images that can be used, got none. "
            "Replace the files that can't be: dalipipe check finds them."
        )
    state.is_trained = True
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
        rank = state.processes.rank
        images, targets = state.mix(images, labels, epoch=state.epoch, batch=state.batch, rank=rank)
    group = min(state.cfg.accumulate, len(state.loader) - state.batch + state.pending)
    is_last = state.pending + 1 == group
    with nullcontext() if is_last else state.processes.gathering(state.wrapped):
        with state.autocast():
            logits = state.forward(images)
            loss = state.criterion(logits, targets)
        share = count(state, loss, logits, labels, where)
        state.scaler.scale(loss * share / group if share != 1 else loss / group).backward()
    state.batch, state.pending = state.batch + 1, state.pending + 1
    if is_last:
        move(state)


def count(state: TrainState, loss: Tensor, logits: Tensor, labels: Tensor, where: str) -> float:
    """Count a batch, and return the factor of its loss that makes the processes' mean that of their batches as one.

    Raises:
        DivergedError: the loss is not finite, on any process.
    """
    value = loss.item()  # waits for the device, so that the step's time counts as its own
    if state.processes.size == 1:
        check_finite(where, value, state.loader)
        state.tally.add(value, logits, labels)
        return 1.0
    weight, correct = state.weight_of(labels), int((logits.argmax(dim=1) == labels).sum())
    mine = [value * weight, weight, len(labels), correct]
    if state.loader.last_is_padding:  # other processes count these images
        weight, mine = 0.0, [0.0] * 4
    weighted, weights, images, right = state.processes.total(mine)
    check_finite(where, weighted / weights, state.loader)
    state.tally.count(weighted / weights, int(images), int(right))
    return state.processes.size * weight / weights


def move(state: TrainState) -> None:
    """Move the weights along the gradients gathered, and what follows the weights."""
    if state.cfg.clip_norm is not None:
        state.scaler.unscale_(state.optimizer)
        torch.nn.utils.clip_grad_norm_(state.model.parameters(), state.cfg.clip_norm)
    state.scaler.step(state.optimizer)
    state.scaler.update()
    state.optimizer.zero_grad()
    state.pending = 0
    state.schedule.step()
    if state.ema is not None:
        state.ema.update_parameters(state.model)
