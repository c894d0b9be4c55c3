"""The decorators that compile."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

from numba import njit
from numba.core.ccallback import CFunc
from numba.core.dispatcher import Dispatcher

from dalipipe.compilation.kept import Kept
from dalipipe.compilation.wait import counted


def compiled(function: Callable[..., Any] | None = None, /, **options: Any) -> Any:
    """Return a function that Numba compiles when it is first called, and that is kept on disk.

    Args:
        function: What to compile.
        options: As numba.njit's, but `cache`. Without a function: a decorator with these options.
    """
    if function is None:
        return lambda given: compiled(given, **options)
    dispatcher = njit(**options)(function)
    if isinstance(dispatcher, Dispatcher):  # it isn't where NUMBA_DISABLE_JIT is set
        vars(dispatcher)["_cache"] = Kept(function, options)
        vars(dispatcher)["compile"] = counted(dispatcher.compile)
    return dispatcher


def callback(signature: Any) -> Callable[[Callable[..., Any]], CFunc]:
    """Return a decorator that compiles a function at once, for callers in C, and keeps it on disk; as numba.cfunc.

    Args:
        signature: Numba's type of the callback.
    """

    def decorate(function: Callable[..., Any]) -> CFunc:
        made = CFunc(function, (signature.args, signature.return_type), locals={}, options={"nopython": True})
        vars(made)["_cache"] = Kept(function, {})
        counted(made.compile)()
        return made

    return decorate
