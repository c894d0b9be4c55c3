"""The training loop: what `dalipipe train` does, from the configuration to the files it leaves behind."""

from __future__ import annotations

import os
from collections.abc import Iterator
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass
from typing import Any

import torch

from dalipipe.errors import ConfigError, DecodeError
from dalipipe.training.config import AUTO, TrainConfig
from dalipipe.training.data import Data, open_data
from dalipipe.training.measures.evaluation import Evaluation, Predictions, predict, score
from dalipipe.training.measures.metrics import EpochMetrics
from dalipipe.training.network.checkpoint import Checkpoint, load_checkpoint
from dalipipe.training.network.models import check_images, create_model, fill, resolve_device
from dalipipe.training.network.weights import WeightsReport, load_weights
from dalipipe.training.observer import Observer, RunInfo
from dalipipe.training.place import require_apart
from dalipipe.training.report import Outcome, write_report
from dalipipe.training.report.events import require_tensorboard, write_events
from dalipipe.training.resume.record import BEST, CHECKPOINTS, LAST, RECIPE, RunRecord
from dalipipe.training.resume.resumption import (
    Checkpoints,
    RunCheckpoint,
    check_seen,
    find_earlier,
    find_finished,
    what_is_seen,
)
from dalipipe.training.resume.summary import summarise
from dalipipe.training.run.folds import train_folds
from dalipipe.training.run.interruption import interruptible
from dalipipe.training.run.learning import train_epoch
from dalipipe.training.run.lock import held_by_first
from dalipipe.training.run.problems import check_finite, memory_explained
from dalipipe.training.run.processes import Processes, check_launch, shared_options
from dalipipe.training.run.saving import Saver
from dalipipe.training.run.state import TrainState


@dataclass(frozen=True)
class Host:
    """Where a run takes place, and who watches it."""

    device: torch.device
    processes: Processes
    observer: Observer


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
        StateError: the run to go on with is another one, or all its checkpoints are damaged.
        StoppedError: SIGTERM or SIGINT came (in the main thread); `cfg.resume` goes on where that was.
    """
    processes = Processes.from_environment()
    cfg = check_launch(cfg, processes)
    if cfg.data is not None and not cfg.resume:
        require_apart(cfg.output, cfg.data)
    device = resolve_device(processes.device_name(cfg.device))
    if cfg.precision == "fp16" and device.type != "cuda":
        raise ConfigError(f"--precision: fp16 needs a CUDA device, got {device}. Use bf16.")
    if cfg.tensorboard:
        require_tensorboard()
    host = Host(device, processes, observer if observer and processes.is_first else Observer())
    try:
        with _determinism(cfg.deterministic), processes.joined(device):
            processes.require_same(shared_options(cfg))
            if cfg.folds is not None:
                return train_folds(cfg, host, train_once)
            return train_once(cfg, host)
    except DecodeError as error:
        if cfg.on_error == "raise":
            error.add_note("On the command line: --on-error skip or substitute; dalipipe check finds all such files.")
        raise


def train_once(cfg: TrainConfig, host: Host, fold: int | None = None) -> dict[str, Any]:
    """Train one network and return what summary.json holds; see `train`.

    Args:
        cfg: Every option.
        host: Where it runs, and who watches.
        fold: Which of `cfg.folds`, from 0, validates; None for the usual division.
    """
    processes, observer = host.processes, host.observer
    done = processes.from_first(lambda: find_finished(cfg, observer))
    if done is not None:
        return done
    with ExitStack() as stack:
        stack.enter_context(held_by_first(cfg.output, processes))
        checkpoints = Checkpoints(cfg.output / CHECKPOINTS)
        earlier = processes.from_first(lambda: find_earlier(cfg, checkpoints, observer))
        opened = cfg if earlier is None else as_begun(cfg)
        opening = open_data(opened, host.device.index or 0, observer, fold, processes)
        data = processes.together(lambda: stack.enter_context(opening))
        processes.require_same(what_is_seen(data))
        state, info = prepare(cfg, data, host, earlier)
        template = RunCheckpoint.of(info, data, 0.0 if earlier is None else earlier.elapsed_s)
        resumed, earlier = earlier is not None, None  # what it holds is as large as the network
        record = processes.from_first(lambda: RunRecord(cfg.output, resumed=resumed))
        if fold is None:
            processes.from_first(lambda: record.begin(cfg.to_toml()))
        processes.from_first(lambda: record.write_recipes(info.recipe, info.eval_recipe))
        with interruptible() as interruption:
            whole = cfg.output if fold is None else cfg.output.parent
            saver = Saver(state, checkpoints, template, interruption, whole)
            summary = train_epochs(Run(state, data, info, record, saver, observer), resumed=resumed)
            if fold is not None and processes.greatest([saver.is_asked_to_end])[0]:
                raise saver.stopped("what follows this fold")
            return summary


def as_begun(cfg: TrainConfig) -> TrainConfig:
    """Return the options by which the data of a run that goes on are opened.

    Whether an image is in both parts was looked for when it began, and what its weights were trained with was found
    out: the recipes lie in the output.
    """
    kept = cfg.output / RECIPE
    known = {"recipe": str(kept)} if cfg.recipe == AUTO and cfg.weights != "none" and kept.is_file() else {}
    weights = {"weights": "none", "img_size": None} if known or cfg.recipe != AUTO else {}
    return cfg.model_copy(update={"check_split": False, **known, **weights})


def prepare(cfg: TrainConfig, data: Data, host: Host, earlier: RunCheckpoint | None) -> tuple[TrainState, RunInfo]:
    """Return the state of a run, at its beginning or where it goes on, and what the run turned out to be.

    Raises:
        DalipipeError: network, weights and images don't go together, or the images are not those of the run.
    """
    host.observer.preparing(f"{cfg.model}, weights: {cfg.weights}")
    if earlier is not None:
        check_seen(earlier.seen, what_is_seen(data))
    torch.manual_seed(cfg.seed)

    def build() -> tuple[torch.nn.Module, WeightsReport]:
        model = create_model(cfg.model, len(data.classes), cfg.head, cfg.dropout)
        check_images(cfg.model, model, data.smallest_batch, data.train.recipe.output_shape, training=True)
        check_images(cfg.model, model, 1, data.val.recipe.output_shape, training=False, classes=len(data.classes))
        if earlier is not None:
            return model, WeightsReport(**earlier.weights)
        return model, load_weights(model, cfg.model, data.classes, cfg.weights)

    model, weights = host.processes.together(build)
    with memory_explained(cfg.model, cfg):
        model.to(host.device)
        if cfg.channels_last:
            model.to(memory_format=torch.channels_last)
        state = TrainState(cfg, model, data.train, data.class_weights, data.val, host.processes)
        if host.processes.size > 1:
            host.processes.seed(cfg.seed)
        if earlier is not None:
            state.load_state_dict(earlier.state)
    info = RunInfo(
        cfg=cfg,
        root=data.root,
        classes=data.classes,
        train_images=len(data.train.source),
        val_images=len(data.val.source),
        recipe=data.train.recipe,
        eval_recipe=data.val.recipe,
        backend=data.train.backend,
        device=str(host.device),
        weights=weights,
        patience=state.stopper.patience,
        recipe_words=data.recipe_words,
    )
    return state, info


@dataclass(frozen=True)
class Run:
    """A run under way: what changes, what it is fed with, where it is written down, who ends it and who watches."""

    state: TrainState
    data: Data
    info: RunInfo
    record: RunRecord
    saver: Saver
    observer: Observer

    @property
    def processes(self) -> Processes:
        """Those that train together."""
        return self.state.processes


def train_epochs(run: Run, *, resumed: bool) -> dict[str, Any]:
    """Do what is left of a run, and return what summary.json holds.

    Raises:
        StoppedError: a signal has ended it.
    """
    if resumed:
        run.processes.from_first(lambda: recover(run))
        stopper = run.state.stopper
        stopper.load_state_dict(run.processes.from_first(stopper.state_dict))
        run.observer.resumed(run.state.where)
    run.observer.started(run.info)
    while not run.state.finished:
        run_epoch(run)
    return conclude(run)


def recover(run: Run) -> None:
    """Bring the files of a run to where its checkpoint is, whenever and however it was broken off."""
    state, record = run.state, run.record
    record.write_history(state.history)
    if not state.history:
        return
    last = state.history[-1]
    if state.batch == 0:  # between two epochs: what was being written then is written again
        write_epoch(run, best=state.stopper.best == last)
    problem = "" if state.stopper.best is None else record.lacks(BEST, state.stopper.best)
    if problem:
        state.stopper.best = None if record.lacks(LAST, last) else last
        since = state.epoch if state.stopper.best else state.epoch + 1
        run.observer.warning(f"{problem} The best network from epoch {since} on is kept.")
        if state.stopper.best:
            record.take_last_for_best()


def run_epoch(run: Run) -> None:
    """Train for an epoch, or for what is left of it, validate, and write down what came out."""
    state, number = run.state, run.state.epoch + 1
    state.begin_epoch()
    meter = train_epoch(state, run.observer, run.saver.after_batch)
    img_per_s, waited = run.processes.total([meter.img_per_s, meter.data_wait_fraction])
    run.observer.validating(number)
    with memory_explained(f"epoch {number}, validation", state.cfg):
        validated = validate(run)
    check_finite(f"epoch {number}, validation", validated.loss)
    metrics = EpochMetrics(
        epoch=number,
        train_loss=state.tally.loss,
        train_acc=state.tally.accuracy,
        **{f"val_{name}": value for name, value in validated.scores().items()},
        lr=state.last_lr,
        img_per_s=img_per_s,
        data_wait_fraction=waited / run.processes.size,
    )
    best = state.end_epoch(metrics)
    run.saver.write()  # first, since all that follows can be written again from it
    run.processes.from_first(lambda: write_epoch(run, best=best))
    run.observer.epoch(metrics, best)


def write_epoch(run: Run, *, best: bool) -> None:
    """Write down the last epoch of a run, and its network."""
    history = run.state.history
    run.record.add(history, snapshot(run.info, run.state, history[-1]), best=best)
    if run.info.cfg.tensorboard:
        write_events(run.record.directory, history[-1])


def validate(run: Run) -> Evaluation:
    """Return how good the network, or its moving average, is on the validation images.

    Raises:
        StoppedError: a signal has ended the run.
    """
    state, data = run.state, run.data
    data.val.set_epoch(state.epoch)  # where validation is random, it is the same after an interruption
    with state.autocast():
        mine = predict(state.network, run.saver.watch(data.val), tta=state.cfg.tta)
    parts = [part for part in run.processes.gathered(mine) if len(part)]
    return score(Predictions.concatenate(parts).sorted() if len(parts) > 1 else mine, data.classes)


def snapshot(info: RunInfo, state: TrainState, metrics: EpochMetrics) -> Checkpoint:
    """Return the network as it is now, with what is needed to use it."""
    return Checkpoint(
        model=info.cfg.model,
        classes=info.classes,
        recipe=info.recipe.to_toml(),
        eval_recipe=info.eval_recipe.to_toml(),
        state_dict=state.network.state_dict(),
        epoch=metrics.epoch,
        metrics=metrics.measures(),
        config=info.cfg.plain(),
    )


def conclude(run: Run) -> dict[str, Any]:
    """Restore the best epoch's network, evaluate it once more, and write down what came out of the run."""
    state, info, record = run.state, run.info, run.record
    best = run.processes.from_first(lambda: load_checkpoint(record.directory / BEST).state_dict)
    fill(state.network, best)
    evaluation = validate(run)
    state.share_bad_files()

    def write() -> dict[str, Any]:
        assert state.stopper.best is not None
        epochs = state.stopper.best, state.history[-1]
        bad = {"train": run.data.train.bad_files, "val": run.data.val.bad_files}
        summary = summarise(info, epochs, evaluation, run.saver.elapsed_s, bad)
        if info.cfg.report:
            sources = run.data.train.source, run.data.val.source
            write_report(record.directory, Outcome(info, *sources, evaluation, summary))
        record.finish(summary)  # last, since then the run is finished
        return summary

    return run.processes.from_first(write)


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
