"""`dalipipe export`: a checkpoint in, a file out that runs without dalipipe."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer

from dalipipe.cli.console import printable, results
from dalipipe.cli.paths import given_path


def register(app: typer.Typer) -> None:
    """Add the command to the app."""
    app.command("export")(export)


def export(
    checkpoint: Annotated[Path, typer.Argument(parser=given_path, metavar="CHECKPOINT", help="A best.pt or last.pt.")],
    output: Annotated[Path, typer.Option("--output", parser=given_path, metavar="FILE", help="The file to write.")],
    kind: Annotated[
        str, typer.Option("--format", metavar="onnx|torch-export", help="What reads it: ONNX, or torch.export.load.")
    ] = "onnx",
) -> None:
    """Write a trained network as a file of its own, its preprocessing and class names in the metadata."""
    from dalipipe.cli.outputs import require_places
    from dalipipe.training.network.export import METADATA_FILE, export_model  # imports torch, which takes seconds
    from dalipipe.training.network.trained import load_model

    require_places({"--output": output}, [checkpoint])
    trained = load_model(checkpoint)
    size = export_model(trained, output, kind)
    channels, height, width = trained.recipe.output_shape
    place = "metadata_props" if kind == "onnx" else f"the extra file {METADATA_FILE}"
    colours = "RGB" if channels == 3 else "grey"
    lines = [
        f"Wrote {printable(output)}, {size / 1e6:.1f} MB.",
        f"input     images: (N, {channels}, {height}, {width}) float32, {colours}, as {trained.recipe.name} makes them",
        f"output    logits: (N, {len(trained.classes)}) float32; softmax makes them probabilities",
        f"metadata  classes and preprocessing, in {place}",
    ]
    console = results(beside=[output])
    for line in lines:
        console.print(line, markup=False)
