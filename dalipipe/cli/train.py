"""`dalipipe train`: options in, a progress bar and a table of epochs out."""

from __future__ import annotations

from pathlib import Path
from types import TracebackType
from typing import TYPE_CHECKING, Annotated, Any

import typer
from rich.console import Console
from rich.progress import BarColumn, MofNCompleteColumn, Progress, TextColumn, TimeRemainingColumn

from dalipipe.cli.console import printable, results
from dalipipe.training.config import DEMO, TrainConfig
from dalipipe.training.observer import Observer, RunInfo, Step

if TYPE_CHECKING:
    from dalipipe.training.metrics import EpochMetrics


def register(app: typer.Typer) -> None:
    """Add the command to the app."""
    app.command("train")(train)


def _option(name: str, text: str, metavar: str, default: str = "") -> Any:
    """Return the option for a field of the configuration; its help ends with the field's default."""
    usual = TrainConfig.model_fields[name].default
    shown = default or (str(usual) if name not in DEMO else f"{usual}, or {DEMO[name]} without DATA")
    flag = "--" + name.replace("_", "-")
    return typer.Option(flag, help=f"{text} Default: {shown}.", metavar=metavar, show_default=False)


def train(
    data: Annotated[
        Path | None,
        typer.Argument(
            metavar="DATA",
            help="Folder that holds a folder of images per class, or train and val that hold those. "
            "Default: generated demonstration pictures.",
            show_default=False,
        ),
    ] = None,
    recipe: Annotated[str | None, _option("recipe", "Augmentation: a name or a TOML file.", "RECIPE")] = None,
    model: Annotated[
        str | None,
        _option("model", "resnet18, 34, 50, 101 or 152; vgg11, 13, 16 or 19, plain or as vgg11_bn.", "NAME"),
    ] = None,
    weights: Annotated[
        str | None,
        _option("weights", "Start at random (none), from torchvision's (default) or a file's.", "none|default|FILE"),
    ] = None,
    epochs: Annotated[str | None, _option("epochs", "Passes over the training images.", "N")] = None,
    batch_size: Annotated[str | None, _option("batch_size", "Images per step.", "N")] = None,
    lr: Annotated[str | None, _option("lr", "Learning rate of the first step; falls along a cosine.", "X")] = None,
    seed: Annotated[str | None, _option("seed", "Seed of first weights, order and augmentation.", "N")] = None,
    backend: Annotated[
        str | None,
        _option("backend", "What loads images: auto, dali-gpu, dali-cpu, dali-cpu-stock or torchvision.", "NAME"),
    ] = None,
    device: Annotated[str | None, _option("device", "Where the network runs: auto, cpu, cuda, cuda:1.", "NAME")] = None,
    output: Annotated[
        Path | None, _option("output", "Directory for checkpoints and metrics.", "DIR", default="runs/DATE-TIME")
    ] = None,
    threads: Annotated[str | None, _option("threads", "Threads that load images.", "N", default="one per core")] = None,
    val_fraction: Annotated[
        str | None, _option("val_fraction", "Share of each class to validate on, where DATA has no val.", "X")
    ] = None,
) -> None:
    """Train a ResNet or VGG on a folder of images."""
    # Numbers arrive as text, so that it is the configuration that reads and checks them, wherever it comes from.
    cfg = TrainConfig(**{name: value for name, value in locals().items() if value is not None})
    console = results()
    with _View(console) as view:
        from dalipipe.training.loop import train as run  # torch and DALI take seconds to import

        summary = run(cfg, view)
    _conclude(console, cfg, summary)


class _View(Observer):
    """Shows a run: what it is, a bar that moves with each step (on a terminal), a row for each epoch."""

    def __init__(self, console: Console) -> None:
        self._console = console
        self._epochs = 0
        self._bar = Progress(
            TextColumn("{task.description}"),
            BarColumn(bar_width=20),
            MofNCompleteColumn(),
            TextColumn("{task.fields[state]}"),
            TimeRemainingColumn(),
            console=console,
            transient=True,
            disable=not console.is_terminal,
        )
        self._task = self._bar.add_task("starting", total=None, state="")

    def __enter__(self) -> _View:
        self._bar.start()
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self._bar.stop()

    def preparing(self, what: str) -> None:
        self._bar.update(self._task, description=printable(what))

    def started(self, info: RunInfo) -> None:
        cfg = info.cfg
        self._epochs = cfg.epochs
        if cfg.data is None:
            self._say("No DATA given: training on generated demonstration pictures.\n")
        names = ", ".join(info.classes[:8]) + (", ..." if len(info.classes) > 8 else "")
        start = f"{info.weights.loaded} tensors from {cfg.weights}" if info.weights.loaded else "random"
        self._say(f"data      {printable(info.root)}")
        self._say(f"images    {info.train_images} to train on, {info.val_images} to validate on")
        self._say(f"classes   {len(info.classes)}: {printable(names)}")
        self._say(f"recipe    {info.recipe.name}, validated with {info.eval_recipe.name}")
        self._say(f"backend   {info.backend}")
        self._say(f"network   {cfg.model} on {info.device}, weights: {printable(start)}")
        self._say(f"output    {printable(cfg.output)}\n")
        self._say("epoch   train loss  train acc   val loss  val acc   img/s  data wait")

    def batch(self, step: Step) -> None:
        self._bar.update(
            self._task,
            description=f"epoch {step.epoch}/{self._epochs}",
            completed=(step.epoch - 1) * step.batches + step.batch,
            total=self._epochs * step.batches,
            state=f"loss {step.loss:.3f}  {step.img_per_s:.1f} img/s  data wait {step.data_wait_fraction:.0%}",
        )

    def validating(self, epoch: int) -> None:
        self._bar.update(self._task, description=f"epoch {epoch}/{self._epochs} validating")

    def epoch(self, metrics: EpochMetrics, best: bool) -> None:
        m = metrics
        row = f"{m.epoch:5d}   {m.train_loss:10.4f}  {m.train_acc:9.3f}   {m.val_loss:8.4f}  {m.val_acc:7.3f}"
        self._say(f"{row}  {m.img_per_s:6.1f}  {m.data_wait_fraction:9.1%}{'  best' if best else ''}")

    def _say(self, line: str) -> None:
        self._console.print(line, markup=False)


def _conclude(console: Console, cfg: TrainConfig, summary: dict[str, Any]) -> None:
    """Say what came out, where it is, and after the demonstration what to try next."""
    best, chance = summary["best"], 1 / len(summary["classes"])
    lines = [
        "",
        f"Best: epoch {best['epoch']}, {best['val_acc']:.1%} of the validation images right (chance: {chance:.1%}).",
        f"Took {summary['duration_s']:.0f} s. The network is in {printable(cfg.output / 'best.pt')}, "
        "the numbers are in metrics.jsonl and summary.json beside it.",
    ]
    if cfg.data is None:
        lines += [
            "",
            "Next:",
            "  dalipipe train path/to/photos    your own images, one folder per class, from pretrained weights",
            "  dalipipe recipes                 the augmentations there are; dalipipe show NAME explains one",
            "  dalipipe bench                   how fast images load on this machine, beside plain PyTorch",
            "  dalipipe train --help            other networks and settings",
        ]
    for line in lines:
        console.print(line, markup=False)
