"""`dalipipe train`: options in, a progress bar and a table of epochs out.

The options are the fields of the configuration: whoever adds one there has it here.
"""

from __future__ import annotations

import inspect
import statistics
from pathlib import Path
from types import TracebackType
from typing import TYPE_CHECKING, Annotated, Any, Literal, get_args, get_origin

import typer
from pydantic.fields import FieldInfo
from rich.console import Console
from rich.progress import BarColumn, MofNCompleteColumn, Progress, TextColumn, TimeRemainingColumn

from dalipipe.cli.console import printable, results, warn
from dalipipe.cli.paths import given_path
from dalipipe.training.config import ADAMW_LR, DEMO, GROUPS, QUARANTINE, TrainConfig, read_config, shown_default
from dalipipe.training.launch import Launch
from dalipipe.training.observer import BatchProgress, Observer, RunInfo

if TYPE_CHECKING:
    from dalipipe.training.measures.metrics import EpochMetrics


def register(app: typer.Typer) -> None:
    """Add the command to the app."""
    app.command("train")(_with_options(train))


def train(**options: Any) -> None:
    """Train a network on a folder of images, from pretrained weights."""
    given = {name: value for name, value in options.items() if value is not None}
    file, assignments = given.pop("config", None), given.pop("set", None) or ()
    # Numbers arrive as text, so that it is the configuration that reads and checks them, wherever it comes from.
    cfg = read_config(file, assignments, given)
    console = results(quiet=not Launch.from_environment().is_first)
    with _View(console) as view:
        from dalipipe.training.run.loop import train as run  # torch and DALI take seconds to import

        summary = run(cfg, view)
    _conclude(console, cfg, summary)


def _with_options(command: Any) -> Any:
    """Give a command a parameter for each field of the configuration, as typer reads them: from its signature."""
    kinds: dict[str, Any] = {
        "data": Annotated[
            Path | None,
            typer.Argument(
                parser=given_path,
                metavar="DATA",
                help="Folder that holds a folder of images per class, or train and val that hold those. "
                "Default: generated demonstration pictures.",
                show_default=False,
            ),
        ],
        "config": Annotated[
            Path | None,
            typer.Option(
                "--config", parser=given_path, metavar="FILE", help="TOML file of options, such as a run's config.toml."
            ),
        ],
        "set": Annotated[
            list[str] | None,
            typer.Option("--set", metavar="KEY=VALUE", help="Any option; goes above --config. Can be repeated."),
        ],
    }
    for title, group in GROUPS.items():
        for name, field in group.model_fields.items():
            kinds.setdefault(name, _parameter(name, field, title))
    parameters = [
        inspect.Parameter(name, inspect.Parameter.KEYWORD_ONLY, default=None, annotation=kind)
        for name, kind in kinds.items()
    ]
    command.__signature__ = inspect.Signature(parameters)
    command.__annotations__ = kinds
    return command


def _parameter(name: str, field: FieldInfo, title: str) -> Any:
    """Return what typer needs to know of an option; its help ends with the field's default."""
    shown = shown_default(name)
    if name in DEMO:
        shown = f"{shown}, or {DEMO[name]} without DATA"
    if name == "lr":
        shown = f"{shown}, or {ADAMW_LR} with adamw"
    flag, extra = "--" + name.replace("_", "-"), field.json_schema_extra
    metavar = str(extra["metavar"]) if isinstance(extra, dict) else ""
    if get_origin(field.annotation) is Literal:
        metavar = "|".join(map(str, get_args(field.annotation)))
    is_switch = field.annotation is bool
    option = typer.Option(
        f"{flag}/--no-{flag[2:]}" if is_switch else flag,
        help=f"{field.description} Default: {shown}.",
        metavar=None if is_switch else metavar or None,
        show_default=False,
        rich_help_panel=title,
    )
    return Annotated[bool | None, option] if is_switch else Annotated[str | None, option]


class _View(Observer):
    """Shows a run: what it is, a bar that moves with each step (on a terminal), a row for each epoch."""

    def __init__(self, console: Console) -> None:
        self._console = console
        self._epochs = 0
        self._fold = 0
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

    def warning(self, message: str) -> None:
        warn(message)

    def finished(self, output: Path) -> None:
        self._say(f"finished already: {printable(output)}")

    def resumed(self, where: str) -> None:
        self._say(f"resumed: {where}\n")

    def fold(self, number: int, folds: int) -> None:
        self._fold = number
        if number > 1:
            self._say(f"\nfold {number} of {folds}")

    def started(self, info: RunInfo) -> None:
        self._epochs = info.cfg.epochs
        if self._fold < 2:
            self._describe(info)
        self._say("epoch   train loss  train acc   val loss  val acc   img/s  data wait")

    def _describe(self, info: RunInfo) -> None:
        cfg = info.cfg
        if cfg.data is None:
            self._say("No DATA given: training on generated demonstration pictures.\n")
        names = ", ".join(info.classes[:8]) + (", ..." if len(info.classes) > 8 else "")
        self._say(f"data      {printable(info.root)}")
        self._say(f"images    {info.train_images} to train on, {info.val_images} to validate on")
        self._say(f"classes   {len(info.classes)}: {printable(names)}")
        self._say(printable(f"recipe    {info.recipe.name}, validated with {info.eval_recipe.name}"))
        if info.recipe_words:
            self._say(f"          {printable(f'{cfg.recipe}: {info.recipe_words}')}")
        self._say(f"backend   {info.backend}")
        self._say(f"network   {cfg.model} on {info.device}, weights: {printable(_start(info))}")
        best = f"the one with the best {cfg.monitor}"
        stop = f"; stops after {info.patience} epochs without a better one" if info.patience else ""
        self._say(f"keeps     {best}{stop}")
        self._say(f"output    {printable(cfg.output)}\n")
        self._say("Every option (config.toml in the output has them too; --set NAME=VALUE changes one):")
        for title, options in cfg.grouped().items():
            values = [f"{name}={_shown(value)}" for name, value in options.items()]
            self._list(title.lower(), values)
        self._say("")

    def _list(self, title: str, values: list[str]) -> None:
        """Print values in lines of at most 110 characters, behind a title."""
        line = f"  {title:12}"
        for value in values:
            if len(line) + len(value) > 110:
                self._say(line.rstrip())
                line = " " * 14
            line += printable(value) + "  "
        self._say(line.rstrip())

    def batch(self, step: BatchProgress) -> None:
        fold = f"fold {self._fold}, " if self._fold else ""
        self._bar.update(
            self._task,
            description=f"{fold}epoch {step.epoch}/{self._epochs}",
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


def _shown(value: Any) -> str:
    return "none" if value is None else str(value).lower() if isinstance(value, bool) else str(value)


def _start(info: RunInfo) -> str:
    """Return what the weights are, what of a file was not used, and what of the network starts at random."""
    weights = info.weights
    if not weights.loaded:
        return "random"
    named = f", named there {weights.prefix}..." if weights.prefix else ""
    parts = [f"{weights.loaded} tensors from {info.cfg.weights}{named}"]
    for number, names, what in (
        (len(weights.fresh), weights.fresh, "missing there, so random"),
        (len(weights.skipped), weights.skipped, "skipped of it"),
    ):
        if number:
            parts.append(f"{number} {what} ({', '.join(names[:3])}{', ...' if number > 3 else ''})")
    return "; ".join(parts)


def _conclude(console: Console, cfg: TrainConfig, summary: dict[str, Any]) -> None:
    """Say what came out, where it is, and after the demonstration what to try next."""
    lines = ["", *(_of_folds(cfg, summary) if "folds" in summary else _of_run(cfg, summary))]
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


def _of_run(cfg: TrainConfig, summary: dict[str, Any]) -> list[str]:
    best, baseline = summary["best"], summary["evaluation"]["baseline"]
    stopped = summary["last"]["epoch"]
    early = f"Stopped after epoch {stopped}: no better {cfg.monitor} in {summary['patience']} epochs."
    return [
        *([early] if summary["stopped_early"] else []),
        f"Best: epoch {best['epoch']}, {best['val_acc']:.1%} of the validation images right.",
        f"To call all of them {printable(baseline['class'])}, the largest class, would be right for "
        f"{baseline['acc']:.1%}."
        + (" The network does no better." if best["val_acc"] < baseline["acc"] + 1e-6 else ""),
        f"Took {summary['duration_s']:.0f} s. The network is in {printable(cfg.output / 'best.pt')}, "
        "the numbers are in metrics.jsonl and summary.json beside it.",
        *_of_bad_files(cfg, summary["bad_files"]),
        *(
            [f"Pictures and all that is known of the run: {printable(cfg.output / 'report.html')}"]
            if cfg.report
            else []
        ),
    ]


def _of_bad_files(cfg: TrainConfig, bad: dict[str, list[Any]]) -> list[str]:
    count = len(bad["train"]) + len(bad["val"])
    if not count:
        return []
    lists = " and ".join(printable(cfg.output / name) for part, name in QUARANTINE.items() if bad[part])
    return [f"{count} {'file' if count == 1 else 'files'} could not be used: see {lists}."]


def _of_folds(cfg: TrainConfig, summary: dict[str, Any]) -> list[str]:
    mean, std = summary["mean"], summary["std"]
    always = [fold["evaluation"]["baseline"]["acc"] for fold in summary["folds"]]
    rows = [f"  {name:22} {mean[name]:.4f} ± {std[name]:.4f}" for name in mean]
    return [
        f"{cfg.folds} folds, mean ± standard deviation of their best epochs:",
        *rows,
        f"To call all images of a fold its largest class would be right for {statistics.fmean(always):.1%}."
        + (" The networks do no better." if mean["val_acc"] < statistics.fmean(always) + 1e-6 else ""),
        f"Took {summary['duration_s']:.0f} s. Each fold's network is in a folder of {printable(cfg.output)}.",
    ]
