"""Asking a source whose items come from a store: what passes is tried again; what doesn't is the store's fault.

Only what the store doesn't have counts against a sample, as a file that has vanished from a folder does.
"""

from __future__ import annotations

import errno
import time
from collections.abc import Callable
from http.client import HTTPException
from typing import Any, Final, TypeVar

from dalipipe.errors import ResourceError
from dalipipe.sources.base import Source, describe
from dalipipe.sources.reading import OWN, of_the_system

Answer = TypeVar("Answer")

STORE_PAUSES_S: Final = (0.2, 1.0, 3.0)
"""How long is waited before the second and each further try."""

_LASTING: Final = OWN | {errno.EMFILE, errno.ENFILE, errno.ENOMEM, errno.ENOSPC, errno.EROFS}
_PASSING_STATUSES: Final = frozenset({408, 425, 429})
"""Of HTTP, beside 500 and above: what a later request may not be told."""

_CLIENTS: Final = frozenset(
    {
        "aiohttp.client_exceptions.ClientConnectionError",
        "aiohttp.client_exceptions.ClientPayloadError",
        "aiohttp.client_exceptions.ClientResponseError",
        "botocore.exceptions.HTTPClientError",
        "google.api_core.exceptions.ServerError",
        "google.api_core.exceptions.TooManyRequests",
        "httpcore.NetworkError",
        "httpcore.TimeoutException",
        "httpx.TransportError",
        "pymongo.errors.AutoReconnect",
        "redis.exceptions.ConnectionError",
        "redis.exceptions.TimeoutError",
        "urllib3.exceptions.ProtocolError",
        "urllib3.exceptions.TimeoutError",
    }
)
"""What clients raise that is no OSError where a connection breaks, by module and name: none of them is imported."""


class Absent(bytes):
    """The item of a sample that its store doesn't have: no bytes, and the reason.

    Attributes:
        reason: What the store said, in a few words.
    """

    reason: str

    def __new__(cls, reason: str) -> Absent:
        """Return one."""
        absent = super().__new__(cls)
        absent.reason = reason
        return absent


def from_store(source: Source, what: str, ask: Callable[[], Answer]) -> Answer:
    """Return what a source answers; what may pass is tried four times, with growing pauses.

    Args:
        source: The source.
        what: What is asked for, as "item 3".
        ask: Asks for it.

    Raises:
        FileNotFoundError: the store doesn't have it.
        ResourceError: the store fails, or refuses.
        Exception: anything else that the source raises, with a note of what was asked for.
    """
    for pause_s in (*STORE_PAUSES_S, None):
        try:
            return ask()
        except (FileNotFoundError, ResourceError):
            raise
        except Exception as error:
            if not isinstance(error, OSError) and not _is_clients(error):
                error.add_note(f"{describe(source)}: {what} was asked for.")
                raise
            if pause_s is None or not _may_pass(error):
                raise _of_the_store(f"{describe(source)}: {what}", error) from error
            time.sleep(pause_s)
    raise AssertionError("the last try returns or raises")


def absent(error: FileNotFoundError) -> Absent:
    """Return what stands for an item that a store says it doesn't have."""
    words = (error.strerror or str(error) or "it isn't there").lower()
    return Absent(f"the store doesn't have it: {' '.join(words.split())}")


def _is_clients(error: Exception) -> bool:
    """Return whether a connection has failed, in the words of a client that has a tree of errors of its own."""
    return isinstance(error, HTTPException) or any(
        f"{kind.__module__}.{kind.__qualname__}" in _CLIENTS for kind in type(error).__mro__
    )


def _may_pass(error: Exception) -> bool:
    """Return whether a store may answer a moment later; most of what fails on a network does."""
    response: Any = getattr(error, "response", None)
    for status in (
        getattr(error, "code", None),
        getattr(error, "status", None),
        getattr(response, "status_code", None),
    ):
        if isinstance(status, int) and status:
            return status >= 500 or status in _PASSING_STATUSES
    if isinstance(error, PermissionError | IsADirectoryError | NotADirectoryError):
        return False
    return not (isinstance(error, OSError) and error.errno in _LASTING)


def _of_the_store(where: str, error: Exception) -> ResourceError:
    if isinstance(error, OSError) and error.errno in _LASTING - OWN:  # of this machine
        return of_the_system(where, error)
    said = str(getattr(error, "strerror", None) or error) or type(error).__name__
    found = ResourceError(
        f"{where}: the store must answer, got {type(error).__name__}: {' '.join(said.split())}."
        " See to the store, the network and the permissions, then go on."
    )
    found.errno = getattr(error, "errno", None)
    return found
