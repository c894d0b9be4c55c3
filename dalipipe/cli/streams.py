"""Standard output and standard error as they may be: closed, full, or read by somebody who has gone."""

from __future__ import annotations

import errno
import os
import sys
from contextlib import suppress

from dalipipe.cli.console import complain
from dalipipe.cli.statuses import FAILED

_FULL = (errno.ENOSPC, errno.EDQUOT, errno.EFBIG, errno.EIO, errno.EBADF)


def open_closed() -> None:
    """Open what the process was started without (`>&-`): else the next file that is opened takes its number."""
    for number in range(3):
        try:
            os.fstat(number)
        except OSError:
            os.dup2(os.open(os.devnull, os.O_RDWR), number)
    for name, number in (("stdout", 1), ("stderr", 2)):
        if getattr(sys, name) is None:
            setattr(sys, name, os.fdopen(number, "w", closefd=False))


def is_of_output(error: OSError) -> bool:
    """Return whether an error may come from writing to standard output: it names no file."""
    return error.filename is None and error.errno in (errno.EPIPE, *_FULL)


def give_up(error: OSError) -> int:
    """Return the exit status where standard output can't be written to; what is left to write is dropped.

    Whoever reads it may have gone, as `head` does: there is nothing to say then. A full disk is said in one line.
    """
    nowhere = os.open(os.devnull, os.O_WRONLY)
    os.dup2(nowhere, 1)  # what is still in Python's buffer goes there at exit
    os.close(nowhere)
    if error.errno != errno.EPIPE:
        with suppress(OSError):
            complain(f"standard output: must be writable, got: {error.strerror}. Free some space, or write elsewhere.")
    return FAILED


def flushed(status: int) -> int:
    """Return the exit status after what was printed has been written out."""
    try:
        sys.stdout.flush()
    except OSError as error:
        return give_up(error)
    except ValueError:  # closed already
        return status
    return status
