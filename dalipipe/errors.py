"""Every exception that dalipipe raises on purpose.

Each one is a `DalipipeError` and also the built-in that fits, so that both ``except DalipipeError`` and
``except ValueError`` catch what they say::

    DalipipeError
    ├── RecipeError             ValueError          a recipe that cannot work
    ├── SourceError             ValueError          a data set that cannot be used as it is
    │   └── SourceNotFoundError FileNotFoundError   a folder, class or image that is not there
    ├── BackendError            RuntimeError        a backend that is missing, lacks an op, or fails
    ├── DecodeError             RuntimeError        images that cannot be read or decoded
    ├── ConfigError             ValueError          an argument or a setting out of its range
    │   └── SamplerError        IndexError          a sampler's index that no sample has
    ├── WeightsError            ValueError          weights that do not fit the model, or cannot be had
    ├── StateError              ValueError          a saved state that belongs to something else
    ├── DivergedError           RuntimeError        a training whose loss is no longer finite
    ├── StoppedError            RuntimeError        a training that a signal has stopped
    ├── PeerError               RuntimeError        another process of a training that has ended
    └── ResourceError           RuntimeError, OSError  memory, descriptors, a disk or a network that fails

A message reads ``<where>: <rule>, got <value>. <What to do.>``.
"""

import difflib
import signal
from collections.abc import Iterable, Sequence

_SHOWN = 200  # characters of a value in a message


def shown(value: object) -> str:
    """Return a value as a message shows it: its repr, cut where that is long, whatever the value is."""
    try:
        text = repr(value)
    except (ValueError, RecursionError):  # thousands of digits, or of brackets
        return f"{type(value).__name__} too long to show"
    return text if len(text) <= _SHOWN else f"{text[:_SHOWN]}..."


def nearest(name: str, known: Iterable[str], cutoff: float = 0.6) -> str:
    """Return "Did you mean 'x'? " for the known name that is nearest to a mistaken one; "" where none is near.

    Args:
        name: What was written.
        known: What there is.
        cutoff: How alike they must be, 0 to 1.

    Source: difflib.get_close_matches.
    """
    close = difflib.get_close_matches(name, list(known), n=1, cutoff=cutoff)
    return f"Did you mean {close[0]!r}? " if close else ""


def listed(texts: Sequence[str], limit: int = 5, separator: str = ", ") -> str:
    """Return the first `limit` texts, and how many more there are."""
    some = separator.join(texts[:limit])
    return f"{some} and {len(texts) - limit:,} more" if len(texts) > limit else some


class DalipipeError(Exception):
    """Base of every exception that dalipipe raises on purpose."""


class RecipeError(DalipipeError, ValueError):
    """A recipe that is malformed or cannot work."""


class SourceError(DalipipeError, ValueError):
    """A data set that cannot be used as it is."""


class SourceNotFoundError(SourceError, FileNotFoundError):
    """A folder, a class or the images of a class that are not there."""


class BackendError(DalipipeError, RuntimeError):
    """A backend that is not available here, lacks an op, or fails for a reason that lies in no file."""


class DecodeError(DalipipeError, RuntimeError):
    """Images that cannot be read or decoded; the message names each file."""


class ConfigError(DalipipeError, ValueError):
    """An argument or a setting outside what it may be."""


class SamplerError(ConfigError, IndexError):
    """An index of a sampler that the data set has no sample for."""


class WeightsError(DalipipeError, ValueError):
    """Weights that do not fit the model, or that cannot be had."""


class StateError(DalipipeError, ValueError):
    """A saved state that belongs to other data, another recipe or another run."""


class DivergedError(DalipipeError, RuntimeError):
    """A training whose loss is no longer a finite number."""


class StoppedError(DalipipeError, RuntimeError):
    """A training that was told to stop, and has saved where it was.

    Attributes:
        signum: The signal that told it.
    """

    def __init__(self, message: str, signum: int = signal.SIGTERM) -> None:
        super().__init__(message)
        self.signum = signum


class PeerError(DalipipeError, RuntimeError):
    """Another process of the same training has ended, so that this one can't go on."""


class ResourceError(DalipipeError, RuntimeError, OSError):
    """Memory of the machine or its GPU that does not suffice, descriptors that run out, a disk or network that fails.

    It is the fault of no file: nothing is remembered, and what was asked for can be asked for again. `errno` is the
    system's number, where it has one.
    """
