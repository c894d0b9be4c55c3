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


def try_all():
    for loader, iterator in zip(loaders, iterators):
        try:
            next(iterator)
            return "an iterator of another process went on"
        except ConfigError as error:
            if "belongs to the process that made it" not in str(error):
                return str(error)
        for number in range(2):
            loader.set_epoch(0)
            if [float(images.numpy().sum()) for images, _ in loader] != expected[loaders.index(loader)]:
                return f"other images in {loader.backend}"
    made = dalipipe.DataLoader(sys.argv[1], 6, backend=sys.argv[2], **options)
    return "right" if [float(images.numpy().sum()) for images, _ in made] == expected[0] else "another loader differs"


child = os.fork()
if child == 0:
    print(try_all(), flush=True)
    sys.exit(7)  # not os._exit: everything is taken apart
_, status = os.waitpid(child, 0)
rest = [len(list(iterator)) for iterator in iterators]
print(os.waitstatus_to_exitcode(status), rest)
"""


@pytest.mark.parametrize("backend", BACKENDS)
def test_a_forked_child_uses_its_parents_loaders_and_the_parent_goes_on(make_image_folder, backend):
    folder = make_image_folder(sizes=((131, 97),))
    run = subprocess.run(
        [sys.executable, "-c", SCRIPT, folder, backend],
        env={**os.environ, "PYTHONPATH": str(ROOT), "OMP_NUM_THREADS": "2"},
        capture_output=True,
        text=True,
        timeout=180,
    )
    assert (run.stdout, run.returncode) == ("right\n7 [1]\n", 0), run.stderr


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
