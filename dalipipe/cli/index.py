"""`dalipipe index`: the list of a folder's images in a file, so that a training need not go through the folders."""

from __future__ import annotations

import time
from pathlib import Path
from typing import Annotated

import typer

from dalipipe.cli.console import Bar, results
from dalipipe.cli.paths import given_path


def register(app: typer.Typer) -> None:
    """Add the command to the app."""
    app.command("index")(index)


def index(
    data: Annotated[
        Path,
        typer.Argument(
            parser=given_path,
            metavar="DATA",
            help="Folder that holds a folder of images per class, or train and val that hold those.",
        ),
    ],
) -> None:
    """List the images of a folder once and for all: what loads them then starts at once.

    The list is a Parquet file in the folder, .dalipipe-index.parquet, with a line for each image: path and class. Where
    the folder can't be written to, it is kept in the user's cache. It is taken only while no folder in DATA has
    changed; else the folder is listed as without it, with a warning. Needs pyarrow.
    """
    from dalipipe.sources import find_parts, index_folder

    parts = find_parts(data)
    folders = [data] if parts is None else [part for part in (parts.train, parts.val, parts.test) if part is not None]
    console = results()
    for folder in folders:
        start = time.monotonic()
        with Bar() as bar:
            source, place = index_folder(folder, lambda done, total: bar.show("listing folders", done, total))
        size_mb, took_s = place.stat().st_size / 1e6, time.monotonic() - start
        counts = f"{len(source):,} images of {len(source.classes):,} classes"
        console.print(f"{folder}: {counts} in {took_s:.1f} s; wrote {place}, {size_mb:.1f} MB", markup=False)
