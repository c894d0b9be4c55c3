"""What every command prints with: results on standard output, complaints in one line on standard error."""

import re
import sys

from rich.console import Console


def results(*, quiet: bool = False) -> Console:
    """Return a console on standard output. Where that is no terminal, lines are as long as they are."""
    return Console(highlight=False, soft_wrap=not sys.stdout.isatty(), quiet=quiet)


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
