"""A shell script that puts a folder right: misnamed images are renamed, what would fail is moved out of the way."""

from __future__ import annotations

import os
import shlex
from dataclasses import dataclass

from dalipipe.inspection.content import ENDINGS
from dalipipe.inspection.report import File, Report

_HEAD = """#!/bin/sh
# Written by `dalipipe check` for the images in
#     {root}
# Read it before you run it with `sh`. It renames misnamed images, and moves files that would fail in training to
#     {rejected}
# Nothing is deleted or overwritten. It works from any folder, and a second run does no harm.

move() {{
    if [ ! -e "$1" ] && [ ! -L "$1" ]; then
        printf 'no longer there: %s\\n' "$1" >&2
    elif [ -e "$2" ] || [ -L "$2" ]; then
        printf 'left where it is, for its new name is taken: %s\\n' "$1" >&2
    else
        mv -n -- "$1" "$2"
    fi
}}
"""


@dataclass(frozen=True)
class Fixes:
    """What is to be done, as pairs of absolute paths, from and to.

    Attributes:
        root: The folder of images.
        rejected: The folder beside it for what would fail.
        renamed: Misnamed images and their right names.
        moved: Files that would fail, and where they go.
    """

    root: str
    rejected: str
    renamed: tuple[tuple[str, str], ...]
    moved: tuple[tuple[str, str], ...]

    def script(self) -> bytes:
        """Return the script. Names are written byte for byte as they are, whatever they hold."""
        # In comments they are in Python's notation, in which none ends the line.
        lines = [_HEAD.format(root=ascii(self.root), rejected=ascii(self.rejected))]
        if self.renamed:
            lines.append(f"\n# Misnamed: {len(self.renamed)}\n")
            lines += [_move(source, target) for source, target in self.renamed]
        if self.moved:
            lines.append(f"\n# Would fail in training: {len(self.moved)}\n")
            folders = sorted({os.path.dirname(target) for _, target in self.moved})  # noqa: PTH120
            lines += [f"mkdir -p -- {shlex.quote(folder)}\n" for folder in folders]
            lines += [_move(source, target) for source, target in self.moved]
        return b"".join(os.fsencode(line) for line in lines)


def fixes(report: Report) -> Fixes:
    """Return what puts a folder right. Duplicates and what is merely suspicious are left to a person."""
    root = os.path.realpath(report.root)
    rejected = f"{root}-rejected"
    taken: set[str] = set()
    renamed, moved = [], []
    for file in report.files:
        source = f"{root}{os.sep}{file.name}"
        if file.broken:
            # What has vanished can't be moved.
            if os.path.lexists(source):
                moved.append((source, _free(f"{rejected}{os.sep}{file.name}", taken)))
        elif any(finding.kind == "misnamed" for finding in file.findings):
            target = _renamed(source, file)
            if target is not None:
                renamed.append((source, _free(target, taken)))
    return Fixes(root, rejected, tuple(renamed), tuple(moved))


def _renamed(source: str, file: File) -> str | None:
    """Return the right name; None where under it training would no longer see the image."""
    endings = ENDINGS.get(file.form or "")
    return None if endings is None else os.path.splitext(source)[0] + endings[0]  # noqa: PTH122


def _free(path: str, taken: set[str]) -> str:
    """Return a path that nothing has or will have, with a number before its ending if need be."""
    stem, ending = os.path.splitext(path)  # noqa: PTH122
    number = 1
    while path in taken or os.path.lexists(path):
        number += 1
        path = f"{stem}-{number}{ending}"
    taken.add(path)
    return path


def _move(source: str, target: str) -> str:
    return f"move {shlex.quote(source)} {shlex.quote(target)}\n"
