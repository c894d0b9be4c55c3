"""The pictures of a run: curves, confusion, mistakes, augmentations, and where the time went."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from typing import TYPE_CHECKING, Any, Final

import numpy as np

from dalipipe.training.report.style import BLUE, INK, LINE, MUTED, ORANGE, RED, new_figure, shown
from dalipipe.training.report.tiles import Sheet, Tile

if TYPE_CHECKING:
    from dalipipe.training.measures.evaluation import Evaluation

Row = Mapping[str, float]
"""The measures of an epoch, by name."""

_MOST_COUNTS: Final = 15  # classes for which a matrix with a number in each cell can be read
_MOST_NAMES: Final = 60


def curves(rows: Sequence[Row], best: int) -> Any:
    """Return a figure of loss and accuracy over the epochs.

    Args:
        rows: One for each epoch.
        best: Number of the epoch whose network is kept.
    """
    figure = new_figure(8.4, 3.3)
    left, right = figure.subplots(1, 2)
    loss_panel(left, rows, best)
    accuracy_panel(right, rows, best)
    return figure


def panel(draw: Callable[[Any, Sequence[Row], int], None], rows: Sequence[Row], best: int) -> Any:
    """Return a figure of one panel of `curves`."""
    figure = new_figure(4.6, 3.1)
    draw(figure.subplots(), rows, best)
    return figure


def loss_panel(axes: Any, rows: Sequence[Row], best: int) -> None:
    """Draw the loss over the epochs."""
    axes.set_title("Loss")
    _lines(axes, rows, best, "loss")


def accuracy_panel(axes: Any, rows: Sequence[Row], best: int) -> None:
    """Draw the accuracy over the epochs."""
    axes.set_title("Accuracy")
    _lines(axes, rows, best, "acc")
    axes.yaxis.set_major_formatter(lambda value, _: f"{value:.0%}")


def _lines(axes: Any, rows: Sequence[Row], best: int, name: str) -> None:
    epochs = [int(row["epoch"]) for row in rows]
    few = len(epochs) <= 30
    for part, colour, label in (("train", BLUE, "training"), ("val", ORANGE, "validation")):
        values = [row[f"{part}_{name}"] for row in rows]
        axes.plot(epochs, values, color=colour, marker="o" if few else None, markersize=3, label=label)
    axes.axvline(best, color=MUTED, linewidth=0.8, linestyle=(0, (3, 3)), zorder=0)
    axes.annotate(
        "kept",
        (best, 1),
        (3 if best <= epochs[len(epochs) // 2] else -3, -2),
        xycoords=("data", "axes fraction"),
        textcoords="offset points",
        ha="left" if best <= epochs[len(epochs) // 2] else "right",
        va="top",
        fontsize=8,
        color=MUTED,
    )
    axes.set_xlabel("epoch")
    axes.set_xlim(epochs[0] - 0.4, epochs[-1] + 0.4)
    axes.xaxis.get_major_locator().set_params(integer=True)
    axes.margins(y=0.12)
    axes.legend(loc="best")


def confusion(evaluation: Evaluation) -> Any:
    """Return a figure of which class was taken for which, each row in shares of its class."""
    table = evaluation.confusion
    number = len(table)
    side = min(11.0, max(3.4, 1.9 + 0.42 * number))
    figure = new_figure(side + 0.5, side)
    axes = figure.subplots()
    shares = table / np.maximum(1, table.sum(axis=1, keepdims=True))
    axes.imshow(shares, cmap=_colours(), vmin=0, vmax=1)
    axes.set_title("Confusion")
    axes.set_xlabel("taken for")
    axes.set_ylabel("is")
    axes.grid(False)
    axes.spines[:].set_visible(False)
    if number <= _MOST_NAMES:
        names = [shown(name, 18) for name in evaluation.classes]
        axes.set_xticks(range(number), names, rotation=45 if number > 3 else 0, ha="right" if number > 3 else "center")
        axes.set_yticks(range(number), names)
        for label in (*axes.get_xticklabels(), *axes.get_yticklabels()):
            label.set(color=INK, fontsize=8.5 if number <= _MOST_COUNTS else 6)
    if number <= _MOST_COUNTS:
        for row, column in np.ndindex(table.shape):
            if table[row, column]:
                colour = "white" if shares[row, column] > 0.55 else INK
                axes.text(column, row, str(table[row, column]), ha="center", va="center", color=colour, fontsize=9)
        axes.set_xticks(np.arange(number + 1) - 0.5, minor=True)
        axes.set_yticks(np.arange(number + 1) - 0.5, minor=True)
        axes.grid(True, which="minor", axis="both", color="white", linewidth=2)
        axes.tick_params(which="minor", length=0)
    return figure


def _colours() -> Any:
    from matplotlib.colors import LinearSegmentedColormap

    return LinearSegmentedColormap.from_list("dalipipe", ["#f5f7fa", "#9fb8d1", BLUE, "#173a5c"])


def mistakes(tiles: Sequence[Tile], images: int) -> Any:
    """Return a figure of images taken for another class.

    Args:
        tiles: The images, the most confident mistakes first; their titles and notes are shown.
        images: How many were classified.
    """
    if not tiles:
        figure = new_figure(6, 1.6)
        figure.text(0.5, 0.5, f"No mistakes on {images} validation images", ha="center", va="center", fontsize=11)
        return figure
    columns = min(4, len(tiles))
    lines = -(-len(tiles) // columns)
    figure = new_figure(2.15 * columns, 2.6 * lines + 0.35)
    figure.suptitle("Most confident mistakes", x=0.012, ha="left", fontsize=10, fontweight="bold")
    for axes, tile in zip(figure.subplots(lines, columns, squeeze=False).flat, [*tiles, *[None] * 3], strict=False):
        axes.axis("off")
        if tile is not None:
            axes.imshow(tile.pixels)
            axes.set_title(f"{shown(tile.title, 30)}\n{shown(tile.note, 34)}", fontsize=7.5, fontweight="normal", pad=4)
    return figure


def augmentations(sheet: Sheet) -> Any:
    """Return a figure of what the recipe makes of a few images in the first epochs."""
    lines, columns = len(sheet.rows), len(sheet.headings)
    figure = new_figure(1.55 * columns, 1.6 * lines + 0.35)
    for number, row in enumerate(figure.subplots(lines, columns, squeeze=False)):
        for column, axes in enumerate(row):
            axes.axis("off")
            axes.imshow(sheet.rows[number][column])
            if number == 0:
                axes.set_title(sheet.headings[column], fontsize=8, fontweight="normal", loc="center", pad=4)
    return figure


def timing(rows: Sequence[Row]) -> Any:
    """Return a figure of the seconds of each epoch's training pass: computing, and waiting for images."""
    figure = new_figure(6.6, 2.3)
    axes = figure.subplots()
    epochs = [int(row["epoch"]) for row in rows]
    waited = [row["train_s"] * row["data_wait_fraction"] for row in rows]
    computed = [row["train_s"] - wait for row, wait in zip(rows, waited, strict=True)]
    axes.bar(epochs, computed, width=0.7, color=BLUE, label="computing")
    axes.bar(epochs, waited, width=0.7, bottom=computed, color=RED, label="waiting for images")
    axes.set_title("Seconds of the training pass")
    axes.set_xlabel("epoch")
    axes.xaxis.get_major_locator().set_params(integer=True)
    axes.set_xlim(epochs[0] - 0.6, epochs[-1] + 0.6)
    axes.legend(loc="lower right", bbox_to_anchor=(1.0, 1.0), ncols=2, borderpad=0)
    axes.spines["bottom"].set_color(LINE)
    return figure
