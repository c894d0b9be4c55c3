"""One output, one writer: who trains into a directory holds it, and nobody else begins there meanwhile."""

from __future__ import annotations

import errno
import fcntl
import json
import os
import socket
import time
from collections.abc import Iterator
from contextlib import ExitStack, contextmanager, suppress
from pathlib import Path
from typing import Any, Final

import psutil

from dalipipe.errors import ConfigError
from dalipipe.sources.clutter import LOCK
from dalipipe.training.run.processes import Processes

_NO_LOCKS: Final = (errno.ENOSYS, errno.ENOTSUP, errno.ENOLCK, errno.EINVAL)
"""What file systems answer that have no locks."""

_BOOT_ID: Final = Path("/proc/sys/kernel/random/boot_id")
_PAUSE_S: Final = 0.1
_RESTART_S: Final = 30.0

_held: set[int] = set()  # open files of locks; a forked child gives its copies up


def _forget() -> None:
    for descriptor in _held:
        with suppress(OSError):
            os.close(descriptor)
    _held.clear()


os.register_at_fork(after_in_child=_forget)


@contextmanager
def held(directory: Path, wait_s: float = 0.0) -> Iterator[None]:
    """Hold a directory for this process, as the only writer; it is made if it isn't there.

    The system's lock on a file in it ends with the process, however that ends. The file says who holds it: process,
    machine, and since when. A file that a killed process of this machine has left is taken over; one of another
    machine only people can judge, since the system may not know of locks there.

    Args:
        directory: The output of a run.
        wait_s: How long to wait for one that is about to end.

    Raises:
        ConfigError: another run writes there, or may; the directory can't be made or written to.
    """
    directory = directory.absolute()
    made = _make(directory)
    path = directory / LOCK
    try:
        descriptor = _acquire(path, time.monotonic() + wait_s)
    except OSError as error:
        _remove_empty(made)
        raise ConfigError(
            f"--output: must be a directory that can be written to, got {str(directory)!r} ({error.strerror}). "
            "Choose another one."
        ) from error
    _held.add(descriptor)
    try:
        yield
    finally:
        if descriptor in _held:  # else this is a forked child
            with suppress(OSError):
                path.unlink()
            _held.discard(descriptor)
            os.close(descriptor)
            _remove_empty(made)


@contextmanager
def held_by_first(directory: Path, processes: Processes) -> Iterator[None]:
    """Let the first of several processes hold a directory for all; see `held`.

    After a restart the process that held it before may not have ended quite yet.
    """
    with ExitStack() as stack:

        def hold() -> None:
            stack.enter_context(held(directory, _RESTART_S if processes.restarts else 0.0))

        processes.from_first(hold)
        yield


def _make(directory: Path) -> list[Path]:
    """Make a directory, and return what had to be made for it, the innermost first."""
    missing = [place for place in (directory, *directory.parents) if not place.exists()]
    try:
        directory.mkdir(parents=True, exist_ok=True)
    except OSError as error:
        raise ConfigError(
            f"--output: must be a directory that can be written to, got {str(directory)!r} ({error.strerror}). "
            "Choose another one."
        ) from error
    return missing


def _remove_empty(made: list[Path]) -> None:
    """Remove the directories of a run that came to nothing."""
    with suppress(OSError):  # one isn't empty
        for place in made:
            place.rmdir()


def _acquire(path: Path, until: float) -> int:
    """Return the open file that this process now holds."""
    while True:
        descriptor = os.open(path, os.O_RDWR | os.O_CREAT | os.O_CLOEXEC, 0o644)
        try:
            state = _try_lock(descriptor)
            owner = _owner(descriptor)
            if state != "busy" and not _is_at(descriptor, path):
                os.close(descriptor)  # its owner has just ended and removed it
                continue
            if state == "busy" and time.monotonic() < until:
                os.close(descriptor)
                time.sleep(_PAUSE_S)
                continue
            _refuse(path, owner, state)
            _write_owner(descriptor)
            return descriptor
        except ConfigError:
            os.close(descriptor)
            raise


def _try_lock(descriptor: int) -> str:
    """Return "free", "busy", or "unknown" where the file system has no locks."""
    try:
        fcntl.flock(descriptor, fcntl.LOCK_EX | fcntl.LOCK_NB)
    except BlockingIOError:
        return "busy"
    except OSError as error:
        if error.errno in _NO_LOCKS:
            return "unknown"
        raise
    return "free"


def _refuse(path: Path, owner: dict[str, Any], state: str) -> None:
    """Refuse a directory that another holds, or may hold.

    Raises:
        ConfigError: it does.
    """
    here = is_here(owner)
    is_gone = not owner or (here and (state == "free" or not _is_running(owner)))
    if state != "busy" and is_gone:
        return
    who = "another process"
    if owner:
        who = f"process {owner['process']} on {owner['host']!r}, since {owner['start']}"
    advice = "Wait for it, or choose another directory."
    if state != "busy" and not here:
        advice = f"If that run has ended, remove {str(path)!r}; else choose another directory."
    raise ConfigError(
        f"--output: must have one writer, got {str(path.parent)!r}, where another run writes ({who}). {advice}"
    )


def _owner(descriptor: int) -> dict[str, Any]:
    """Return what the file says of its owner; nothing where it says nothing."""
    try:
        found = json.loads(os.pread(descriptor, 4096, 0))
    except (OSError, ValueError):
        return {}
    known = isinstance(found, dict) and {"process", "host", "start"} <= found.keys()
    return found if known else {}


def _write_owner(descriptor: int) -> None:
    owner = {
        "process": os.getpid(),
        "host": socket.gethostname(),
        "start": time.strftime("%Y-%m-%d %H:%M:%S"),
        "boot": _boot_id(),
        "created": psutil.Process().create_time(),
    }
    os.ftruncate(descriptor, 0)
    os.pwrite(descriptor, (json.dumps(owner) + "\n").encode("ascii"), 0)


def is_here(owner: dict[str, Any]) -> bool:
    """Return whether an owner is of this machine: the same host, or a container beside this one."""
    return owner.get("host") == socket.gethostname() or (bool(owner.get("boot")) and owner["boot"] == _boot_id())


def _is_running(owner: dict[str, Any]) -> bool:
    """Return whether the process still runs, by its number and the time it began."""
    try:
        created = psutil.Process(int(owner["process"])).create_time()
        return abs(created - float(owner.get("created", created))) < 1
    except (psutil.NoSuchProcess, ValueError, TypeError):
        return False


def _is_at(descriptor: int, path: Path) -> bool:
    """Return whether the open file still has its name."""
    try:
        return os.path.samestat(os.fstat(descriptor), path.stat())
    except FileNotFoundError:
        return False


def _boot_id() -> str:
    try:
        return _BOOT_ID.read_text(encoding="ascii").strip()
    except OSError:
        return ""
