"""`dalipipe preview`: what a recipe makes of a file, shown beside the original."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer

from dalipipe.cli.console import results
from dalipipe.cli.preview_text import SENTENCE_FILES, TextPreview
from dalipipe.errors import ConfigError
from dalipipe.recipe import Recipe


def register(app: typer.Typer) -> None:
    """Add the command to the app."""
    app.command("preview")(preview)


def preview(
    path: Annotated[Path, typer.Argument(metavar="FILE", help="A text file with a sentence on each line.")],
    recipe: Annotated[str, typer.Option("--recipe", metavar="RECIPE", help="Recipe: a name or a TOML file.")],
    variants: Annotated[int, typer.Option("--variants", min=1, max=1000, help="Variants of each original.")] = 4,
    lines: Annotated[int, typer.Option("--lines", min=1, help="Sentences to show, from the file's beginning.")] = 5,
    seed: Annotated[int, typer.Option("--seed", min=0, help="Seed of the random decisions.")] = 0,
    epoch: Annotated[int, typer.Option("--epoch", min=0, help="Epoch of the random decisions.")] = 0,
) -> None:
    """Show what a recipe makes of the sentences of a file."""
    loaded = Recipe.load(recipe)
    if path.suffix.lower() in SENTENCE_FILES:
        loaded.require_kind("text")
    if loaded.kind == "text":
        TextPreview(path, loaded, seed, epoch).show(results(), lines, variants)
    else:
        raise ConfigError(
            f"preview: shows text recipes, got {loaded.name!r}, a recipe for images. Choose a text recipe: text-eda."
        )
