"""Reading a file: what is the file's own fault, what is the system's, and what passes.

Only the file's own counts against it. An error of the system ends what is being done and is remembered of no file; one
that may pass, as a network mount has them, is given three tries first.
"""

from __future__ import annotations

import errno
import os
import stat
import time
from collections.abc import Callable
from io import BufferedReader
from typing import Final, TypeVar

from dalipipe.errors import ResourceError

Answer = TypeVar("Answer")

PAUSES_S: Final = (0.2, 1.0)
"""How long is waited before the second and the third try."""

OWN: Final = frozenset(
    {
        errno.ENOENT,
        errno.ENOTDIR,
        errno.EACCES,
        errno.EPERM,
        errno.EISDIR,
        errno.ELOOP,
        errno.ENAMETOOLONG,
        errno.ENXIO,  # a socket, or a device that is not there
        errno.ENODEV,
        errno.EINVAL,
        errno.EILSEQ,
        errno.EFBIG,
        errno.EOVERFLOW,
    }
)
"""What the system says of this one file. Everything else it says of itself."""

PASSING: Final = frozenset(
    {
        errno.EIO,
        errno.ESTALE,
        errno.EAGAIN,
        errno.EINTR,
        errno.EBUSY,
        errno.ETXTBSY,
        errno.ETIMEDOUT,
        errno.EREMOTEIO,
        errno.ECOMM,
        errno.ENOLINK,
        errno.ENOTCONN,
        errno.ECONNREFUSED,
        errno.ECONNRESET,
        errno.ECONNABORTED,
        errno.EHOSTDOWN,
        errno.EHOSTUNREACH,
        errno.ENETDOWN,
        errno.ENETUNREACH,
    }
)
"""What is gone a moment later, perhaps."""

_ADVICE: Final = {
    errno.EMFILE: "Close files, or raise the limit (`ulimit -n`)",
    errno.ENFILE: "Close files, or raise the limit of the machine",
    errno.ENOMEM: "Free some memory, or use fewer threads and smaller batches",
}


def is_own(error: OSError) -> bool:
    """Return whether an error is the fault of the file itself: it isn't there, say, or may not be read.

    What has no number comes from no system call: a reader of images speaks of what it has read.
    """
    return error.errno in OWN or (error.errno is None and not _passes(error))


def _passes(error: OSError) -> bool:
    """Return whether an error may be gone a moment later; libraries leave the number out."""
    return error.errno in PASSING or isinstance(error, ConnectionError | TimeoutError)


def of_the_system(what: str, error: OSError) -> ResourceError:
    """Return what to raise for an error that is the fault of no file.

    Args:
        what: Was being done, as "reading 'a.jpg'".
        error: What the system said.
    """
    said = (error.strerror or str(error) or type(error).__name__).lower()
    advice = _ADVICE.get(error.errno or 0, "See to the disk or the network, then go on")
    found = ResourceError(f"{what}: the system must be able to do it, got an error of its own: {said}. {advice}.")
    found.errno = error.errno
    return found


def require_own(what: str, error: OSError) -> None:
    """Go on where an error is the fault of the file itself.

    Raises:
        ResourceError: it is the system's.
    """
    if isinstance(error, ResourceError):
        raise error
    if not is_own(error):
        raise of_the_system(what, error) from error


def patiently(what: str, read: Callable[[], Answer]) -> Answer:
    """Return what `read` returns; what may pass is tried three times, with growing pauses.

    Raises:
        OSError: the file's own fault.
        ResourceError: the system's.
    """
    for pause_s in (*PAUSES_S, None):
        try:
            return read()
        except OSError as error:
            if _passes(error) and pause_s is not None:
                time.sleep(pause_s)
                continue
            require_own(what, error)
            raise
    raise AssertionError("the last try returns or raises")


def read_file(path: str | os.PathLike[str]) -> bytes:
    """Return the bytes of an ordinary file.

    Raises:
        OSError: the file's own fault. A pipe, a socket or a device is one: whoever reads it may wait for ever.
        ResourceError: the system's.
    """
    return patiently(f"reading {os.fspath(path)!r}", lambda: _read(path))


def is_ordinary(path: str | os.PathLike[str]) -> bool:
    """Return whether a path leads to an ordinary file. It is not opened.

    Raises:
        OSError: it can't be told.
    """
    return stat.S_ISREG(os.stat(path).st_mode)  # noqa: PTH116 (a Path costs ten times as much, for each sample)


def open_ordinary(path: str | os.PathLike[str]) -> BufferedReader:
    """Return an ordinary file open for reading. Nothing is waited for.

    Raises:
        OSError: it can't be opened, or is a pipe, a socket, a device or a folder.
    """

    def without_waiting(name: str, flags: int) -> int:
        return os.open(name, flags | os.O_NONBLOCK)  # of a pipe, opening it would wait for a writer

    file = open(path, "rb", opener=without_waiting)  # noqa: SIM115 (a str may hold bytes that are not UTF-8)
    mode = os.fstat(file.fileno()).st_mode
    if stat.S_ISREG(mode):
        return file
    file.close()
    code = errno.EISDIR if stat.S_ISDIR(mode) else errno.EINVAL
    raise OSError(code, "is a directory" if code == errno.EISDIR else "not an ordinary file", path)


def _read(path: str | os.PathLike[str]) -> bytes:
    with open_ordinary(path) as file:
        return file.read()
