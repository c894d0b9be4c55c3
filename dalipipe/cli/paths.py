"""Paths on the command line."""

from __future__ import annotations

from pathlib import Path

import typer


def given_path(text: str) -> Path:
    """Return a path that was given; one of no letters, an unset variable say, would stand for the current directory."""
    if not text:
        raise typer.BadParameter("must be a path, got ''. Is a variable unset? The current directory is '.'.")
    return Path(text)
