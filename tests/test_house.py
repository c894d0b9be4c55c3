"""What holds for the project as a whole: a light import, a small namespace, tests that cannot pass by silence."""

import json
import os
import re
import subprocess
import sys
import tomllib
import warnings
from pathlib import Path

import pytest

import dalipipe
from dalipipe import errors
from dalipipe.errors import DalipipeError, SourceNotFoundError

ROOT = Path(__file__).resolve().parents[1]


def run_python(*arguments: str, cwd: Path, **environment: str) -> subprocess.CompletedProcess[str]:
    return subprocess.run(
        [sys.executable, *arguments],
        cwd=cwd,
        env={**os.environ, **environment},
        capture_output=True,
        text=True,
        timeout=240,
        check=False,
    )


def run_pytest(folder: Path, test: str, *options: str, **environment: str) -> subprocess.CompletedProcess[str]:
    """Run tests under the project's own pytest settings and conftest."""
    (folder / "conftest.py").write_text((ROOT / "tests/conftest.py").read_text())
    (folder / "test_it.py").write_text(test)
    settings = tomllib.loads((ROOT / "pyproject.toml").read_text())["tool"]["pytest"]["ini_options"]
    rows = [f"{key} = {json.dumps(value)}" for key, value in settings.items() if key != "testpaths"]
    (folder / "pyproject.toml").write_text("[tool.pytest.ini_options]\n" + "\n".join(rows))
    quietly = ("-m", "pytest", "-q", "-rs", "-p", "no:cacheprovider")
    return run_python(*quietly, *options, "test_it.py", cwd=folder, **environment)


def test_import_is_light():
    heavy = ["nvidia.dali", "torchvision", "torch", "numba"]
    code = f"import sys, dalipipe; print([name for name in {heavy} if name in sys.modules])"
    result = run_python("-W", "error", "-c", code, cwd=ROOT)
    assert result.stdout.strip() == "[]", result.stdout + result.stderr


def test_public_namespace_is_all_of_it_and_small():
    code = """
import json, sys, dalipipe
public = [name for name in dir(dalipipe) if not name.startswith("_")]
modules = [name for name in public if f"dalipipe.{name}" in sys.modules and name not in dalipipe.__all__]
print(json.dumps(sorted(set(public) - set(modules))))
"""
    result = run_python("-c", code, cwd=ROOT)
    assert result.returncode == 0, result.stderr
    public = [name for name in dalipipe.__all__ if not name.startswith("_")]
    assert json.loads(result.stdout) == sorted(public)
    errors_aside = [name for name in public if not name.endswith("Error")]
    assert len(public) == len(set(public)) and len(errors_aside) <= 15
    for name in dalipipe.__all__:
        assert getattr(dalipipe, name) is not None


def test_version_is_the_packages():
    assert dalipipe.__version__ == tomllib.loads((ROOT / "pyproject.toml").read_text())["project"]["version"]


def test_every_exception_is_in_the_documented_tree_and_is_a_builtin_too():
    own = [each for each in vars(errors).values() if getattr(each, "__module__", "") == errors.__name__]
    kinds = [kind for kind in own if isinstance(kind, type) and kind is not DalipipeError]
    assert SourceNotFoundError in kinds
    for kind in kinds:
        assert issubclass(kind, DalipipeError)
        assert issubclass(kind, ValueError | RuntimeError)
        assert kind.__name__ in (errors.__doc__ or "")
        assert str(kind("where: rule, got value.")) == "where: rule, got value."
    assert issubclass(SourceNotFoundError, FileNotFoundError)


def test_warnings_are_errors():
    with pytest.raises(UserWarning, match="careless"):
        warnings.warn("careless", UserWarning, stacklevel=1)


def test_every_ignored_warning_has_its_reason_beside_it():
    lines = (ROOT / "pyproject.toml").read_text().splitlines()
    start = lines.index("filterwarnings = [")
    rows = lines[start + 1 : lines.index("]", start)]
    ignores = [index for index, row in enumerate(rows) if "ignore" in row.split("#")[0]]
    bare = [rows[index] for index in ignores if "#" not in rows[index] and not rows[index - 1].strip().startswith("#")]
    assert rows[0].strip() == '"error",'
    assert bare == []


def test_unknown_markers_are_refused(tmp_path):
    result = run_pytest(tmp_path, "import pytest\n@pytest.mark.gpuu\ndef test_it(): pass\n")
    assert result.returncode != 0
    assert "gpuu" in result.stdout


GPU_TEST = "import pytest\n@pytest.mark.gpu\ndef test_it(): pass\n"


def test_a_gpu_test_is_skipped_where_there_is_no_gpu(tmp_path):
    result = run_pytest(tmp_path, GPU_TEST, CUDA_VISIBLE_DEVICES="", DALIPIPE_REQUIRE="")
    assert result.returncode == 0, result.stdout + result.stderr
    assert "1 skipped" in result.stdout


def test_a_gpu_test_fails_where_a_gpu_is_required_and_missing(tmp_path):
    result = run_pytest(tmp_path, GPU_TEST, CUDA_VISIBLE_DEVICES="", DALIPIPE_REQUIRE="gpu")
    assert result.returncode == 1, result.stdout + result.stderr
    assert "DALIPIPE_REQUIRE=gpu" in result.stdout
    assert "skipped" not in result.stdout


HANG = """
import ctypes, os, time

def test_first(): pass

def test_forked():
    if os.fork() == 0:
        time.sleep(200)
        os._exit(0)
    ctypes.CDLL(None).sleep(200)

def test_gil():
    ctypes.PyDLL(None).sleep(200)

def test_last(): pass
"""


def test_a_test_that_hangs_fails_and_the_others_go_on(tmp_path):
    limits = ("-n", "2", "-o", "timeout=2", "-o", "faulthandler_timeout=4")
    result = run_pytest(tmp_path, HANG, *limits)
    assert result.returncode == 1
    assert "2 failed, 2 passed" in result.stdout, result.stdout
    for name in ("test_forked", "test_gil"):
        assert re.search(rf"worker '\w+' crashed while running 'test_it.py::{name}'", result.stdout)
        assert re.search(rf'File ".*test_it.py", line \d+ in {name}', result.stderr)
    assert "test_it.py::test_forked hangs; its threads:" in result.stderr


@pytest.mark.gpu
def test_the_gpu_is_usable():
    import torch

    assert torch.ones(2, device="cuda").sum().item() == 2


def test_a_name_is_suggested_where_one_is_near_and_lists_say_how_much_they_leave_out():
    assert errors.nearest("CentreCrop", ["Resize", "CenterCrop"]) == "Did you mean 'CenterCrop'? "
    assert errors.nearest("zebra", ["Resize", "CenterCrop"]) == ""
    assert errors.listed(["a", "b"], 2) == "a, b"
    assert errors.listed(["a", "b", "c"], 2, " = ") == "a = b and 1 more"
