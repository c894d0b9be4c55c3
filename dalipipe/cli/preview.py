"""`dalipipe preview`: what a recipe makes of a file, shown beside the original."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer

from dalipipe.cli.console import results
from dalipipe.cli.paths import given_path
from dalipipe.cli.preview_text import SENTENCE_FILES, TextPreview
from dalipipe.errors import ConfigError
from dalipipe.recipes import Recipe
from dalipipe.recipes.reading import read_recipe


def register(app: typer.Typer) -> None:
    """Add the command to the app."""
    app.command("preview")(preview)


def preview(
    path: Annotated[
        Path | None,
        typer.Argument(
            parser=given_path,
            metavar="DATA",
            help="A folder with a folder of images for each class, or a text file with a sentence on each line. "
            "Without it: generated pictures.",
        ),
    ] = None,
    recipe: Annotated[str, typer.Option("--recipe", metavar="RECIPE", help="A name or a TOML file.")] = "small-data",
    output: Annotated[
        Path | None,
        typer.Option("--output", parser=given_path, metavar="FILE.png", help="Images: where the contact sheet goes."),
    ] = None,
    images: Annotated[int, typer.Option("--images", min=1, max=100, help="How many images.")] = 6,
    variants: Annotated[
        int | None,
        typer.Option("--variants", min=1, max=1000, help="Variants of each. [default: 8 of images, 4 of sentences]"),
    ] = None,
    lines: Annotated[int, typer.Option("--lines", min=1, help="Sentences to show, from the file's beginning.")] = 5,
    seed: Annotated[int, typer.Option("--seed", min=0, help="Seed of the random decisions.")] = 0,
    epoch: Annotated[int, typer.Option("--epoch", min=0, help="(First) epoch of the random decisions.")] = 0,
    decisions: Annotated[
        bool, typer.Option("--decisions", help="Images: write what was decided below each: box, angle, flip.")
    ] = False,
    backend: Annotated[
        str, typer.Option("--backend", metavar="NAME", help="Images: what makes them; auto is that of a training here.")
    ] = "auto",
) -> None:
    """Show what a recipe makes of images, on a contact sheet, or of the sentences of a file.

    Of images, those are shown that `dalipipe train` trains on, as it gets them with the same --seed.
    """
    sentences = path is not None and path.suffix.lower() in SENTENCE_FILES
    if sentences or read_recipe(recipe).kind == "text":
        from dalipipe.text import Recipe as TextRecipe

        of_text = TextRecipe.load(recipe)
        if path is None:
            raise ConfigError("preview: a text recipe needs a file with sentences, got none. Name one: notes.txt.")
        TextPreview(path, of_text, seed, epoch).show(results(), lines, variants or 4)
        return
    loaded = Recipe.load(recipe)
    if output is None:
        raise ConfigError("--output: must name a file for the contact sheet, got none. Add --output sheet.png.")
    from dalipipe.backends import resolve_backend
    from dalipipe.cli.outputs import require_places
    from dalipipe.pictures import preview as contact_sheet
    from dalipipe.pictures import require_form, save

    require_places({"--output": output}, [path, recipe])
    require_form(output)
    sheet = contact_sheet(
        path,
        loaded,
        images=images,
        variants=variants or 8,
        seed=seed,
        epoch=epoch,
        decisions=decisions,
        backend=(chosen := resolve_backend(backend)),
    )
    save(sheet, output)
    wrote = f"Wrote {output}, {sheet.width} x {sheet.height} px, with the images that {chosen} makes."
    results(beside=[output]).print(wrote, markup=False, soft_wrap=True)
