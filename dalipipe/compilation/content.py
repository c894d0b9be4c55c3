"""What goes into the compiled code of a function, as one digest."""

from __future__ import annotations

import hashlib
import inspect
import platform
import re
import sys
from collections.abc import Callable, Iterator
from enum import Enum
from functools import cache
from types import CodeType, FunctionType, ModuleType
from typing import Any

import llvmlite
import numba
import numpy as np
from numba.core import config
from numba.core.dispatcher import Dispatcher
from numba.extending import _Intrinsic

_OPTIONS = (
    "OPT",
    "LOOP_VECTORIZE",
    "SLP_VECTORIZE",
    "BOUNDSCHECK",
    "DEBUGINFO_DEFAULT",
    "USING_SVML",
    "CAPTURED_ERRORS",
)
_KNOWN = ("builtins", "llvmlite", "math", "numba", "numpy")
"""Packages whose objects may be used in compiled code: their versions, or Python's, are part of each digest."""


@cache
def toolchain() -> tuple[str, ...]:
    """Return what turns the code of a function into machine code: versions, and options of Numba's."""
    versions = (sys.implementation.cache_tag, platform.python_version(), numba.__version__, llvmlite.__version__)
    return (*map(str, versions), np.__version__, *(f"{name}={getattr(config, name, None)}" for name in _OPTIONS))


@cache
def digest(function: Callable[..., Any]) -> str:
    """Return a digest of everything in a function that its compiled code depends on.

    That is its code and what this refers to: constants by their value, the functions it calls by their own digest, of
    whatever module they are.

    Raises:
        TypeError: the function refers to something whose content can't be told.
    """
    assert isinstance(function, FunctionType)
    found = hashlib.sha256()
    cells = zip(function.__code__.co_freevars, function.__closure__ or (), strict=True)
    inputs = {name: cell.cell_contents for name, cell in cells}
    inputs |= _used(function.__globals__, _names(function.__code__))
    for part in _code(function.__code__):
        found.update(part.encode() + b"\0")
    for name, value in (*sorted(inputs.items()), ("", function.__defaults__)):
        same = getattr(value, "py_func", value) is function
        content = "itself" if same else _content(value, f"{function.__module__}.{function.__qualname__}: {name}")
        found.update(f"{name}={content}\0".encode())
    return found.hexdigest()


def _used(space: dict[str, Any], names: set[str]) -> dict[str, Any]:
    """Return what names may stand for, in a module and in those of this package that it names."""
    found: dict[str, Any] = {}
    for name in names & space.keys():
        value = space[name]
        if isinstance(value, ModuleType) and value.__name__.partition(".")[0] not in _KNOWN:
            inner = _used(vars(value), names - {name})
            found |= {f"{name}.{attribute}": item for attribute, item in inner.items()}
        else:
            found[name] = value
    return found


def _names(code: CodeType) -> set[str]:
    """Return the names that code, and code within it, may look up outside."""
    return set(code.co_names).union(*(_names(inner) for inner in code.co_consts if isinstance(inner, CodeType)))


def _code(code: CodeType) -> Iterator[str]:
    yield code.co_code.hex()
    yield repr((code.co_names, code.co_varnames, code.co_freevars, code.co_cellvars, code.co_argcount))
    for constant in code.co_consts:
        if isinstance(constant, CodeType):
            yield from _code(constant)
        else:
            yield _content(constant, code.co_name)


def _content(value: Any, where: str) -> str:
    """Return a text that differs where compiled code that uses a value would."""
    if isinstance(value, Dispatcher):
        return f"{digest(value.py_func)} {_content(value.targetoptions, where)}"
    if isinstance(value, _Intrinsic):
        return _source(value._defn.__module__)
    if isinstance(value, np.ndarray):
        return f"{value.dtype} {value.shape} {value.tobytes().hex()}"
    if isinstance(value, type) and issubclass(value, Enum):
        return _content({member.name: member.value for member in value}, where)
    if isinstance(value, type) and issubclass(value, tuple) and hasattr(value, "_fields"):  # a named tuple
        return repr(value._fields)
    if isinstance(value, tuple) and hasattr(value, "_fields"):
        return _content(dict(zip(value._fields, value, strict=True)), where)
    if isinstance(value, dict):
        return repr(sorted((name, _content(item, where)) for name, item in value.items()))
    if isinstance(value, tuple | list):
        return repr([_content(item, where) for item in value])
    if isinstance(value, set | frozenset):
        return repr(sorted(_content(item, where) for item in value))
    if value is None or isinstance(value, bool | int | float | complex | str | bytes | np.generic | np.dtype):
        return f"{type(value).__name__} {value!r}"
    home = value.__name__ if isinstance(value, ModuleType) else getattr(value, "__module__", None) or "builtins"
    if home.partition(".")[0] in _KNOWN:
        text = getattr(value, "__qualname__", repr(value))
        if " at 0x" not in text:
            return f"{home}.{text}"
    raise TypeError(f"{where}: a compiled function may use numbers and compiled functions, got {value!r}.")


@cache
def _source(module: str) -> str:
    """Return a digest of the source of a module of intrinsics, whose functions write machine code as they please."""
    source = inspect.getsource(sys.modules[module])
    if re.search(r"^\s*(from|import)\s+dalipipe", source, re.MULTILINE):
        raise TypeError(f"{module}: a module of intrinsics must not import others of dalipipe. Give it what it needs.")
    return hashlib.sha256(source.encode()).hexdigest()
