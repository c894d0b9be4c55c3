"""Standard output and standard error that are closed, full, or read by somebody who has gone: no traceback."""

import subprocess
import sys

import pytest

DALIPIPE = f"{sys.executable} -m dalipipe"


def run(command):
    return subprocess.run(["bash", "-c", command], capture_output=True, text=True, timeout=120, check=False)


@pytest.mark.parametrize("command", ["recipes"])
@pytest.mark.parametrize("way", [">&-", "> /dev/full", "2>&-", ">&- 2>&-", "| head -c 1"])
def test_every_way_ends_without_a_traceback(command, way):
    done = run(f"set -o pipefail; {DALIPIPE} {command} {way}")
    assert "Traceback" not in done.stderr and "Exception ignored" not in done.stderr
    if way == "> /dev/full":
        assert done.returncode == 1
        assert done.stderr.splitlines()[-1].startswith("error: standard output: must be writable, got: No space left")
        assert len(done.stderr.splitlines()) == 1
    elif way == "| head -c 1":
        assert done.stderr == ""
        assert done.returncode in (0, 1)
    else:
        assert done.returncode == 0


def test_a_mistake_is_told_where_standard_output_is_closed():
    done = run(f"{DALIPIPE} show no-such-recipe >&-")
    assert done.returncode == 2
    assert done.stderr.startswith("error: ")
