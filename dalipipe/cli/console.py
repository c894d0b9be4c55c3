"""What every command prints with: results on standard output, complaints in one line on standard error."""

from __future__ import annotations

import logging
import re
import sys
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import IO

from rich.console import Console
from rich.progress import BarColumn, MofNCompleteColumn, Progress, TextColumn, TimeRemainingColumn

from dalipipe.writing import is_standard_output


def results(*, quiet: bool = False, beside: Sequence[Path | None] = ()) -> Console:
    """Return a console on standard output. Where that is no terminal, lines are as long as they are.

    Args:
        quiet: Whether it prints nothing.
        beside: Files that the command writes: where one is /dev/stdout, the console is on standard error.
    """
    file = sys.stderr if any(map(is_standard_output, beside)) else sys.stdout
    return Console(file=file, highlight=False, soft_wrap=not file.isatty(), quiet=quiet)


def printable(text: object) -> str:
    r"""Return the text in one line that any terminal can show: bytes of a name that aren't UTF-8 become `\udcff`."""
    joined = re.sub(r"\s*\n\s*", " ", str(text).strip())
    return "".join(c if c.isprintable() else c.encode("unicode_escape").decode("ascii") for c in joined)


def warn(message: str) -> None:
    """Print `warning: <message>` in one line on standard error."""
    print(f"warning: {printable(message)}", file=sys.stderr)


def complain(problem: BaseException | str) -> None:
    """Print `error: <message>` and, of an exception, its notes, in one line on standard error."""
    parts = [str(problem), *getattr(problem, "__notes__", ())]
    print(f"error: {printable(' '.join(parts))}", file=sys.stderr)


class _OnTerminal(logging.Handler):
    """Prints what is logged, in one line, on standard error."""

    terminal: IO[str] | None = None

    def emit(self, record: logging.LogRecord) -> None:
        print(printable(record.getMessage()), file=self.terminal or sys.stderr, flush=True)


_ON_TERMINAL = _OnTerminal()


@contextmanager
def compiling_said() -> Iterator[None]:
    """Say on standard error when there is a wait for the compiler, as a loader says it in its log."""
    log = logging.getLogger("dalipipe.compilation")
    level = log.level
    log.setLevel(logging.INFO)
    log.addHandler(_ON_TERMINAL)
    try:
        yield
    finally:
        log.removeHandler(_ON_TERMINAL)
        log.setLevel(level)


@contextmanager
def said_on(terminal: IO[str]) -> Iterator[None]:
    """Say it on a file, where standard error is led elsewhere."""
    _ON_TERMINAL.terminal = terminal
    try:
        yield
    finally:
        _ON_TERMINAL.terminal = None


class Bar:
    """The progress of a command, where it goes to a terminal.

    Args:
        terminal: Where it goes; by default standard error.
    """

    def __init__(self, terminal: IO[str] | None = None) -> None:
        file = sys.stderr if terminal is None else terminal
        self._bar = Progress(
            TextColumn("{task.description}"),
            BarColumn(bar_width=20),
            MofNCompleteColumn(),
            TimeRemainingColumn(),
            console=Console(file=file),
            transient=True,
            disable=not file.isatty(),
        )
        self._task = self._bar.add_task("starting", total=None)

    def __enter__(self) -> Bar:
        """Show it."""
        self._bar.start()
        return self

    def __exit__(self, *_exception: object) -> None:
        """Remove it."""
        self._bar.stop()

    def show(self, what: str, done: int, total: int) -> None:
        """Say what is being done, and how far it is."""
        self._bar.update(self._task, description=what, completed=done, total=total)
