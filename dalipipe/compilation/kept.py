"""Compiled code on disk: one file for each function and signature."""

from __future__ import annotations

import contextlib
import hashlib
import os
import pickle
import sys
import uuid
import warnings
from collections.abc import Callable
from pathlib import Path
from typing import Any

from numba.core.caching import CompileResultCacheImpl, _Cache
from numba.core.serialize import dumps

from dalipipe.compilation.content import digest, toolchain
from dalipipe.compilation.home import home
from dalipipe.compilation.wait import missed

_FORMAT = "1"


class _Result(CompileResultCacheImpl):
    """Numba's way to write what it compiled, without its way to choose a place."""

    def __init__(self) -> None:
        pass

    def check_cachable(self, result: Any) -> bool:
        return not (result.library.has_dynamic_globals or any(not lifted.can_cache for lifted in result.lifted))


class Kept(_Cache):
    """The compiled code of one function, as a cache of Numba's.

    A file's name holds a digest of all that its content was made from, so files are never wrong, only missing: any
    number of processes may read and write them at once. One that can't be read, since it was cut short, say, is made
    anew.

    Args:
        function: What is compiled.
        options: Numba's options for it.
    """

    def __init__(self, function: Callable[..., Any], options: dict[str, Any]) -> None:
        self._function, self._options = function, tuple(sorted((key, repr(value)) for key, value in options.items()))
        self._result = _Result()
        self._enabled = True

    @property
    def cache_path(self) -> str | None:
        """The folder; None where nothing can be kept."""
        return None if (place := home()) is None else str(place)

    def enable(self) -> None:
        """Read and write files again."""
        self._enabled = True

    def disable(self) -> None:
        """Neither read nor write files."""
        self._enabled = False

    def flush(self) -> None:
        """Do nothing: what is on disk stays true."""

    def load_overload(self, sig: Any, target_context: Any) -> Any:
        """Return the compiled code for a signature; None where it must be made, which is said."""
        target_context.refresh()
        found = self._load(sig, target_context)
        if found is None:
            missed()
        return found

    def _load(self, sig: Any, target_context: Any) -> Any:
        path = self._path(sig, target_context.codegen())
        if path is None:
            return None
        try:
            content = path.read_bytes()
            found = self._result.rebuild(target_context, pickle.loads(content))
        except FileNotFoundError:
            return None
        except Exception:  # whatever a damaged file makes of pickle
            return None
        with contextlib.suppress(OSError):
            os.utime(path)  # in use: `home` removes what was not for long
        return found

    def save_overload(self, sig: Any, data: Any) -> None:
        """Keep the compiled code for a signature."""
        path = self._path(sig, data.codegen)
        if path is None or not self._result.check_cachable(data):
            return
        unfinished = path.with_name(f"{path.name}.{uuid.uuid4().hex[:16]}.tmp")
        try:
            path.parent.mkdir(mode=0o700, exist_ok=True)
            unfinished.write_bytes(dumps(self._result.reduce(data)))
            unfinished.replace(path)
        except OSError as error:
            with contextlib.suppress(OSError):
                unfinished.unlink()
            warnings.warn(f"{path.parent}: can't keep compiled code there ({error}).", RuntimeWarning, stacklevel=2)

    def _path(self, sig: Any, codegen: Any) -> Path | None:
        place = home() if self._enabled else None
        if place is None:
            return None
        parts = (_FORMAT, toolchain(), digest(self._function), self._options, repr(sig), codegen.magic_tuple())
        key = hashlib.sha256(repr(parts).encode()).hexdigest()
        name = f"{self._function.__module__}.{self._function.__qualname__}".replace("<", "").replace(">", "")
        return place / f"{name}-{sys.implementation.cache_tag}-{key[:40]}.nbc"
