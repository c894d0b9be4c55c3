"""Whether the files that a command is to write can be written, asked before its work begins."""

from __future__ import annotations

import os
from collections.abc import Mapping, Sequence
from pathlib import Path

from dalipipe.errors import ConfigError
from dalipipe.sources.folder import is_image_name
from dalipipe.writing import own_stream


def require_places(outputs: Mapping[str, Path | None], inputs: Sequence[str | os.PathLike[str] | None] = ()) -> None:
    """Refuse, before the work begins, files that could not be written in the end or that are read in it.

    Args:
        outputs: The files to write, by what to call them in an error; None for one that isn't wanted.
        inputs: Files and folders that are read.

    Raises:
        ConfigError: one is a directory, the directory for it is missing, either may not be written to, it is an input
            or would be an image of one, or two are the same.
    """
    given = {option: path for option, path in outputs.items() if path is not None}
    for option, path in given.items():
        _require_place(option, path)
        for source in inputs:
            if source is not None and _is_of(path, Path(source).expanduser()):
                raise ConfigError(f"{option}: must not be a file that is read, got {str(path)!r}. Choose another path.")
    places: dict[str, str] = {}
    for option, path in given.items():
        other = places.setdefault(os.path.realpath(path), option)
        if other != option:
            raise ConfigError(f"{other} and {option}: must be two files, got {str(path)!r} for both. Rename one.")


def _require_place(option: str, path: Path) -> None:
    if own_stream(path) is not None:
        return
    try:
        target = Path(os.path.realpath(path))
        is_directory, has_place = target.is_dir(), target.parent.is_dir()
        can_be_written = os.access(target if target.exists() else target.parent, os.W_OK)
    except (OSError, ValueError) as error:
        raise ConfigError(f"{option}: must be a path, got {str(path)!r} ({error}). Choose another.") from error
    if is_directory or not has_place:
        got = f"a directory ({str(path)!r})" if is_directory else f"no directory {str(target.parent)!r}"
        raise ConfigError(f"{option}: must be a file in a directory that is there, got {got}. Choose another path.")
    if not can_be_written:
        raise ConfigError(f"{option}: must be writable, got {str(path)!r}, which is not. Choose another path.")


def _is_of(path: Path, source: Path) -> bool:
    """Return whether a file is an input itself, or would be an image in a folder of an input folder."""
    try:
        if source.is_file():
            return path.is_file() and path.samefile(source)
        folder, root = Path(os.path.realpath(path)).parent, Path(os.path.realpath(source))
        return source.is_dir() and is_image_name(path.name) and root in folder.parents
    except (OSError, ValueError):
        return False
