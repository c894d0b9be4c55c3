"""The pictures of a run as files, and report.html: one page with all of them that needs nothing else."""

from __future__ import annotations

import base64
import io
import json
import os
import platform
from collections.abc import Mapping
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING, Any, Final

from PIL import Image

from dalipipe.sources import Source
from dalipipe.training.report import pictures, tiles
from dalipipe.training.report.style import PNG_DPI, shown, style
from dalipipe.writing import write_file

if TYPE_CHECKING:
    from dalipipe.training.measures.evaluation import Evaluation
    from dalipipe.training.observer import RunInfo

REPORT: Final = "report.html"
CURVES: Final = "curves.png"
CONFUSION: Final = "confusion.png"
MISTAKES: Final = "mistakes.png"
AUGMENTATIONS: Final = "augmentations.png"

_MOST_CLASSES: Final = 200  # rows of the table of classes


@dataclass(frozen=True)
class Outcome:
    """What a finished run is shown from.

    Attributes:
        info: What the run turned out to be.
        train: The training images.
        val: The validation images, in the order of `evaluation`'s indices.
        evaluation: Of the network that is kept, on `val`.
        summary: What summary.json holds.
    """

    info: RunInfo
    train: Source
    val: Source
    evaluation: Evaluation
    summary: Mapping[str, Any]


def write_report(directory: Path, outcome: Outcome) -> None:
    """Write curves.png, confusion.png, mistakes.png, augmentations.png and report.html.

    Args:
        directory: Of the run; its metrics.jsonl is read, and timing.jsonl where there is one.
        outcome: What the run came to.

    Raises:
        ConfigError: a file can't be written.
    """
    rows = read_rows(directory, outcome.info.train_images)
    best = int(outcome.summary["best"]["epoch"])
    wrong = tiles.mistake_tiles(outcome.evaluation, outcome.val)
    sheet = tiles.augmentation_sheet(outcome.train, outcome.info.recipe, outcome.info.cfg.seed)
    with style():
        confusion = pictures.confusion(outcome.evaluation)
        figures = {
            CURVES: pictures.curves(rows, best),
            CONFUSION: confusion,
            MISTAKES: pictures.mistakes(wrong, len(outcome.evaluation)),
            AUGMENTATIONS: pictures.augmentations(sheet),
        }
        for name, figure in figures.items():
            write_file(directory / name, partial(figure.savefig, dpi=PNG_DPI, format="png"))
        drawn = {
            "loss": _svg(pictures.panel(pictures.loss_panel, rows, best)),
            "accuracy": _svg(pictures.panel(pictures.accuracy_panel, rows, best)),
            "confusion": _svg(confusion),
            "timing": _svg(pictures.timing(rows)),
        }
    page = _render(outcome, rows, drawn, wrong, sheet)
    write_file(directory / REPORT, lambda file: file.write(page.encode("utf-8")))


def read_rows(directory: Path, train_images: int) -> list[dict[str, float]]:
    """Return the measures of every epoch, with `train_s`, the seconds of its training pass.

    Where an epoch was begun anew after an interruption, what was written last counts.
    """
    rows: dict[int, dict[str, float]] = {}
    for name in ("metrics.jsonl", "timing.jsonl"):
        path = directory / name
        for line in path.read_text(encoding="utf-8").splitlines() if path.exists() else ():
            row = json.loads(line)
            rows.setdefault(row["epoch"], {}).update(row)
    for row in rows.values():
        speed = row.setdefault("img_per_s", 0.0)
        row.setdefault("data_wait_fraction", 0.0)
        row.setdefault("train_s", train_images / speed if speed else 0.0)
    return [rows[epoch] for epoch in sorted(rows)]


def _render(
    outcome: Outcome,
    rows: list[dict[str, float]],
    drawn: Mapping[str, str],
    wrong: list[tiles.Tile],
    sheet: tiles.Sheet,
) -> str:
    from jinja2 import Environment, PackageLoader, StrictUndefined

    environment = Environment(
        loader=PackageLoader("dalipipe.training.report", "."),
        autoescape=True,
        undefined=StrictUndefined,
        trim_blocks=True,
        lstrip_blocks=True,
    )
    environment.filters.update(shown=shown, percent=lambda value: f"{value:.1%}".replace("%", " %"))
    evaluation, summary = outcome.evaluation, outcome.summary
    seconds = sum(row["train_s"] for row in rows)
    waited = sum(row["train_s"] * row["data_wait_fraction"] for row in rows)
    text: str = environment.get_template("report.html.j2").render(
        info=outcome.info,
        evaluation=evaluation,
        summary=summary,
        rows=rows,
        drawn=drawn,
        mistakes=[(_jpeg(tile.pixels), tile.title, tile.note) for tile in wrong],
        wrong=int((evaluation.predictions != evaluation.labels).sum()),
        headings=sheet.headings,
        sheet=[(name, [_jpeg(pixels) for pixels in row]) for name, row in zip(sheet.names, sheet.rows, strict=True)],
        classes=sorted(evaluation.per_class, key=lambda one: one.f1)[:_MOST_CLASSES],
        confused=_confused(evaluation),
        timing={"seconds": seconds, "waited": waited, "share": waited / seconds if seconds else 0.0},
        configuration=outcome.info.cfg.grouped(),
        environment=_environment(summary),
    )
    return text


def _environment(summary: Mapping[str, Any]) -> dict[str, str]:
    """Return where the run ran, as people read it."""
    rows = {
        "device": summary["device"],
        "loader backend": summary["backend"],
        "CPUs": str(os.cpu_count()),
        "processor": _processor(),
        "system": summary["platform"],
        "Python": summary["python"],
    }
    return {**rows, **{name: version for name, version in summary["versions"].items() if version}}


def _processor() -> str:
    """Return the name of the CPU where the system tells it."""
    try:
        lines = Path("/proc/cpuinfo").read_text(encoding="utf-8", errors="replace").splitlines()
    except OSError:
        lines = []
    names = [line.partition(":")[2].strip() for line in lines if line.startswith("model name")]
    return names[0] if names else platform.processor() or platform.machine()


def _confused(evaluation: Evaluation, most: int = 8) -> list[tuple[str, str, int]]:
    """Return the pairs of classes confused most often: what it is, what it was taken for, how many images."""
    names, table = evaluation.classes, evaluation.confusion
    pairs = [
        (int(table[row, column]), row, column)
        for row in range(len(names))
        for column in table[row].nonzero()[0].tolist()
        if row != column
    ]
    pairs.sort(key=lambda pair: (-pair[0], pair[1], pair[2]))
    return [(names[row], names[column], count) for count, row, column in pairs[:most]]


def _svg(figure: Any) -> str:
    buffer = io.BytesIO()
    figure.savefig(buffer, format="svg", metadata={"Date": None})
    # matplotlib names the one font it measured with; a browser without it takes its own.
    text = buffer.getvalue().replace(b"'DejaVu Sans'", b"system-ui, -apple-system, 'Segoe UI', 'DejaVu Sans'")
    return "data:image/svg+xml;base64," + base64.b64encode(text).decode("ascii")


def _jpeg(pixels: tiles.Pixels) -> str:
    buffer = io.BytesIO()
    Image.fromarray(pixels).save(buffer, "JPEG", quality=85)
    return "data:image/jpeg;base64," + base64.b64encode(buffer.getvalue()).decode("ascii")
