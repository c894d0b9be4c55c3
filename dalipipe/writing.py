"""The one way in which dalipipe writes files that people name: whole or not at all, and never over what is no file.

Where a plain file stands, or nothing, the bytes go to a temporary file beside it, to the disk, and only then under the
name. Links are followed. Into a pipe, a device or one of the process' own streams, such as /dev/stdout, they are
written as they are.
"""

from __future__ import annotations

import errno
import io
import json
import os
import re
import stat
import sys
from collections.abc import Callable
from contextlib import suppress
from pathlib import Path
from typing import IO, Any, Final

from dalipipe.errors import ConfigError

Write = Callable[[IO[bytes]], object]

_TEMPORARY: Final = re.compile(r"\..+\.\d+\.tmp")
_OWN_STREAM: Final = re.compile(r"/proc/(?:self|(\d+))/fd/(\d+)")
_LINKS: Final = 40  # followed one after the other, as Linux does
_BY_NAME: Final = (errno.EACCES, errno.EPERM, errno.EROFS, errno.EBUSY, errno.EXDEV)
"""Why a file can't be replaced that may still be written to: the directory is another's, or the file is mounted."""


def to_json(value: Any) -> str:
    """Return results as JSON, indented, with a line feed at the end. What is no number in JSON, NaN say, is refused.

    Raises:
        ValueError: a float that is none.
    """
    return json.dumps(value, indent=2, allow_nan=False) + "\n"


def write_file(path: Path, write: Write) -> int:
    """Let `write` fill the file at `path`, and return how many bytes it has.

    Whoever reads the file, at any moment, finds all of it or the former one. It keeps the permissions of the former.

    Args:
        path: The file, a link to it, a pipe, a device or one of the process' streams.
        write: Is given a file open for bytes.

    Raises:
        ConfigError: it can't be written; a former file is untouched.
    """
    try:
        stream = own_stream(path)
        if stream is not None:
            return _send(lambda: _duplicate(stream), write)
        target = Path(os.path.realpath(path))
        former = _status(target)
        if former is None or stat.S_ISREG(former.st_mode):
            return _replace(target, former, write)
        if stat.S_ISDIR(former.st_mode):
            raise IsADirectoryError(errno.EISDIR, os.strerror(errno.EISDIR))
        return _send(lambda: target.open("wb", buffering=0), write)
    except (OSError, ValueError) as error:  # a name with a null byte is a ValueError
        reason = (error.strerror if isinstance(error, OSError) else None) or error
        raise ConfigError(
            f"{path}: must be writable, got {reason}. Free some space or choose another place."
        ) from error


def append_file(path: Path, data: bytes, *, anew: bool) -> None:
    """Add bytes to the end of a file.

    Args:
        path: As `write_file` takes it.
        data: What to add.
        anew: Whether a former plain file is replaced.

    Raises:
        ConfigError: it can't be written.
    """
    if anew or own_stream(path) is not None:
        write_file(path, lambda file: file.write(data))
        return
    try:
        with path.open("ab") as file:
            file.write(data)
    except OSError as error:
        raise ConfigError(f"{path}: must be writable, got {error.strerror}. Free some space.") from error


def _replace(target: Path, former: os.stat_result | None, write: Write) -> int:
    if former is not None and not os.access(target, os.W_OK):
        raise PermissionError(errno.EACCES, os.strerror(errno.EACCES))
    name = os.fsdecode(os.fsencode(target.name)[:100])  # with what is added it must not become too long
    temporary = target.with_name(f".{name}.{os.getpid()}.tmp")
    try:
        with temporary.open("wb") as file:
            write(file)
            file.flush()
            os.fsync(file.fileno())
            size = os.fstat(file.fileno()).st_size
        if former is not None:
            with suppress(OSError):  # only root can give a file to another
                os.chown(temporary, former.st_uid, former.st_gid)
            temporary.chmod(stat.S_IMODE(former.st_mode))
        temporary.replace(target)
        _sync_directory(target.parent)
        return size
    except OSError as error:
        if former is None or error.errno not in _BY_NAME:
            raise
        return _send(lambda: target.open("wb", buffering=0), write)
    finally:
        with suppress(OSError):  # where nothing can be written, nothing was
            temporary.unlink(missing_ok=True)


def _send(opened: Callable[[], IO[bytes]], write: Write) -> int:
    """Make all of it in memory, for a pipe can't be gone back in, and write it as it is."""
    buffer = io.BytesIO()
    write(buffer)
    left = buffer.getbuffer()
    with opened() as file:
        while left:
            left = left[file.write(left) :]
    return buffer.getbuffer().nbytes


def ending_of(path: Path) -> str:
    """Return the ending of a picture's name in lower case; ".png" for a pipe, a device or a stream, which has none."""
    try:
        is_file = own_stream(path) is None and (path.is_file() or not path.exists())
    except (OSError, ValueError):
        is_file = True
    return path.suffix.lower() if is_file else ".png"


def own_stream(path: Path) -> int | None:
    """Return the number of the open file of this process that a path such as /dev/stdout leads to, else None."""
    place = os.path.abspath(path)  # noqa: PTH100 - a path that leads to no file must come through
    for _ in range(_LINKS):
        parent, name = os.path.split(place)
        place = os.path.join(os.path.realpath(parent), name)  # noqa: PTH118
        found = _OWN_STREAM.fullmatch(place)
        if found is not None:
            return int(found[2]) if found[1] in (None, str(os.getpid())) else None
        if not os.path.islink(place):  # noqa: PTH114
            return None
        place = os.path.join(os.path.dirname(place), os.readlink(place))  # noqa: PTH115, PTH118, PTH120
    return None


def _duplicate(stream: int) -> IO[bytes]:
    """Return a file that writes where a stream stands; what Python still holds back for it goes first."""
    for own in (sys.stdout, sys.stderr):
        with suppress(OSError, ValueError, AttributeError):
            if own.fileno() == stream:
                own.flush()
    return os.fdopen(os.dup(stream), "wb", buffering=0)


def _status(target: Path) -> os.stat_result | None:
    try:
        return target.stat()
    except FileNotFoundError:
        return None


def _sync_directory(directory: Path) -> None:
    """Make a rename in `directory` outlive a power cut, where its file system can."""
    descriptor = os.open(directory, os.O_RDONLY)
    try:
        os.fsync(descriptor)
    except OSError as error:
        if error.errno not in (errno.EINVAL, errno.ENOTSUP):
            raise
    finally:
        os.close(descriptor)


def remove_temporaries(directory: Path) -> None:
    """Remove what `write_file` left in a directory where its process was killed. No other may be writing there.

    Raises:
        ConfigError: a file can't be removed.
    """
    try:
        for path in directory.iterdir():
            if _TEMPORARY.fullmatch(path.name):
                path.unlink(missing_ok=True)
    except OSError as error:
        raise ConfigError(
            f"{directory}: must be writable, got {error.strerror or error}. Choose another --output."
        ) from error


def is_standard_output(path: Path | None) -> bool:
    """Return whether a path leads to where the process prints."""
    return path is not None and own_stream(path) == 1
