"""A loader in a forked process: threads stay with the parent; the child makes its own instead of waiting for ever."""

import gc
import multiprocessing
import os
import subprocess
import sys
from pathlib import Path

import pytest
from nvidia.dali import fn
from nvidia.dali.pipeline import Pipeline

from dalipipe.backends import dali_executor  # noqa: F401 - which lets go of pipelines in forked children

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


def test_a_forked_child_is_not_held_up_by_a_pipeline_that_was_garbage():
    """Python takes cycles apart when it likes: in a child that would wait for the parent's threads for ever."""
    gc.collect()
    gc.disable()
    try:
        pipeline = Pipeline(2, 1, device_id=None)
        with pipeline:
            pipeline.set_outputs(fn.zeros(shape=[1]))
        pipeline.build()
        pipeline.run()
        pipeline.itself = pipeline
        del pipeline
        context = multiprocessing.get_context("fork")
        queue = context.Queue()
        child = context.Process(target=_collect, args=(queue,))
        child.start()
        assert queue.get(timeout=60) == "collected"
        child.join()
    finally:
        gc.enable()
