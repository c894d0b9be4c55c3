"""Where a run writes: never among the images that it, or a later run, learns from."""

from __future__ import annotations

import os
import time
from pathlib import Path

from dalipipe.errors import ConfigError


def new_output() -> Path:
    """Return a directory below runs that isn't there yet, named after the time."""
    place = Path("runs", time.strftime("%Y%m%d-%H%M%S"))
    number = 1
    while os.path.lexists(place):
        number += 1
        place = place.with_name(f"{place.name.partition('_')[0]}_{number}")
    return place


def beside(data: Path, output: Path) -> Path:
    """Return an output that nobody chose, beside the data where it would lie in them."""
    root = Path(os.path.realpath(data.expanduser()))
    return root.parent / output if _lies_in(output, root) else output


def require_apart(output: Path, data: Path) -> None:
    """Refuse an output that is a folder of the data, whose images those of the run would join.

    A folder of its own within the data is no data, see `dalipipe.sources.clutter`.

    Raises:
        ConfigError: it is the folder of the data, or one in it that holds something other than a run.
    """
    from dalipipe.sources.clutter import is_clutter, is_run  # here, so that help needs no NumPy

    root = Path(os.path.realpath(data.expanduser()))
    try:
        names = [entry.name for entry in output.iterdir()] if _lies_in(output, root) else []
    except OSError:  # it isn't there, or is no directory
        return
    if [name for name in names if not is_clutter(name)] and not is_run(str(output), names):
        raise ConfigError(
            f"--output: must not be a folder of DATA, got {str(output)!r}, which holds {len(names)} files and folders."
            " Choose another directory."
        )


def _lies_in(output: Path, root: Path) -> bool:
    place = Path(os.path.realpath(output))
    return root == place or root in place.parents
