"""Every script in examples/ runs as it stands."""

import os
import subprocess
import sys
from pathlib import Path

EXAMPLES = Path(__file__).resolve().parents[1] / "examples"


def run(script, *arguments):
    return subprocess.run(
        [sys.executable, EXAMPLES / script, *map(str, arguments)],
        env={**os.environ, "PYTHONPATH": str(EXAMPLES.parent)},
        capture_output=True,
        text=True,
        timeout=300,
        check=False,
    )


def test_quickstart_trains_on_a_folder(make_image_folder):
    result = run("quickstart.py", make_image_folder(per_class=5))
    assert result.returncode == 0, result.stderr
    lines = result.stdout.splitlines()
    assert [line.split(":")[0] for line in lines] == [f"epoch {number}" for number in range(1, 9)]
    assert all(line.endswith("of 3 validation images right") for line in lines)


def test_every_example_has_its_test():
    tests = "".join(path.read_text() for path in Path(__file__).parent.rglob("test_*.py"))
    for script in EXAMPLES.glob("*.py"):
        assert f'run("{script.name}"' in tests or f'"examples/{script.name}"' in tests
