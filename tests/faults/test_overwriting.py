"""A file that is cut short and written again in place, while it is read, costs at most itself."""

from tests.faults.overwriting import read
from tests.warm import run_apart


def test_files_that_are_overwritten_while_they_are_read_cost_at_most_themselves():
    """A file that is mapped into memory and cut short ends the process with SIGBUS: files are read instead."""
    found = run_apart(read, "dali-cpu", 0.7)
    assert found["untouched that failed"] == 0
    assert found["delivered"] >= 8 * found["epochs"] > 0
