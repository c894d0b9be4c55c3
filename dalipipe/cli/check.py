"""`dalipipe check`: what is wrong with a folder of images, before a training finds out."""

from __future__ import annotations

import json as json_module
import os
import shlex
import sys
import time
from collections.abc import Iterator
from contextlib import contextmanager, redirect_stderr
from pathlib import Path
from typing import IO, TYPE_CHECKING, Annotated

import typer
from rich.console import Console
from rich.table import Table
from rich.text import Text

from dalipipe.cli.console import Bar, printable, results, said_on
from dalipipe.cli.paths import given_path
from dalipipe.cli.statuses import FAILED
from dalipipe.errors import listed
from dalipipe.writing import write_file

if TYPE_CHECKING:
    from dalipipe.inspection import Duplicates, File, Fixes, Report, Tally

_SHOWN = 10  # names of a kind
_CLASSES = 20
_WIDTH = 132
_TITLES = {
    "unreadable": "can't be read",
    "empty": "zero-sized",
    "truncated": "truncated",
    "undecodable": "undecodable",
    "enormous": "enormous",
    "unsuitable": "not fit for the recipe",
    "large": "very large",
    "misnamed": "misnamed",
    "suspicious": "suspicious",
}
_ACROSS = {
    "train and val": "the same image in train and val, which `dalipipe train` refuses",
    "classes": "the same image in different classes",
    "one class": "the same image twice in a class",
}


def register(app: typer.Typer) -> None:
    """Add the command to the app."""
    app.command("check")(check)


def check(
    data: Annotated[
        Path | None,
        typer.Argument(
            parser=given_path,
            metavar="DATA",
            help="Folder that holds a folder of images per class, or train and val that hold those. "
            "Default: generated demonstration pictures.",
            show_default=False,
        ),
    ] = None,
    json: Annotated[
        Path | None,
        typer.Option("--json", parser=given_path, help="Write everything found to this file.", metavar="FILE"),
    ] = None,
    fix_list: Annotated[
        Path | None,
        typer.Option(
            "--fix-list",
            parser=given_path,
            help="Write a shell script that renames misnamed images and moves away those that no training could read.",
            metavar="FILE",
        ),
    ] = None,
    recipe: Annotated[
        str | None,
        typer.Option(
            "--recipe",
            metavar="RECIPE",
            help="Recipe of the training, which must be able to use each image: a name or a TOML file. "
            "Default: that of `dalipipe train`.",
            show_default=False,
        ),
    ] = None,
) -> None:
    """Find the images that would spoil a training: every file is read, decoded and compared.

    The exit status is 1 where one would fail in training, or training would refuse DATA. Nothing in DATA is changed.
    """
    from dalipipe.cli.outputs import require_places
    from dalipipe.inspection import fixes, inspect
    from dalipipe.loading import available_threads  # torch takes seconds to import, which --help should not
    from dalipipe.recipes import Recipe
    from dalipipe.training.choice import choose_recipes
    from dalipipe.training.config import TrainConfig

    require_places({"--json": json, "--fix-list": fix_list}, [data, recipe])
    loaded = Recipe.load(recipe) if recipe else choose_recipes(TrainConfig(data=data)).train
    console = results(beside=(json, fix_list))
    if not console.is_terminal:
        console.width = _WIDTH
    if data is None:
        console.print("No DATA given: checking generated demonstration pictures.", markup=False)
    start = time.monotonic()
    with _quiet_libraries() as terminal, said_on(terminal), Bar(terminal) as bar:
        report = inspect(data, available_threads(), bar.show, loaded)
    _show(report, console, time.monotonic() - start)
    repairs = fixes(report)
    if json is not None:
        text = json_module.dumps(report.plain(), indent=2, allow_nan=False) + "\n"
        write_file(json, lambda file: file.write(text.encode("ascii")))
    if fix_list is not None:
        write_file(fix_list, lambda file: file.write(repairs.script()))
    _conclude(report, repairs, console, json, fix_list)
    if report.refused or not report.ok:
        raise typer.Exit(FAILED)


@contextmanager
def _quiet_libraries() -> Iterator[IO[str]]:
    """Keep decoders in C from writing to standard error, and give a file that still does.

    They name no image, and would tear the progress bar; what they complain of is found and said here.
    """
    sys.stderr.flush()
    kept = os.dup(2)
    nowhere = os.open(os.devnull, os.O_WRONLY)
    try:
        os.dup2(nowhere, 2)
        # What Python says, warnings above all, is no chatter.
        with (
            os.fdopen(os.dup(kept), "w", encoding=sys.stderr.encoding or "utf-8") as terminal,
            redirect_stderr(terminal),
        ):
            yield terminal
    finally:
        os.dup2(kept, 2)
        os.close(kept)
        os.close(nowhere)


def _count(number: int, what: str) -> str:
    plural = f"{what}es" if what.endswith("s") else f"{what}s"
    return f"{number:,} {what if number == 1 else plural}"


def _show(report: Report, console: Console, seconds: float) -> None:
    tallies = report.tallies()
    labels, parts = len({row.label for row in tallies}), list(dict.fromkeys(row.part for row in tallies if row.part))
    divided = f", {' and '.join(parts)}" if parts else ""
    console.print()
    console.print(
        Text.assemble(
            (printable(report.root), "bold"),
            f"  {_count(len(report.files), 'image')} in {_count(labels, 'class')}{divided}; checked in {seconds:.1f} s",
        )
    )
    console.print()
    _show_classes(tallies, console)
    console.print()
    _show_sizes(report, console)
    _show_findings(report, console)
    if report.left_out:
        endings = ", ".join(
            f"{printable(name) or 'no ending'} {count}" for name, count in report.endings_left_out().items()
        )
        console.print()
        console.print(Text.assemble(("Not seen by training, for their ending or place: ", "bold"), endings))


def _show_classes(tallies: list[Tally], console: Console) -> None:
    table = Table(box=None, padding=(0, 3, 0, 0), header_style="bold")
    table.add_column("class", no_wrap=True, overflow="ellipsis")
    for title in ("images", "good", "would fail", "warnings"):
        table.add_column(title, justify="right", no_wrap=True)
    shown = tallies
    if len(tallies) > _CLASSES:  # those with the most problems, in their order
        worst = sorted(tallies, key=lambda row: (-row.failing, -row.warned))[:_CLASSES]
        shown = [row for row in tallies if row in worst]
    for row in shown:
        name = Text(printable(f"{row.part}/{row.label}" if row.part else row.label))  # it may look like markup
        style = "bold red" if row.failing else ""
        images = row.good + row.failing + row.warned
        table.add_row(name, *(f"{n:,}" if n else "-" for n in (images, row.good, row.failing, row.warned)), style=style)
    console.print(table)
    rest = [row for row in tallies if row not in shown]
    if rest:
        failing = sum(row.failing for row in rest)
        console.print(f"and {_count(len(rest), 'more class')}, {failing:,} of whose images would fail", markup=False)


def _show_sizes(report: Report, console: Console) -> None:
    sizes = report.sizes()
    if not sizes:
        return
    table = Table(box=None, padding=(0, 3, 0, 0), header_style="bold")
    table.add_column("size", no_wrap=True)
    for title in ("least", "median", "most"):
        table.add_column(title, justify="right", no_wrap=True)
    for title, name, unit, digits in (
        ("width, px", "width_px", 1, 0),
        ("height, px", "height_px", 1, 0),
        ("megapixels", "megapixels", 1, 2),
        ("file, KB", "size_bytes", 1000, 1),
    ):
        extent = sizes[name]
        table.add_row(title, *(f"{value / unit:,.{digits}f}" for value in (extent.least, extent.median, extent.most)))
    console.print(table)


def _show_findings(report: Report, console: Console) -> None:
    from dalipipe.inspection import FAILING, WARNINGS

    for title, kinds, style in (("Would fail in training", FAILING, "bold red"), ("Warnings", WARNINGS, "bold yellow")):
        found = {kind: report.of_kind(kind) for kind in kinds}
        if not any(found.values()):
            continue
        console.print()
        console.print(title, style=style)
        for kind, entries in found.items():
            if kind == "duplicate":
                _show_duplicates(report, console)
            elif entries:
                _show_kind(_TITLES[kind], [_line(file, reason) for file, reason in entries], console)


def _line(file: File, reason: str) -> tuple[str, str]:
    return printable(file.name), printable(reason)


def _show_duplicates(report: Report, console: Console) -> None:
    for across, title in _ACROSS.items():
        groups = [group for group in report.duplicates if group.across == across]
        if groups:
            _show_kind(title, [_same(report, group) for group in groups], console)


def _same(report: Report, group: Duplicates) -> tuple[str, str]:
    first, *others = (printable(report.files[position].name) for position in group.positions)
    return first, f"= {listed(others, 3, ' = ')}"


def _show_kind(title: str, entries: list[tuple[str, str]], console: Console) -> None:
    console.print(f"  {title}: {len(entries):,}", markup=False, style="bold")
    width = max(len(name) for name, _ in entries[:_SHOWN])
    for name, reason in entries[:_SHOWN]:
        console.print(f"    {name:{width}}  {reason}", markup=False)
    if len(entries) > _SHOWN:
        console.print(f"    and {len(entries) - _SHOWN:,} more; --json FILE lists all of them", markup=False)


def _conclude(report: Report, repairs: Fixes, console: Console, json: Path | None, fix_list: Path | None) -> None:
    console.print()
    failing = sum(file.fails for file in report.files)
    if report.refused:
        console.print("`dalipipe train` refuses the folder as it is:", style="bold red")
        console.print(f"  {printable(report.refused)}", markup=False)
    if failing:
        console.print(f"{_count(failing, 'image')} would fail in training.", style="bold red")
    elif report.refused:
        console.print("Every image can be decoded.", style="bold yellow")
    elif any(file.findings for file in report.files):
        console.print("Every image can be trained on; the warnings are worth a look.", style="bold green")
    else:
        console.print("Every image can be trained on, and nothing is odd.", style="bold green")
    if json is not None:
        console.print(f"Everything found is in {printable(json)}.", markup=False)
    if fix_list is not None:
        todo = f"renames {len(repairs.renamed):,} and moves {len(repairs.moved):,} to {repairs.rejected}"
        console.print(
            printable(f"{fix_list} {todo}. Read it, then run: sh {fix_list}")
            if repairs.renamed or repairs.moved
            else printable(f"{fix_list} has nothing to rename or to move."),
            markup=False,
        )
    elif repairs.renamed or repairs.moved:
        console.print("Next: --fix-list fix.sh writes a script that renames and moves such files.", markup=False)
    if failing and not report.refused:
        root = shlex.quote(report.root)
        console.print(printable(f"Or train without them: dalipipe train {root} --on-error skip"), markup=False)
