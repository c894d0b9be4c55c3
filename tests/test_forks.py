"""A loader in a forked process: threads stay with the parent; the child makes its own instead of waiting for ever."""

import gc
import multiprocessing
import os
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest
from nvidia.dali import fn
from nvidia.dali.pipeline import Pipeline
from PIL import Image

from dalipipe.backends import (
    dali_executor,  # noqa: F401 - which lets go of pipelines in forked children
    forks,
)

ROOT = Path(__file__).resolve().parents[1]
BACKENDS = ["dali-cpu", "dali-cpu-stock", "torchvision"]
SCRIPT = """
import os, sys
import torch
import dalipipe
from dalipipe.errors import ConfigError

torch.set_num_threads(2)
recipe = dalipipe.Recipe.from_toml('ops = [{ op = "CenterCrop", size = 224 }, { op = "ToDtype", scale = true }]')
options = {"recipe": recipe, "num_threads": 2, "seed": 1}
loaders = [dalipipe.DataLoader(sys.argv[1], 6, backend=name, **options) for name in sys.argv[2:]]
torch.ones(10**7).add(1)  # torch has threads now; the main thread of a child can use none, for sums say
expected = [[float(images.numpy().sum()) for images, _ in loader] for loader in loaders]
iterators = [iter(loader) for loader in loaders]
for iterator in iterators:
    next(iterator)


def try_all(loader, iterator, expected):
    try:
        next(iterator)
        return "an iterator of another process went on"
    except ConfigError as error:
        if "belongs to the process that made it" not in str(error):
            return str(error)
    for number in range(2):
        loader.set_epoch(0)
        if [float(images.numpy().sum()) for images, _ in loader] != expected:
            return "other images"
    made = dalipipe.DataLoader(sys.argv[1], 6, backend=loader.backend, **options)
    return "right" if [float(images.numpy().sum()) for images, _ in made] == expected else "another loader differs"


for name, loader, iterator, sums in zip(sys.argv[2:], loaders, iterators, expected):
    child = os.fork()
    if child == 0:
        print(f"{name}: {try_all(loader, iterator, sums)}", flush=True)
        sys.exit(7)  # not os._exit: everything is taken apart
    _, status = os.waitpid(child, 0)
    print(f"{name}: {os.waitstatus_to_exitcode(status)}", flush=True)
print(*(len(list(iterator)) for iterator in iterators))
"""


@pytest.fixture(scope="module")
def forked(tmp_path_factory):
    """The lines that a process prints which has a loader of each backend, and forks a child for each."""
    folder, rng = tmp_path_factory.mktemp("forked"), np.random.default_rng(0)
    for label in ("ant", "bee", "cat"):
        (folder / label).mkdir()
        for name in ("0.jpg", "1.jpg", "2.png", "3.jpg"):
            Image.fromarray(rng.integers(0, 256, (131, 97, 3), dtype=np.uint8)).save(folder / label / name)
    run = subprocess.run(
        [sys.executable, "-c", SCRIPT, folder, *BACKENDS],
        env={**os.environ, "PYTHONPATH": str(ROOT), "OMP_NUM_THREADS": "2"},
        capture_output=True,
        text=True,
        timeout=240,
    )
    assert run.returncode == 0, run.stderr
    return run.stdout.splitlines()


@pytest.mark.parametrize("backend", BACKENDS)
def test_a_forked_child_uses_its_parents_loaders(forked, backend):
    assert [line for line in forked if line.startswith(f"{backend}: ")] == [f"{backend}: right", f"{backend}: 7"]


def test_a_parent_of_forked_children_goes_on(forked):
    assert forked[-1] == "1 1 1"


def send(loader, queue):
    queue.put([labels.tolist() for _, labels in loader])


def test_a_loader_can_be_sent_to_a_spawned_process(make_image_folder):
    import dalipipe

    loader = dalipipe.DataLoader(make_image_folder(), 5, True, recipe="cifar-train", backend="torchvision", seed=3)
    wanted = [labels.tolist() for _, labels in loader]
    loader.set_epoch(0)
    context = multiprocessing.get_context("spawn")
    queue = context.Queue()
    child = context.Process(target=send, args=(loader, queue))
    child.start()
    assert queue.get(timeout=120) == wanted
    child.join()


def _collect(queue):
    gc.collect()
    queue.put("collected")


def _collected_in_a_child():
    """Return whether a forked child could collect its garbage."""
    context = multiprocessing.get_context("fork")
    queue = context.Queue()
    child = context.Process(target=_collect, args=(queue,))
    child.start()
    try:
        return queue.get(timeout=60) == "collected"
    finally:
        child.kill()


def _running_pipeline():
    pipeline = Pipeline(2, 1, device_id=None)
    with pipeline:
        pipeline.set_outputs(fn.zeros(shape=[1]))
    pipeline.build()
    pipeline.run()
    return pipeline


def test_a_forked_child_is_not_held_up_by_a_pipeline_that_was_garbage():
    """Python takes cycles apart when it likes: in a child that would wait for the parent's threads for ever."""
    gc.collect()
    gc.disable()
    try:
        pipeline = _running_pipeline()
        pipeline.itself = pipeline
        del pipeline
        assert _collected_in_a_child()
    finally:
        gc.enable()


class Ending:
    """A source whose first file is missing, and whose last sample can't be had at all."""

    classes, labels = ("a", "b"), np.arange(8, dtype=np.int64) % 2

    def __init__(self, path):
        self.path = path

    def __len__(self):
        return len(self.labels)

    def item(self, index):
        if index == 7:
            raise LookupError("there is no sample 7")
        return str(self.path) if index else "missing.jpg"


def test_a_forked_child_is_not_held_up_by_what_an_error_left_behind(make_image_folder):
    """A bad file leaves a pipeline for single samples; the error of a source then takes the other away."""
    import dalipipe

    recipe = dalipipe.Recipe.from_toml('ops = [{ op = "Resize", size = [8, 8] }]')
    path = next(make_image_folder(per_class=1).rglob("*.jpg"))
    loader = dalipipe.DataLoader(Ending(path), 2, recipe=recipe, backend="dali-cpu-stock", on_error="skip")
    with pytest.raises(LookupError, match="sample 7"):
        list(loader)
    assert _collected_in_a_child()


class Holding:
    """What has threads, and is the last to know of a pipeline."""

    def __init__(self, pipeline):
        self.pipeline = pipeline

    def after_fork(self):
        del self.pipeline


def test_pipelines_are_let_go_of_before_anything_that_may_hold_one():
    holding = [Holding(_running_pipeline()) for _ in range(3)]
    for one in holding:
        forks.register(one)
    assert _collected_in_a_child()
