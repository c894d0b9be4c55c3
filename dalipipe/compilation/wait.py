"""The wait for the compiler: said when it begins, and counted, so that it is not taken for loading."""

from __future__ import annotations

import functools
import logging
import time
from collections.abc import Callable
from dataclasses import dataclass
from typing import ParamSpec, TypeVar

from numba.core.compiler_lock import global_compiler_lock

MESSAGE = "compiling the kernels for this recipe (once per version)"

Arguments = ParamSpec("Arguments")
Result = TypeVar("Result")

_log = logging.getLogger("dalipipe.compilation")


@dataclass
class _Wait:
    """What this process has waited so far; changed under Numba's lock.

    Attributes:
        depth: How many functions are being asked for, each by the one before.
        began: When the compiler began with the outermost; None where it was found on disk, so far.
        total_s: Seconds of all that are done.
        said: Whether the message was logged.
    """

    depth: int = 0
    began: float | None = None
    total_s: float = 0.0
    said: bool = False


_wait = _Wait()


def seconds() -> float:
    """Return for how many seconds this process has compiled so far."""
    began = _wait.began
    return _wait.total_s + (0.0 if began is None else time.perf_counter() - began)


def missed() -> None:
    """Note that a function is not on disk and is about to be compiled."""
    if not _wait.said:
        _wait.said = True
        _log.info(MESSAGE)
    if _wait.began is None and _wait.depth:
        _wait.began = time.perf_counter()


def counted(compile_one: Callable[Arguments, Result]) -> Callable[Arguments, Result]:
    """Return a function that compiles another, or takes it from disk, with its time counted."""

    @functools.wraps(compile_one)
    def compile_counted(*args: Arguments.args, **kwargs: Arguments.kwargs) -> Result:
        with global_compiler_lock:
            _wait.depth += 1
            try:
                return compile_one(*args, **kwargs)
            finally:
                _wait.depth -= 1
                if not _wait.depth and _wait.began is not None:
                    _wait.total_s += time.perf_counter() - _wait.began
                    _wait.began = None

    return compile_counted
