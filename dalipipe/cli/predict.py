"""`dalipipe predict`: image files in, a line for each with what the network takes it for."""

from __future__ import annotations

import itertools
import sys
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

from dalipipe.cli.console import complain, printable, results
from dalipipe.cli.paths import given_path
from dalipipe.cli.statuses import FAILED
from dalipipe.errors import ConfigError, SourceError
from dalipipe.writing import to_json

if TYPE_CHECKING:
    from dalipipe.training.measures.prediction import Prediction


def register(app: typer.Typer) -> None:
    """Add the command to the app."""
    app.command("predict")(predict)


def predict(
    checkpoint: Annotated[Path, typer.Argument(parser=given_path, metavar="CHECKPOINT", help="A best.pt or last.pt.")],
    paths: Annotated[
        list[str], typer.Argument(metavar="PATHS...", help="Images, folders (searched to any depth) and patterns.")
    ],
    top_k: Annotated[int, typer.Option("--top-k", min=1, metavar="K", help="Guesses for each image.")] = 1,
    as_json: Annotated[bool, typer.Option("--json", help="Print a JSON list.")] = False,
    as_csv: Annotated[bool, typer.Option("--csv", help="Print CSV with a header, safe in spreadsheets.")] = False,
    batch_size: Annotated[int, typer.Option("--batch-size", min=1, metavar="N", help="Images at once.")] = 32,
    backend: Annotated[str, typer.Option("--backend", metavar="NAME", help="What loads images.")] = "auto",
    device: Annotated[str, typer.Option("--device", metavar="NAME", help="Where the network runs.")] = "auto",
) -> None:
    """Say what a trained network takes images for.

    Files that can't be read are reported on standard error; the rest are predicted, and the exit status is 1.
    """
    if as_json and as_csv:
        raise ConfigError("predict: --json and --csv exclude one another, got both. Give one of them.")
    from dalipipe.training.measures import prediction  # imports torch and DALI, which takes seconds
    from dalipipe.training.network.trained import load_model

    files, problems = prediction.find_images(paths)
    if not files:
        reasons = "; ".join(f"{problem.file!r}: {problem.error}" for problem in problems)
        raise SourceError(f"predict: needs at least one image, got none ({reasons}). Check the paths.")
    trained = load_model(checkpoint, device)
    found = prediction.predict_files(trained, files, top_k=top_k, batch_size=batch_size, backend=backend)
    show: _Text | _Json | _Csv = _Json() if as_json else _Csv() if as_csv else _Text()
    failed = 0
    for one in itertools.chain(found, problems):
        failed += bool(one.error)
        if one.error:
            complain(f"{one.file!r}: {one.error}.")
        show.add(one)
    show.end()
    if failed:
        complain(f"predict: {failed} of {len(files) + len(problems)} could not be used; see above.")
        raise typer.Exit(FAILED)


class _Text:
    """One line for each image."""

    def __init__(self) -> None:
        self._console = results()

    def add(self, one: Prediction) -> None:
        if not one.error:
            guesses = "  ".join(f"{printable(guess.name)} {guess.probability:.1%}" for guess in one.guesses)
            self._console.print(f"{printable(one.file)}  {guesses}", markup=False)

    def end(self) -> None:
        pass


class _Json:
    """A list with an object for each file; those that could not be used have an "error"."""

    def __init__(self) -> None:
        self._rows: list[dict[str, Any]] = []

    def add(self, one: Prediction) -> None:
        row: dict[str, Any] = {"file": one.file}
        if one.error:
            row["error"] = one.error
        else:
            row["class"], row["probability"] = one.guesses[0].name, round(one.guesses[0].probability, 6)
            row["top"] = [{"class": guess.name, "probability": round(guess.probability, 6)} for guess in one.guesses]
        self._rows.append(row)

    def end(self) -> None:
        typer.echo(to_json(self._rows), nl=False)


class _Csv:
    """A header, and a row for each image that could be used; file names come out byte for byte.

    What a spreadsheet would take for a formula is kept from it: a file's name begins with ./ then, and a class' with '.
    """

    def __init__(self) -> None:
        reconfigure = getattr(sys.stdout, "reconfigure", None)
        if reconfigure is not None:
            reconfigure(errors="surrogateescape", newline="")
        self._columns = 0

    def add(self, one: Prediction) -> None:
        if one.error:
            return
        if not self._columns:
            self._columns = len(one.guesses)
            names = [f"{name}_{rank}" for rank in range(2, self._columns + 1) for name in ("class", "probability")]
            self._write(["file", "class", "probability", *names])
        cells = [cell for guess in one.guesses for cell in (_harmless(guess.name, "'"), f"{guess.probability:.6f}")]
        self._write([_harmless(one.file, "./"), *cells])

    def _write(self, cells: list[str]) -> None:
        sys.stdout.write(",".join(map(_quoted, cells)) + "\n")

    def end(self) -> None:
        sys.stdout.flush()


def _quoted(cell: str) -> str:
    """Return a cell of CSV; Python's own writer leaves a lone carriage return bare, which ends a row."""
    is_plain = cell.isprintable() and not set(cell) & set(',"') and cell == cell.strip()
    return cell if is_plain else '"' + cell.replace('"', '""') + '"'


def _harmless(cell: str, before: str) -> str:
    """Return a cell that no spreadsheet takes for a formula."""
    return before + cell if cell.startswith(("=", "+", "-", "@", "\t", "\r")) else cell
