"""Whose fault an error is: only what a reader or a decoder says of the bytes of a file counts against that file.

Everything else is the system's. It is raised at once, and nothing is remembered: `ResourceError` for memory and
descriptors that run out, `BackendError` for CUDA, NVML, a driver, or what nobody has foreseen.

DALI says what happened in a text, which names the operator that failed and then what it said:

    Error in CPU operator `nvidia.dali.fn.decoders.image`, which was used in ... encountered: Assert on ... failed
"""

from __future__ import annotations

import re
from collections.abc import Iterator
from contextlib import contextmanager
from enum import Enum
from typing import Final, NamedTuple

from dalipipe.errors import BackendError, DalipipeError, ResourceError, shown
from dalipipe.sources.reading import require_own

_OPERATOR: Final = re.compile(r"Error (?:in|when executing) \S+ operator `?([\w.]+)")
_SAID: Final = re.compile(r"encountered:\s*(.*?)(?:\n\s*(?:Stacktrace|C\+\+ context|Current pipeline)|$)", re.S)


class Fault(Enum):
    """What an error speaks of."""

    BYTES = "the bytes of a file"
    READING = "a file that can't be read: why, has to be asked"
    RESOURCE = "memory or descriptors"
    BACKEND = "the backend"


class Row(NamedTuple):
    """One row of the table of what DALI says: the first that fits counts.

    Attributes:
        operator: A pattern of the operator's name, which must be in it.
        text: A pattern of what it said, which must be in it.
        fault: What that speaks of.
    """

    operator: str
    text: str
    fault: Fault


TABLE: Final = (
    # Its text holds the file's path, in which any word may stand.
    Row(r"\bio\.file\.read$|\breaders\.", r"open|read|fp_|file", Fault.READING),
    Row("", r"bad_alloc|[Oo]ut of [Mm]emory|OutOfMemory|Insufficient memory", Fault.RESOURCE),
    Row("", r"([Cc]an't|[Cc]annot|[Cc]ould not|[Ff]ailed to|[Uu]nable to) (re)?alloc|ALLOCATOR_F", Fault.RESOURCE),
    Row("", r"(?i:nvjpeg2?k? error) [\"(]5", Fault.RESOURCE),
    Row("", r"Too many open files|Resource temporarily unavailable|Cannot allocate|No space left", Fault.RESOURCE),
    Row("", r"Input/output error|Stale (NFS )?file handle", Fault.RESOURCE),
    # A JPEG that is no JPEG, is not supported, has a wrong window or ends early.
    Row(r"decoders", r"(?i:nvjpeg2?k? error) [\"(](2|3|4|9|10)[\")]", Fault.BYTES),
    Row("", r"(?i:nvjpeg|nvml)|\bCUDA\b|\bcu(da|fft|rand|blas)|\bNPP\b|[Dd]river", Fault.BACKEND),
    Row(r"\bdecoders?\b|\bdecoders?_|\bpeek_image_shape$", "", Fault.BYTES),
)
"""What DALI says, and of what that speaks. Where no row fits, it is the backend's."""


def fault_of(text: str) -> Fault:
    """Return what an error of DALI's speaks of, by its text."""
    found = _OPERATOR.search(text)
    operator, said = found.group(1) if found else "", said_in(text)
    return next((row.fault for row in TABLE if _fits(row, operator, said)), Fault.BACKEND)


def _fits(row: Row, operator: str, said: str) -> bool:
    return bool(re.search(row.operator, operator) and re.search(row.text, said))


def said_in(text: str) -> str:
    """Return what the operator said, in one line, of the text of an error of DALI's."""
    found = _SAID.search(text)
    said = " ".join((found.group(1) if found else text).split())
    return re.sub(r"\W*File:.*$", "", said)  # in a path any word may stand


def require_bytes(where: str, error: Exception) -> None:
    """Go on where an error of DALI's may be the fault of a file in the batch.

    Args:
        where: Begins the message: the backend.
        error: What was raised when a batch was asked for.

    Raises:
        ResourceError, BackendError: it is no file's.
    """
    if isinstance(error, DalipipeError):
        raise error
    text = str(error)
    fault = Fault.RESOURCE if isinstance(error, MemoryError) else fault_of(text)
    if fault is Fault.RESOURCE:
        raise ResourceError(
            f"{where}: memory and descriptors must suffice, got: {shown(said_in(text) or 'out of memory')}. "
            "Use smaller batches, fewer threads or smaller images; no file is to blame."
        ) from error
    if fault is Fault.BACKEND:
        raise BackendError(
            f"{where}: a batch could not be made, and no file is to blame, got: {shown(said_in(text))}. "
            'Begin again; if that is no help, try backend "dali-cpu" or "torchvision".'
        ) from error


def unread(where: str, error: Exception | None) -> BackendError:
    """Return what to raise over a sample that is in order, as far as anyone can tell, and yet could not be had."""
    said = "no pixels" if error is None else shown(said_in(str(error)))
    return BackendError(f"{where}: a sample that is in order could not be read, got: {said}. Begin again.")


@contextmanager
def explained(where: str) -> Iterator[None]:
    """Call what is the system's fault by its name.

    Raises:
        ResourceError, BackendError: as `require_own_fault`.
    """
    try:
        yield
    except (MemoryError, RuntimeError, OSError) as error:
        require_own_fault(where, error)
        raise


_TORCH_MEMORY: Final = ("DefaultCPUAllocator", "can't allocate memory", "not enough memory", "CUDA out of memory")


def require_own_fault(where: str, error: Exception) -> None:
    """Go on where what Python, Pillow or torch raised over one sample may be the fault of its file.

    Raises:
        ResourceError, BackendError: it is the system's.
    """
    if isinstance(error, DalipipeError):
        raise error
    if isinstance(error, OSError) and error.errno is not None:  # what Pillow says of bytes has no number
        require_own(where, error)
    thread = "can't start new thread"  # Python's, for want of memory or because of a limit
    text = str(error)
    if isinstance(error, MemoryError) or any(words in text for words in (*_TORCH_MEMORY, thread)):
        raise ResourceError(
            f"{where}: memory and threads must suffice, got: {text or 'out of memory'}. Use smaller batches, fewer "
            "threads or smaller images; no file is to blame."
        ) from error
    if type(error).__name__ == "AcceleratorError" or "CUDA error" in text:
        raise BackendError(f"{where}: CUDA must work, got: {shown(text)}. Begin again; no file is to blame.") from error
