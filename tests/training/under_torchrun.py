"""What each of several processes does and sees that train the tiny network: functions for `tests.warm`."""

import multiprocessing
import os
import signal

import torch
from torch import nn
from torch.distributed.launcher.api import LaunchConfig, elastic_launch

from dalipipe.errors import ConfigError, DalipipeError, StoppedError
from dalipipe.training.config import TrainConfig
from dalipipe.training.run import learning, loop
from dalipipe.training.run.processes import Processes
from tests.warm import QUICKLY

COUNT = 23  # training images: two batches of eight, and one of seven, which no number of processes divides
SMOOTH = {"batch_size": 8, "epochs": 2, "lr": 0.02, "weights": "none", "report": False, "threads": 1, "patience": 0}
VARIANTS = {
    "plain": {},
    "gathered gradients, average": {"accumulate": 2, "ema": 0.9, "clip_norm": 0.5},
    "weighted classes": {"balance": "loss", "label_smoothing": 0.1},
    "balanced sampler": {"balance": "sampler", "backend": "dali-cpu"},
    "frozen": {"freeze": "1", "unfreeze_at": 2, "tta": True},
    "substitutes": {"on_error": "substitute", "data": "spoilt"},
}


def smooth_model(name, classes, head, dropout):
    """A network with batch norm and without steps in its gradients, so that rounding stays rounding."""
    blocks = nn.Sequential(nn.Conv2d(3, 4, 5, stride=3), nn.BatchNorm2d(4), nn.Tanh(), nn.Conv2d(4, 4, 3))
    return nn.Sequential(blocks, nn.BatchNorm2d(4), nn.Tanh(), nn.Flatten(), nn.Linear(16, classes))


def config(folder, output, **options):
    given = {**SMOOTH, "backend": "torchvision", "data": "images", **options}
    data, recipe = folder / given.pop("data"), str(folder / given.pop("recipe", "tiny.toml"))
    return TrainConfig(**{**given, "data": data, "recipe": recipe, "output": folder / output})


class Steps:
    """Stands in for the step that learns from a batch: notes the samples, and does what is asked for at one of them."""

    def __init__(self, at=None, then=None):
        self.learn, self.at, self.then, self.seen = learning.learn, at, then, []

    def __call__(self, state, images, labels, where):
        self.seen.append((state.epoch, state.batch, state.loader.last_indices.tolist()))
        if self.at is not None and len(self.seen) == self.at:
            self.then()
        self.learn(state, images, labels, where)


def watched(cfg, at=None, then=None):
    """Train, and return the samples of each step."""
    replaced, learning.learn = learning.learn, Steps(at, then)
    try:
        loop.train(cfg)
        return learning.learn.seen
    except StoppedError:
        return learning.learn.seen
    finally:
        learning.learn = replaced


def prepare():
    torch.set_num_threads(1)
    loop.create_model = smooth_model
    return Processes.from_environment()


def variants(folder):
    """Train in every variant, take up the run of one process, exchange words, and be refused."""
    mine = prepare()
    with mine.joined(torch.device("cpu")):
        seen = {name: watched(config(folder, f"two/{name}", **options)) for name, options in VARIANTS.items()}
        seen["taken up"] = watched(config(folder, "taken up", resume=True))
        seen["checked"] = exchanges(mine)
        seen["differing"] = {name: refused(folder, mine, *options) for name, options in DIFFERING.items()}
    return seen


def stopped(folder):
    """Train until a signal comes to one of the processes."""
    mine = prepare()

    def stop():
        if mine.rank == 1:
            os.kill(os.getpid(), signal.SIGTERM)

    return watched(config(folder, "stopped", checkpoint_every="1h"), 2, stop)


def killed(folder):
    """Train, and be killed once, where no cleaning up is done."""
    mine = prepare()

    def die():
        if mine.rank == 1 and mine.restarts == 0:
            os.kill(os.getpid(), signal.SIGKILL)

    return watched(config(folder, "killed", checkpoint_every="1"), 5, die)


def launched(folder):
    """Launch two processes with what torchrun is made of, which starts them anew, once, where one of them is killed."""
    multiprocessing.set_forkserver_preload(QUICKLY)
    launch = LaunchConfig(1, 1, 2, run_id="killed", rdzv_backend="c10d", rdzv_endpoint="localhost:0", max_restarts=1,
                          start_method="forkserver")  # fmt: skip
    return list(elastic_launch(launch, killed)(folder).values())


DIFFERING = {
    "files": ({}, {"data": "fewer"}),
    "classes": ({}, {"data": "renamed"}),
    "recipe": ({}, {"recipe": "other.toml"}),
    "options": ({"lr": 0.02}, {"lr": 0.03}),
    "one that can't open its data": ({}, {"data": "gone"}),
    "one that can't find its weights": ({}, {"weights": "gone.pt"}),
    "another folder with the same images": ({}, {"data": "copied"}),
}


def refused(folder, mine, *options):
    """What a process is told where each has other options."""
    try:
        watched(config(folder, "differing", epochs=1, **{"data": "images", **options[mine.rank]}))
    except ConfigError as error:
        return str(error)
    except DalipipeError as error:
        return " ".join([str(error), *error.__notes__])
    return ""


def exchanges(mine):
    """What the processes tell each other."""
    return {
        "total": mine.total([mine.rank + 1.0, 0.5]),
        "greatest": mine.greatest([mine.rank, -mine.rank]),
        "gathered": mine.gathered({"rank": mine.rank}),
        "from_first": mine.from_first(lambda: f"rank {mine.rank}"),
    }
