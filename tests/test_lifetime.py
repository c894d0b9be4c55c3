"""Memory, threads and files stay as they were, however long a loader lives; Ctrl-C ends a run at once."""

import gc
import os
import signal
import subprocess
import sys
from pathlib import Path

import psutil
import pytest

import dalipipe
from dalipipe.recipes import ops
from tests.warm import run_apart

ROOT = Path(__file__).resolve().parents[1]
MOST_GROWTH = 30  # MB after warm-up; allocators keep some of what they were given
BACKENDS = ["dali-cpu", "dali-cpu-stock", "torchvision"]


def readings(folder, backend):
    """Return memory in MB, threads and files of this process, after so many iterators and so many epochs."""
    recipe = dalipipe.Recipe(name="test", ops=(ops.RandomResizedCrop(size=64), ops.RandomHorizontalFlip()))
    process, found = psutil.Process(), []

    def note():
        gc.collect()
        found.append((round(process.memory_info().rss / 1e6, 1), process.num_threads(), process.num_fds()))

    loader = dalipipe.DataLoader(folder, 4, True, recipe=recipe, backend=backend, seed=0, num_threads=2)
    for _ in range(10):  # warm-up
        list(loader)
    note()
    for number in range(1, 201):
        for _images, _labels in loader:
            break
        if number % 25 == 0:
            note()
    for number in range(1, 51):
        for _images, _labels in loader:
            pass
        if number % 10 == 0:
            note()
    loader.close()
    return found


ENDLESS = """
import atexit, gc, sys, time
import dalipipe

# Python's own last look at all of torch's objects takes a second or more on a busy machine, with a loader or without.
atexit.register(gc.freeze)
loader = dalipipe.DataLoader(sys.argv[1], 2, recipe="cifar-train", backend=sys.argv[2], seed=0, num_threads=2)
while True:
    for images, labels in loader:
        print("batch", flush=True)
        time.sleep(float(sys.argv[3]))
"""

LEFT_OPEN = """
import sys
import dalipipe

options = {"recipe": "cifar-train", "num_threads": 2}
loaders = [dalipipe.DataLoader(sys.argv[1], 2, backend=name, **options) for name in sys.argv[2:]]
iterators = [iter(loader) for loader in loaders]
print([len(next(iterator)[1]) for iterator in iterators])
"""


def start(script, *arguments):
    environment = {**os.environ, "PYTHONPATH": str(ROOT), "OMP_NUM_THREADS": "1"}
    pipes = {"stdout": subprocess.PIPE, "stderr": subprocess.PIPE}
    return subprocess.Popen([sys.executable, "-c", script, *map(str, arguments)], env=environment, text=True, **pipes)


@pytest.mark.slow
@pytest.mark.parametrize("backend", BACKENDS)
def test_200_iterators_and_50_epochs_leave_memory_threads_and_files_as_they_were(make_image_folder, backend):
    folder = make_image_folder(per_class=8, sizes=((301, 211), (97, 131)))
    rows = run_apart(readings, folder, backend)
    print(f"\n{backend}: RSS in MB, threads, files: {rows}")
    memory, threads, files = ([row[column] for row in rows] for column in range(3))
    assert max(memory) - memory[0] < MOST_GROWTH, memory
    assert max(threads) <= threads[0], threads
    # After an early break a thread may still read the file that it has open.
    assert files[-1] <= files[0] and max(files) <= files[0] + 2, files


def test_a_script_that_ends_in_the_middle_of_an_epoch_ends_in_silence(make_image_folder):
    process = start(LEFT_OPEN, make_image_folder(per_class=8), *BACKENDS)
    out, errors = process.communicate(timeout=240)
    assert (process.returncode, out, errors) == (0, "[2, 2, 2]\n", "")


@pytest.mark.parametrize(
    ("backend", "pause"),
    [
        pytest.param("dali-cpu", 0, id="dali-cpu, waiting for batches"),
        pytest.param("dali-cpu", 3600, id="dali-cpu, in the user's loop"),
        pytest.param("torchvision", 0, id="torchvision, waiting for batches"),
    ],
)
def test_ctrl_c_in_the_middle_of_an_epoch_ends_the_script(make_image_folder, backend, pause):
    process = start(ENDLESS, make_image_folder(per_class=8), backend, pause)
    try:
        assert process.stdout.readline() == "batch\n", process.stderr.read()
        process.send_signal(signal.SIGINT)
        _, errors = process.communicate(timeout=240)  # by itself it never ends
    finally:
        process.kill()
    # Usually ended by the signal itself; status 1 where a library's exit hook ran Python code of its own.
    assert process.returncode in (-signal.SIGINT, 1), errors
    assert errors.count("Traceback") == 1 and "KeyboardInterrupt" in errors.splitlines(), errors
