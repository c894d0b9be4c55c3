"""How every picture looks: one set of colours, sizes and fonts."""

from __future__ import annotations

import warnings
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any, Final

INK: Final = "#1f2933"
MUTED: Final = "#7b8794"
LINE: Final = "#e4e7eb"
BLUE: Final = "#2f5d8a"
ORANGE: Final = "#c8702a"
RED: Final = "#b23a48"

PNG_DPI: Final = 160

_SETTINGS: Final[Any] = {
    "font.family": ["DejaVu Sans"],
    "font.size": 9,
    "axes.titlesize": 10,
    "axes.titleweight": "bold",
    "axes.titlelocation": "left",
    "axes.titlepad": 10,
    "axes.edgecolor": LINE,
    "axes.labelcolor": MUTED,
    "axes.spines.top": False,
    "axes.spines.right": False,
    "axes.spines.left": False,
    "axes.grid": True,
    "axes.grid.axis": "y",
    "axes.axisbelow": True,
    "grid.color": LINE,
    "grid.linewidth": 0.8,
    "xtick.color": MUTED,
    "ytick.color": MUTED,
    "xtick.major.size": 0,
    "ytick.major.size": 0,
    "text.color": INK,
    "text.parse_math": False,  # a class may be called $5
    "legend.frameon": False,
    "lines.linewidth": 1.8,
    "svg.fonttype": "none",  # the browser's own letters, as in the page around the picture
}


@contextmanager
def style() -> Iterator[None]:
    """Draw and save in the project's style."""
    import matplotlib

    with matplotlib.rc_context(_SETTINGS), warnings.catch_warnings():
        # A class name in letters that matplotlib's font lacks is drawn as boxes; the page has it right.
        warnings.filterwarnings("ignore", message="Glyph .* missing from font")
        yield


def new_figure(width_in: float, height_in: float) -> Any:
    """Return an empty figure of that size; it belongs to no window, so nothing has to be closed."""
    from matplotlib.backends.backend_agg import FigureCanvasAgg
    from matplotlib.figure import Figure

    figure = Figure(figsize=(width_in, height_in), layout="constrained", facecolor="white")
    FigureCanvasAgg(figure)
    return figure


def shown(text: object, most: int = 0) -> str:
    """Return text that can be written as UTF-8, in one line; its middle is left out beyond `most` characters."""
    clean = "".join(c if c.isprintable() else c.encode("unicode_escape").decode("ascii") for c in str(text))
    if most and len(clean) > most:
        head = (most - 1) // 2
        return f"{clean[:head]}…{clean[len(clean) - (most - 1 - head) :]}"
    return clean
