"""What was compiled is used again as long as nothing in it has changed, and only then."""

import os
import shutil
import subprocess
import sys
from pathlib import Path

import numba
import pytest
from numba.core.caching import CacheImpl

from dalipipe.compilation import callback, compiled, kept

ROOT = Path(__file__).resolve().parents[2]


@pytest.fixture
def place(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """Return the folder of compiled code of this test."""
    folder = tmp_path / "kept"
    folder.mkdir(mode=0o700)
    monkeypatch.setattr(kept, "home", lambda: folder)
    return folder


def twice(value):
    return value * 2


def hits(function) -> int:
    return sum(function.stats.cache_hits.values())


def test_what_is_kept_is_used_again(place: Path):
    assert compiled(twice)(4) == 8
    assert len(list(place.iterdir())) == 1
    again = compiled(twice)
    assert again(4) == 8 and hits(again) == 1
    assert again(0.5) == 1.0 and hits(again) == 1
    assert len(list(place.iterdir())) == 2
    other = compiled(twice, fastmath=True)
    assert other(4) == 8 and hits(other) == 0


def test_a_callback_is_kept_too(place: Path):
    signature = numba.types.int64(numba.types.int64)
    assert callback(signature)(twice).ctypes(4) == 8
    again = callback(signature)(twice)
    assert again.ctypes(4) == 8 and again.cache_hits == 1


def test_use_is_remembered(place: Path):
    compiled(twice)(4)
    (path,) = place.iterdir()
    os.utime(path, (0, 0))
    compiled(twice)(4)
    assert path.stat().st_mtime > 0


@pytest.mark.parametrize("content", [b"", b"\x80\x04garbage", None])
def test_a_damaged_file_is_made_anew(place: Path, content: bytes | None):
    compiled(twice)(4)
    (path,) = place.iterdir()
    whole = path.read_bytes()
    path.write_bytes(whole[: len(whole) // 2] if content is None else content)
    again = compiled(twice)
    assert again(4) == 8 and hits(again) == 0
    once_more = compiled(twice)
    assert once_more(4) == 8 and hits(once_more) == 1


def test_a_full_disk_costs_a_warning(place: Path, monkeypatch):
    def full(*_: object) -> int:
        raise OSError(28, "No space left on device")

    monkeypatch.setattr(Path, "write_bytes", full)
    with pytest.warns(RuntimeWarning, match="can't keep compiled code there .*No space left"):
        assert compiled(twice)(4) == 8
    assert list(place.iterdir()) == []


def test_without_a_place_all_works(monkeypatch):
    monkeypatch.setattr(kept, "home", lambda: None)
    assert compiled(twice)(4) == 8


def test_functions_of_others_are_left_alone(tmp_path: Path, monkeypatch):
    assert not any(locator.__module__.startswith("dalipipe") for locator in CacheImpl._locator_classes)
    assert os.environ.get("NUMBA_CACHE_DIR", "") == numba.config.CACHE_DIR


def run(script: str, root: Path, cache: Path) -> subprocess.Popen[str]:
    names = {name: value for name, value in os.environ.items() if name not in ("DALIPIPE_CACHE", "NUMBA_CACHE_DIR")}
    return subprocess.Popen(
        [sys.executable, "-c", script],
        cwd=root,
        env={**names, "PYTHONPATH": str(root), "XDG_CACHE_HOME": str(cache)},
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
    )


def output(process: subprocess.Popen[str]) -> str:
    out, err = process.communicate(timeout=240)
    assert process.returncode == 0, err
    return out.strip()


INLINES = """
import os, dalipipe.compilation
from dalipipe.compilation import compiled
from dalipipe.backends.kernels import colour
assert colour.__file__.startswith(os.getcwd())
@compiled
def run(value):
    return colour._to_level(value)
print(run(300.0), sum(run.stats.cache_hits.values()))
"""


def copied(root: Path) -> Path:
    """Copy the package, with doors that lead nowhere: a kernel needs neither torch nor DALI, which take seconds."""
    package = root / "dalipipe"
    shutil.copytree(ROOT / "dalipipe", package, ignore=shutil.ignore_patterns("__pycache__"))
    for door in ("backends", "backends/kernels"):
        (package / door / "__init__.py").write_text("")
    return package


def changed(package: Path, way: str) -> None:
    """Give the package another kernel, of the same length and age: edited, or as the files of another version."""
    path = package / "backends/kernels/colour.py"
    before = path.stat()
    source = path.read_text()
    assert "np.float32(255.0)))" in source
    source = source.replace("np.float32(255.0)))", "np.float32(254.0)))")
    if way == "upgrade":
        shutil.copytree(package, package.with_name("next"))
        shutil.rmtree(package)
        package.with_name("next").rename(package)
    path.write_text(source)
    os.utime(path, (before.st_atime, before.st_mtime))
    for folder in package.rglob("__pycache__"):
        shutil.rmtree(folder)


def test_another_kernel_reaches_the_pixels_though_caches_are_warm(tmp_path: Path):
    package = copied(tmp_path)
    results = [output(run(INLINES, tmp_path, tmp_path / "cache")) for _ in range(2)]
    assert results == ["255.0 0", "255.0 1"]
    for way in ("edit", "upgrade"):
        shutil.copytree(tmp_path / "cache", tmp_path / way)
        shutil.copytree(package, tmp_path / "before")
        changed(package, way)
        assert output(run(INLINES, tmp_path, tmp_path / way)) == "254.0 0", way
        shutil.rmtree(package)
        (tmp_path / "before").rename(package)


AT_ONCE = """
import sys, numpy as np
from dalipipe.compilation import compiled
@compiled
def add(value):
    return value + value
@compiled
def run(values):
    return add(values[0])
types = [np.uint8, np.int16, np.int32, np.int64, np.float32, np.float64]
for dtype in types[:: int(sys.stdin.readline())]:
    assert run(np.full(2, 100, dtype)) == 200, dtype
print(sum(run.stats.cache_hits.values()))
"""


def test_processes_that_compile_at_once_do_no_harm(tmp_path: Path):
    both = [
        subprocess.Popen(
            [sys.executable, "-c", AT_ONCE],
            env={**os.environ, "PYTHONPATH": str(ROOT), "DALIPIPE_CACHE": str(tmp_path)},
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            stderr=subprocess.PIPE,
            text=True,
        )
        for _ in range(2)
    ]
    for process, step in zip(both, ("1", "-1"), strict=True):
        assert process.stdin is not None
        process.stdin.write(step + "\n")
        process.stdin.flush()
    assert all(int(output(process)) <= 6 for process in both)
