"""Whatever changes what a compiled function does changes its digest."""

import ast
import importlib
import importlib.util
import itertools
import linecache
import sys
from pathlib import Path
from types import ModuleType

import pytest
from numba.core.dispatcher import Dispatcher

from dalipipe.compilation.content import digest

ROOT = Path(__file__).resolve().parents[2]
_numbers = itertools.count()

INNER = """
import enum
import numpy as np
from dalipipe.compilation import compiled
SCALE, PAIR, LEVELS = 3, (1, (2, 3)), np.arange(4)
class Kind(enum.IntEnum):
    FLIP = 1
@compiled
def half(value):
    return value / 2
@compiled(fastmath=False)
def step(value, by=1):
    \"\"\"Return the next value.\"\"\"
    return half(value) + by
def unused(value):
    return value - 1
"""
OUTER = """
from dalipipe.compilation import compiled
import {inner} as inner
from {inner} import LEVELS, PAIR, SCALE, Kind, step
@compiled
def run(value):
    return step(value) * SCALE + PAIR[0] + LEVELS[1] + Kind.FLIP + inner.SCALE
"""


def module(folder: Path, source: str) -> ModuleType:
    """Import a module of a name not used before."""
    name = f"compiled_sample_{next(_numbers)}"
    path = folder / f"{name}.py"
    path.write_text(source)
    spec = importlib.util.spec_from_file_location(name, path)
    assert spec is not None and spec.loader is not None
    sys.modules[name] = made = importlib.util.module_from_spec(spec)
    linecache.checkcache()
    spec.loader.exec_module(made)
    return made


def outer_digest(folder: Path, inner: str, outer: str = OUTER) -> str:
    return digest(module(folder, outer.format(inner=module(folder, inner).__name__)).run.py_func)


@pytest.mark.parametrize(
    ("before", "after"),
    [
        ("value / 2", "value / 4"),  # a function that is called by one that is called
        ("SCALE, PAIR, LEVELS = 3,", "SCALE, PAIR, LEVELS = 4,"),
        ("(1, (2, 3))", "(1, (2, 4))"),
        ("np.arange(4)", "np.arange(1, 5)"),
        ("np.arange(4)", "np.arange(4.0)"),
        ("FLIP = 1", "FLIP = 2"),
        ("fastmath=False", "fastmath=True"),
        ("by=1", "by=2"),
        ("half(value) + by", "half(value) - by"),
    ],
)
def test_an_edit_of_what_is_inlined_changes_the_digest(tmp_path: Path, before: str, after: str):
    assert before in INNER
    assert outer_digest(tmp_path, INNER) != outer_digest(tmp_path, INNER.replace(before, after))


def test_an_edit_that_cannot_matter_changes_nothing(tmp_path: Path):
    first = outer_digest(tmp_path, INNER)
    assert outer_digest(tmp_path, INNER.replace("value - 1", "value - 2")) == first
    assert outer_digest(tmp_path, "\n\n" + INNER) == first


def test_the_source_of_an_intrinsic_counts(tmp_path: Path):
    intrinsic = (ROOT / "dalipipe/compilation/pointers.py").read_text()
    outer = OUTER.split("@compiled")[0].split("import {inner}")[0]
    outer += "from {inner} import address_as_void_pointer as at\n@compiled\ndef run(value):\n    return at(value)\n"
    first = outer_digest(tmp_path, intrinsic, outer)
    assert outer_digest(tmp_path, intrinsic, outer) == first
    assert outer_digest(tmp_path, intrinsic.replace("voidptr_t", "int8_t"), outer) != first
    with pytest.raises(TypeError, match="must not import others of dalipipe"):
        outer_digest(tmp_path, intrinsic + "\nfrom dalipipe import errors\n", outer)


def test_what_has_no_content_that_can_be_told_is_refused(tmp_path: Path):
    with pytest.raises(TypeError, match=r"run: SCALE: a compiled function may use .*, got <"):
        outer_digest(tmp_path, INNER + "\nSCALE = type('Scale', (), {})()\n")


def users() -> list[str]:
    """Return the modules of the package that compile."""
    paths = [
        path for path in (ROOT / "dalipipe").rglob("*.py") if "from dalipipe.compilation import" in path.read_text()
    ]
    return [".".join(path.relative_to(ROOT).with_suffix("").parts) for path in paths]


def test_every_compiled_function_of_the_package_has_a_digest():
    digests = {}
    for name in users():
        for function in vars(importlib.import_module(name)).values():
            if isinstance(function, Dispatcher):
                digests[function.py_func] = digest(function.py_func)
    assert len(digests) > 60
    assert len(set(digests.values())) == len(digests)


def test_nothing_is_compiled_in_another_way():
    makers = {"njit", "jit", "cfunc", "vectorize", "guvectorize", "stencil", "generated_jit", "jitclass"}
    for path in (ROOT / "dalipipe").rglob("*.py"):
        if path.parent.name == "compilation":
            continue
        for node in ast.walk(ast.parse(path.read_text())):
            if isinstance(node, ast.ImportFrom) and (node.module or "").startswith("numba"):
                assert not makers & {alias.name for alias in node.names}, path
            if isinstance(node, ast.Import):
                assert not any(alias.name.partition(".")[0] == "numba" for alias in node.names), path
