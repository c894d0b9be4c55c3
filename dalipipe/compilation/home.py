"""Where compiled code is kept."""

from __future__ import annotations

import contextlib
import logging
import os
import stat
import tempfile
import time
import warnings
from collections.abc import Iterator
from functools import cache
from pathlib import Path

import platformdirs

KEPT_DAYS = 30
"""Files that were not used for so long are removed."""
_UNFINISHED_DAYS = 1  # a file that a process was writing when it was killed

_log = logging.getLogger("dalipipe")


@cache
def home() -> Path | None:
    """Return the folder of compiled code, which only this user can write to; None, after a warning, where none can be.

    It is in the directory that DALIPIPE_CACHE or NUMBA_CACHE_DIR names, or in the user's cache directory; where that
    can't be used, it is a folder of this user's own under the temporary directory. What was not used for 30 days is
    removed from it.
    """
    reasons: list[str] = []
    for place, expected in _places():
        try:
            _make(place)
            reason = _unsafe(place)
        except OSError as error:
            reason = f"{place}: can't be written ({error.strerror or error})"
            if not expected:
                _log.info(reason)
                continue
        if reason is None:
            if reasons:
                warnings.warn(f"{'; '.join(reasons)}. Compiled code is kept in {place}.", RuntimeWarning, stacklevel=2)
            _sweep(place)
            return place
        reasons.append(reason)
    reasons = reasons or ["no directory can be written"]
    warnings.warn(
        f"{'; '.join(reasons)}. Compiled code is not kept: each process compiles anew. "
        "Set DALIPIPE_CACHE to a directory of your own.",
        RuntimeWarning,
        stacklevel=2,
    )
    return None


def _places() -> Iterator[tuple[Path, bool]]:
    """Yield where compiled code may be, the best place first, and whether the user expects that it can be there."""
    for variable, folder in (("DALIPIPE_CACHE", "compiled"), ("NUMBA_CACHE_DIR", "dalipipe")):
        if chosen := os.environ.get(variable):
            with contextlib.suppress(RuntimeError):  # "~", and there is no home
                chosen = str(Path(chosen).expanduser())
            yield Path(chosen).absolute() / folder, True
            break
    with contextlib.suppress(RuntimeError):  # there is no home
        usual = Path(platformdirs.user_cache_dir("dalipipe"))
        if usual.is_absolute():
            yield usual / "compiled", False
    with contextlib.suppress(OSError):
        yield Path(tempfile.gettempdir()).absolute() / f"dalipipe-{_user()}", False


def _user() -> int | str:
    return os.geteuid() if hasattr(os, "geteuid") else "compiled"


def _make(place: Path) -> None:
    """Make a folder and what it lies in, for this user alone.

    Raises:
        OSError: it can't be made, or not be written to.
    """
    for folder in (*reversed(place.parents), place):
        with contextlib.suppress(FileExistsError):
            if not folder.exists():
                folder.mkdir(mode=0o700)
    descriptor, name = tempfile.mkstemp(dir=place, suffix=".tmp")
    os.close(descriptor)
    Path(name).unlink()


def _unsafe(place: Path) -> str | None:
    """Return why what lies in a folder may be from somebody else; None where only this user can write there."""
    if not hasattr(os, "geteuid"):
        return None
    found = place.lstat()
    if not stat.S_ISDIR(found.st_mode):
        return f"{place}: must be a directory, got a link or file"
    if found.st_uid != os.geteuid():
        return f"{place}: belongs to another user (number {found.st_uid})"
    if found.st_mode & 0o022:
        return f"{place}: others can write to it"
    for folder in {*place.parents, *place.resolve().parents}:
        mode = folder.stat().st_mode
        if mode & stat.S_IWOTH and not mode & stat.S_ISVTX:
            return f"{place}: everybody can write to {folder}"
    return None


def _sweep(place: Path) -> None:
    """Remove what was not used for long. Whoever used it after all makes it anew."""
    now = time.time()
    with contextlib.suppress(OSError), os.scandir(place) as entries:
        for entry in entries:
            days = _UNFINISHED_DAYS if entry.name.endswith(".tmp") else KEPT_DAYS
            with contextlib.suppress(OSError):
                if entry.is_file(follow_symlinks=False) and entry.stat().st_mtime < now - days * 86400:
                    Path(entry.path).unlink()
