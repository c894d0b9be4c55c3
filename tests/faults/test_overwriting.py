"""A file that is cut short and written again in place, while it is read, costs at most itself."""

import json
import os
import subprocess
import sys
from pathlib import Path


def test_files_that_are_overwritten_while_they_are_read_cost_at_most_themselves():
    """A file that is mapped into memory and cut short ends the process with SIGBUS: files are read instead."""
    root = Path(__file__).parents[2]
    environment = {**os.environ, "PYTHONPATH": os.pathsep.join([str(root), os.environ.get("PYTHONPATH", "")])}
    result = subprocess.run(
        [sys.executable, "-W", "ignore", "-m", "tests.faults.overwriting", "dali-cpu", "0.7"],
        cwd=root,
        env=environment,
        capture_output=True,
        text=True,
        timeout=240,
        check=False,
    )
    assert result.returncode == 0, result.stderr[-2000:]
    found = json.loads(result.stdout)
    assert found["untouched that failed"] == 0
    assert found["delivered"] >= 8 * found["epochs"] > 0
