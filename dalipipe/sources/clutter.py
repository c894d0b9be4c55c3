"""What lies among the images of people's folders and is none: hidden and system files, archives, runs of training."""

from __future__ import annotations

import json
import os
import shlex
import tomllib
from collections.abc import Iterable, Sequence
from pathlib import Path
from typing import Any, Final

from dalipipe.sources.base import list_names

SYSTEM_NAMES: Final = frozenset(
    (
        "__macosx",  # archives made on a Mac
        "__pycache__",
        "@eadir",  # Synology's thumbnails
        "#recycle",
        "#snapshot",
        "@recycle",  # QNAP
        "@recently-snapshot",
        "$recycle.bin",  # Windows
        "recycler",
        "system volume information",
        "thumbs.db",
        "ehthumbs.db",
        "desktop.ini",
        "lost+found",
        "network trash folder",
        "temporary items",
        "icon\r",  # a Mac's own picture of a folder
    )
)
"""Names, in lower case, of files and folders that systems and network drives keep for themselves."""

ARCHIVES: Final = (
    *(".tar", ".tar.gz", ".tgz", ".tar.bz2", ".tbz2", ".tbz", ".tar.xz", ".txz", ".tar.zst", ".tzst", ".tar.lz4"),
    *(".zip", ".7z", ".rar"),
)
"""Endings of files that hold other files."""

LOCK: Final = ".dalipipe-lock.json"
"""The file in the output of a run that says who writes there."""

_SUMMARY: Final = "summary.json"
_CONFIG: Final = "config.toml"
_OF_CONFIG: Final = frozenset(("recipe", "batch_size", "split_seed", "checkpoint_every"))
_OF_SUMMARY: Final = (frozenset(("best", "evaluation", "config")), frozenset(("folds", "mean", "config")))
_LARGEST: Final = 64 * 2**20  # bytes of a summary that is looked at


def is_clutter(name: str) -> bool:
    """Return whether a file or folder of this name is hidden, or a system's own."""
    return name.startswith(".") or name.lower() in SYSTEM_NAMES


def archives_in(names: Iterable[str]) -> list[str]:
    """Return those of some file names that are archives'."""
    return [name for name in names if name.lower().endswith(ARCHIVES)]


def advice_on_archive(path: str) -> str:
    """Return the sentence that helps who gave an archive."""
    quoted, low = shlex.quote(path), path.lower()
    command = {".zip": f"unzip {quoted}", ".7z": f"7z x {quoted}", ".rar": f"unrar x {quoted}"}
    unpack = command.get(low[low.rfind(".") :], f"tar -xf {quoted}")
    return f"Unpack it (`{unpack}`), and give the folder that comes out."


def is_run(folder: str, names: Sequence[str]) -> bool:
    """Return whether a folder is the output of a run of `dalipipe train`, finished or not.

    Args:
        folder: The folder.
        names: Of what lies in it. No file but config.toml and summary.json is opened.
    """
    if LOCK in names:
        return True
    if _CONFIG in names and _read(folder, _CONFIG).keys() >= _OF_CONFIG:
        return True
    found = _read(folder, _SUMMARY) if _SUMMARY in names else {}
    return any(keys <= found.keys() for keys in _OF_SUMMARY)


def _read(folder: str, name: str) -> dict[str, Any]:
    """Return what a file of TOML or JSON holds; nothing where it is neither."""
    path = Path(folder, name)
    try:
        if not path.is_file() or path.stat().st_size > _LARGEST:
            return {}
        text = path.read_text(encoding="utf-8")
        content = tomllib.loads(text) if name == _CONFIG else json.loads(text)
    except (OSError, ValueError, RecursionError):
        return {}
    return content if isinstance(content, dict) else {}


class LeftOut:
    """What lies in a folder of images and is no data.

    Args:
        root: The folder.

    Attributes:
        root: The folder, which itself is never left out.
        folders: Hidden ones and systems' own.
        files: Likewise.
        runs: Outputs of `dalipipe train`.
    """

    def __init__(self, root: str) -> None:
        self.root = root
        self._prefix = root if root.endswith(os.sep) else root + os.sep
        self.folders: list[str] = []
        self.files: list[str] = []
        self.runs: list[str] = []

    def takes(self, path: str, is_folder: bool) -> bool:
        """Note a file or a folder, and return True, if it is hidden or a system's own."""
        if not is_clutter(path.rpartition(os.sep)[2]):
            return False
        (self.folders if is_folder else self.files).append(path[len(self._prefix) :])
        return True

    def add_run(self, folder: str) -> None:
        """Note the output of a run."""
        self.runs.append(folder[len(self._prefix) :])

    def add(self, other: LeftOut) -> None:
        """Note what another has noted of the same root."""
        self.folders += other.folders
        self.files += other.files
        self.runs += other.runs

    def has_run_below(self, name: str) -> bool:
        """Return whether a folder directly below the root is a run, or holds one."""
        return any(run == name or run.startswith(name + os.sep) for run in self.runs)

    @property
    def words(self) -> str:
        """What is left out, in a sentence without its full stop; empty where nothing is."""
        kinds = (
            (self.folders, "hidden or system folder", "hidden or system folders"),
            (self.files, "hidden or system file", "hidden or system files"),
            (self.runs, "run of dalipipe train", "runs of dalipipe train"),
        )
        parts = [
            f"{len(names)} {one if len(names) == 1 else several} ({list_names(sorted(names), 3)})"
            for names, one, several in kinds
            if names
        ]
        return f"folder {self.root!r}: left out {' and '.join(parts)}" if parts else ""
