"""`dalipipe parity`: whether every backend makes the same of an image as torchvision."""

from __future__ import annotations

import json as json_module
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer
from rich.console import Console
from rich.table import Table
from rich.text import Text

from dalipipe.cli.console import Bar, printable, results
from dalipipe.cli.paths import given_path
from dalipipe.cli.statuses import FAILED
from dalipipe.errors import ConfigError
from dalipipe.recipes import Recipe, list_recipes
from dalipipe.writing import ending_of, write_file

if TYPE_CHECKING:
    from dalipipe.parity import Comparison, Row

_WIDTH = 132


def register(app: typer.Typer) -> None:
    """Add the command to the app."""
    app.command("parity")(parity)


def parity(
    data: Annotated[
        Path | None,
        typer.Argument(
            parser=given_path,
            metavar="DATA",
            help="Folder that holds a folder of images per class, or train that holds those. "
            "Default: generated demonstration pictures.",
            show_default=False,
        ),
    ] = None,
    recipe: Annotated[
        list[str] | None,
        typer.Option(
            "--recipe",
            metavar="RECIPE",
            help="Recipe: a name or a TOML file. Can be repeated. Default: every image recipe that comes along.",
            show_default=False,
        ),
    ] = None,
    backends: Annotated[
        str, typer.Option("--backends", metavar="A,B,...", help="What to compare, with commas between.")
    ] = "all that run here",
    images: Annotated[
        int, typer.Option("--images", min=1, metavar="N", help="Most images, taken evenly from DATA.")
    ] = 64,
    draws: Annotated[int, typer.Option("--draws", min=1, max=1000, help="Draws of each image.", metavar="N")] = 2,
    seed: Annotated[int, typer.Option("--seed", min=0, help="Seed of the random decisions.", metavar="N")] = 0,
    json: Annotated[
        Path | None, typer.Option("--json", parser=given_path, help="Write every figure to this file.", metavar="FILE")
    ] = None,
    picture: Annotated[
        Path | None,
        typer.Option(
            "--picture",
            parser=given_path,
            help="Draw the worst images and what differs: a .png file.",
            metavar="FILE.png",
        ),
    ] = None,
) -> None:
    """Compare the backends with torchvision, pixel by pixel: each step alone, and the whole recipe.

    Differences are in levels of 255. The exit status is 1 where one is beyond its tolerance.
    """
    loaded_recipes = [Recipe.load(name) for name in recipe or list_recipes("image")]
    views = [view for loaded in loaded_recipes for view in loaded.kinds.values()]
    from dalipipe.cli.outputs import require_places
    from dalipipe.loading import available_threads  # torch takes seconds to import, which --help should not
    from dalipipe.parity import Settings, compare, open_images, spread_out

    _require_picture(picture)
    require_places({"--json": json, "--picture": picture}, [data, *(recipe or ())])
    console = results(beside=(json, picture))
    if not console.is_terminal:
        console.width = _WIDTH
    settings = Settings(_chosen(backends), draws, seed, available_threads())
    if data is None:
        console.print("No DATA given: comparing on generated demonstration pictures.", markup=False)
    source = open_images(data)
    indices = spread_out(len(source), images)
    comparisons = []
    with Bar() as bar:
        for view in views:
            comparisons.append(compare(source, view, settings, indices, bar.show))
            _show(comparisons[-1], console)
    _write(comparisons, json, picture)
    _conclude(comparisons, console, json, picture)
    if not all(comparison.ok for comparison in comparisons):
        raise typer.Exit(FAILED)


def _chosen(backends: str) -> tuple[str, ...]:
    """Return the backends that an option names.

    Raises:
        ConfigError: an unknown one, or the reference alone.
        BackendError: dali-gpu where there is no GPU.
    """
    from dalipipe.backends import cuda_works, resolve_backend
    from dalipipe.parity import MEASURED, REFERENCE

    if backends == "all that run here":
        return tuple(name for name in MEASURED if name != "dali-gpu" or cuda_works())
    given = [resolve_backend(name) for name in backends.replace(" ", "").strip(",").split(",")]
    names = tuple(dict.fromkeys(name for name in given if name != REFERENCE))
    if not names:
        raise ConfigError(
            f'--backends: must name one to hold against the reference, got "{backends}". '
            f"Choose from {', '.join(MEASURED)}."
        )
    return names


def _require_picture(path: Path | None) -> None:
    """Refuse, before anything is compared, an ending of a picture that could not be drawn in the end."""
    if path is not None and ending_of(path) not in (".png", ".jpg", ".jpeg", ".webp"):
        raise ConfigError(f"--picture: must end in .png, .jpg or .webp, got {path.name!r}. Rename it.")


def _show(comparison: Comparison, console: Console) -> None:
    console.print()
    console.print(
        Text.assemble((comparison.recipe, "bold"), f"  {comparison.images} images, {comparison.draws} draws of each")
    )
    for name, reason in comparison.refused.items():
        console.print(f"{name} refuses it: {printable(reason)}", markup=False)
    if comparison.unreadable:
        some = ", ".join(printable(Path(name).name) for name in comparison.unreadable[:3])
        console.print(f"{len(comparison.unreadable)} can't be read and are left out: {some}", markup=False)
    if not comparison.rows:
        return
    table = Table(box=None, padding=(0, 2, 0, 0), header_style="bold")
    for title in ("backend", "step"):
        table.add_column(title, no_wrap=True)
    for title in ("mean", "p99", "max", "allowed", "over"):
        table.add_column(title, justify="right", no_wrap=True)
    table.add_column("", no_wrap=True)
    table.add_column("worst image", overflow="ellipsis", no_wrap=True)
    for row in comparison.rows:
        table.add_row(*_cells(row), style="" if row.ok else "bold red")
    console.print(table)
    for row in comparison.rows:
        if not row.ok:
            console.print(f"  {row.backend}, {row.step}: {printable(row.problem)}", style="red", markup=False)


def _cells(row: Row) -> list[str]:
    difference, tolerance = row.difference, row.tolerance
    step = row.step if row.position is None or row.position == 0 else f"{row.position}. {row.step}"
    allowed = f"{tolerance.mean_abs:.3g}, {tolerance.max_abs:.3g}"
    figures = [f"{difference.mean_abs:.4f}", f"{difference.p99_abs:.3g}", f"{difference.max_abs:.3g}"]
    worst = printable("/".join(Path(row.worst).parts[-2:])) if row.worst else "none"
    mark = "" if row.ok else "BEYOND"  # colours don't reach a file or a pipe
    return [row.backend, step, *figures, allowed, f"{row.over} of {row.images}", mark, worst]


def _write(comparisons: list[Comparison], json: Path | None, picture: Path | None) -> None:
    if json is not None:
        plain = {
            "ok": all(comparison.ok for comparison in comparisons),
            "recipes": [comparison.plain() for comparison in comparisons],
        }
        text = json_module.dumps(plain, indent=2, allow_nan=False) + "\n"
        write_file(json, lambda file: file.write(text.encode("utf-8")))
    if picture is not None:
        from dalipipe.pictures import draw_worst, save

        save(draw_worst(comparisons), picture)


def _conclude(comparisons: list[Comparison], console: Console, json: Path | None, picture: Path | None) -> None:
    console.print()
    beyond = [row for comparison in comparisons for row in comparison.rows if not row.ok]
    backends = sorted({row.backend for comparison in comparisons for row in comparison.rows})
    if beyond:
        console.print(f"{len(beyond)} rows are beyond their tolerance; see above.", style="bold red")
    elif backends:
        console.print(f"{', '.join(backends)}: within tolerance of torchvision.", style="bold green")
    else:
        console.print("Nothing was compared.")
    for what, path in (("Every figure", json), ("The picture", picture)):
        if path is not None:
            console.print(f"{what} is in {printable(path)}.", markup=False)
