"""`dalipipe eval`: how good a trained network is on a folder of labelled images."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer
from rich.table import Table
from rich.text import Text

from dalipipe.cli.console import printable, results
from dalipipe.cli.paths import given_path
from dalipipe.errors import ConfigError
from dalipipe.writing import to_json

if TYPE_CHECKING:
    from dalipipe.training.measures.evaluation import Evaluation

_MOST_MISTAKES = 5


def register(app: typer.Typer) -> None:
    """Add the command to the app."""
    app.command("eval")(evaluate)


def evaluate(
    checkpoint: Annotated[Path, typer.Argument(parser=given_path, metavar="CHECKPOINT", help="A best.pt or last.pt.")],
    data: Annotated[
        Path,
        typer.Argument(
            parser=given_path,
            metavar="DATA",
            help="Folder of a folder of images per class; or one divided into parts: val, else test, is taken.",
        ),
    ],
    tta: Annotated[bool, typer.Option("--tta", help="Average over each image and its mirror image.")] = False,
    as_json: Annotated[bool, typer.Option("--json", help="Print everything as JSON.")] = False,
    batch_size: Annotated[int, typer.Option("--batch-size", min=1, metavar="N", help="Images at once.")] = 32,
    on_error: Annotated[
        str,
        typer.Option("--on-error", metavar="raise|skip", help="Images that can't be used: refuse, or leave them out."),
    ] = "raise",
    backend: Annotated[str, typer.Option("--backend", metavar="NAME", help="What loads images.")] = "auto",
    device: Annotated[str, typer.Option("--device", metavar="NAME", help="Where the network runs.")] = "auto",
) -> None:
    """Measure a trained network on labelled images, with the measures of training.

    Of the folder that it was trained on, the images that validated it are taken.
    """
    from dalipipe.loading import DataLoader  # imports torch and DALI, which takes seconds
    from dalipipe.training.measures.evaluation import evaluate as measure
    from dalipipe.training.network.checkpoint import load_checkpoint
    from dalipipe.training.network.trained import labelled_source, trained_model

    if on_error not in ("raise", "skip"):
        raise ConfigError(f"--on-error: must be raise or skip, got {on_error!r}. The default is raise.")
    loaded = load_checkpoint(checkpoint)
    trained = trained_model(loaded, str(checkpoint), device)
    source, images = labelled_source(data, trained.classes, loaded.config)
    device_id = next(trained.model.parameters()).device.index or 0
    alone: dict[str, Any] = {"rank": 0, "world_size": 1, "on_error": on_error}
    with DataLoader(source, batch_size, recipe=trained.recipe, backend=backend, device_id=device_id, **alone) as loader:
        found = measure(trained.model, loader, trained.classes, tta=tta)
        bad = [{"file": file.path, "reason": file.reason} for file in loader.bad_files]
    if as_json:
        mistakes = [
            {
                "file": source.name(one.index),
                "class": trained.classes[one.label],
                "taken_for": trained.classes[one.prediction],
                "confidence": round(one.confidence, 6),
            }
            for one in found.mistakes()
        ]
        typer.echo(to_json({"data": images, **found.plain(), "mistakes": mistakes, "bad_files": bad}), nl=False)
        return
    _show(found, images, [source.name(one.index) for one in found.mistakes(_MOST_MISTAKES)])


def _show(found: Evaluation, images: str, names: list[str]) -> None:
    console = results()
    console.print(f"{len(found)} images of {printable(images)}\n", markup=False)
    measures = {
        "loss": f"{found.loss:.4f}",
        "top-1 accuracy": f"{found.top1:.1%}  (always {printable(found.baseline.name)}: {found.baseline.acc:.1%})",
        "top-5 accuracy": f"{found.top5:.1%}" if len(found.classes) > 5 else "",
        "macro F1": f"{found.macro_f1:.3f}",
        "calibration error": f"{found.calibration_error:.3f}",
    }
    for name, value in measures.items():
        if value:
            console.print(f"{name:18}{value}", markup=False)
    console.print()
    table = Table(box=None, pad_edge=False, padding=(0, 3, 0, 0))
    table.add_column("class", overflow="fold")
    for heading in ("images", "precision", "recall", "F1"):
        table.add_column(heading, justify="right")
    for one in found.per_class:
        cells = (f"{value:.3f}" for value in (one.precision, one.recall, one.f1))
        table.add_row(Text(printable(one.name)), str(one.images), *cells)
    console.print(table)
    if names:
        console.print("\nmost confident mistakes")
    for mistake, name in zip(found.mistakes(len(names)), names, strict=True):
        taken, right = found.classes[mistake.prediction], found.classes[mistake.label]
        line = f"{name}: taken for {taken} ({mistake.confidence:.0%}), is {right}"
        console.print(f"  {printable(line)}", markup=False)
