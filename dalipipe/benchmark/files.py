"""Where a benchmark is written to."""

from __future__ import annotations

import importlib.util
from pathlib import Path
from typing import Final

from dalipipe.benchmark.report import Benchmark
from dalipipe.errors import ConfigError
from dalipipe.writing import ending_of, to_json, write_file

PLOT_ENDINGS: Final = (".png", ".svg", ".pdf")


def write_json(benchmark: Benchmark, path: Path) -> None:
    """Write a benchmark as JSON.

    Raises:
        ConfigError: the file can't be written.
    """
    text = to_json(benchmark.plain())
    write_file(path, lambda file: file.write(text.encode("utf-8")))


def require_plot(option: str, path: Path) -> None:
    """Refuse, before anything is measured, a picture that could not be drawn in the end.

    Raises:
        ConfigError: matplotlib is missing, or the ending is none of PLOT_ENDINGS.
    """
    if ending_of(path) not in PLOT_ENDINGS:
        raise ConfigError(f"{option}: must end in {', '.join(PLOT_ENDINGS)}, got {path.name!r}. Rename it.")
    if importlib.util.find_spec("matplotlib") is None:
        raise ConfigError(f"{option}: needs matplotlib, got none. Run: pip install matplotlib.")


def write_plot(benchmark: Benchmark, path: Path) -> None:
    """Draw the images per second of every subject that was timed: a bar to the median, a line from least to most.

    Raises:
        ConfigError: the file can't be written.
    """
    from matplotlib.backends.backend_agg import FigureCanvasAgg
    from matplotlib.figure import Figure

    ranking = benchmark.ranking[::-1]
    spreads = [one.img_per_s for one in ranking]
    middle = [spread.median for spread in spreads]
    ends = [[s.median - s.low for s in spreads], [s.high - s.median for s in spreads]]
    figure = Figure(figsize=(8, 1.4 + 0.45 * len(ranking)), layout="constrained")
    FigureCanvasAgg(figure)
    axes = figure.add_subplot()
    axes.barh([one.name for one in ranking], middle, xerr=ends, color="#4c78a8", ecolor="black", capsize=3)
    axes.set_xlabel("images per second (median; the line goes from the slowest repetition to the fastest)")
    settings, machine = benchmark.settings, benchmark.environment
    axes.set_title(
        f"{settings['recipe']}, batches of {settings['batch_size']}, {settings['threads']} threads\n{machine['cpu']}",
        fontsize=10,
    )
    axes.spines[["top", "right"]].set_visible(False)
    form = ending_of(path).lstrip(".")
    write_file(path, lambda file: figure.savefig(file, dpi=150, format=form))
