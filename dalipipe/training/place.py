"""Where a run writes: never among the images that it, or a later run, learns from."""

from __future__ import annotations

import os
import time
from pathlib import Path

from dalipipe.errors import ConfigError


def new_output() -> Path:
    """Return a directory below runs that isn't there yet, named after the time."""
    return _free(Path("runs", time.strftime("%Y%m%d-%H%M%S")))


def beside(data: Path, output: Path) -> Path:
    """Return an output that nobody chose, beside the data where it would lie in them, under a name that is free."""
    root = Path(os.path.realpath(data.expanduser()))
    return _free(root.parent / output) if _lies_in(output, root) else output


def _free(place: Path) -> Path:
    """Return a path, or with a number behind it: the first that isn't there."""
    name, number = place.name, 1
    while os.path.lexists(place):
        number += 1
        place = place.with_name(f"{name}_{number}")
    return place


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
