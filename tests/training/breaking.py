"""Runs that cost nothing, and what it takes to break them off and go on with them."""

import pytest
import torch
from torch import nn

from dalipipe.training.config import TrainConfig
from dalipipe.training.network.checkpoint import load_checkpoint
from dalipipe.training.observer import Observer
from dalipipe.training.run import loop
from dalipipe.training.run.loop import train

RECIPE = """
name = "tiny"
[[ops]]
op = "RandomResizedCrop"
size = 16
[[ops]]
op = "RandomHorizontalFlip"
[[ops]]
op = "Normalize"
mean = [0.5]
std = [0.5]
"""


def tiny_model(name, classes, head, dropout):
    """A network with batch norm and dropout, for images of 3 x 16 x 16, whose steps cost nothing."""
    blocks = (nn.Conv2d(3, 4, 5, stride=3), nn.BatchNorm2d(4), nn.ReLU(), nn.Conv2d(4, 4, 3), nn.BatchNorm2d(4))
    return nn.Sequential(*blocks, nn.Flatten(), nn.Dropout(0.5), nn.Linear(16, classes))


def config(data, output="run", **options):
    """Return a run of 16 images in 4 batches, and 4 to validate on."""
    given = {"recipe": "tiny.toml", "weights": "none", "epochs": 3, "batch_size": 4, "lr": 0.02,
             "backend": "torchvision", "threads": 1, "report": False, "checkpoint_every": "1",
             "data": data / "images", "output": data / output, **options}  # fmt: skip
    return TrainConfig(**{**given, "recipe": str(data / given["recipe"])})


MANY_EPOCHS = 30


def many_epochs(data):
    """Return a run that is long enough to be killed in, from outside."""
    return config(data, epochs=MANY_EPOCHS, patience=0, checkpoint_every="3")


def train_many_epochs(data):
    """Train that, in a process that has only this to do."""
    torch.set_num_threads(1)
    loop.create_model = tiny_model
    train(many_epochs(data))


class Killed(BaseException):
    """Ends a run as a signal does that can't be caught: nobody handles it."""


class Watching(Observer):
    """Counts the moments of a run, kills it at one of them, and keeps what it is told."""

    def __init__(self, moment=None, then=None):
        self.moment, self.then = moment, then
        self.moments, self.batches, self.warnings, self.where, self.done = 0, [], [], [], []

    def pass_moment(self):
        self.moments += 1
        if self.moments == self.moment:
            if self.then is None:
                raise Killed
            self.then()

    def batch(self, step):
        self.batches.append((step.epoch, step.batch))
        self.pass_moment()

    def validating(self, epoch):
        self.pass_moment()

    def epoch(self, metrics, best):
        self.pass_moment()

    def warning(self, message):
        self.warnings.append(message)

    def resumed(self, where):
        self.where.append(where)

    def finished(self, output):
        self.done.append(output.name)


def kill(cfg, moment):
    observer = Watching(moment)
    with pytest.raises(Killed):
        train(cfg, observer)
    return observer


def resume(cfg, moment=None):
    observer = Watching(moment)
    train(cfg.model_copy(update={"resume": True}), observer)
    return observer


def assert_same(one, other):
    """Two runs have come to the same: weights, bit for bit, and measures, byte for byte."""
    assert (one / "metrics.jsonl").read_bytes() == (other / "metrics.jsonl").read_bytes()
    for name in ("best.pt", "last.pt"):
        first, second = load_checkpoint(one / name), load_checkpoint(other / name)
        assert (first.epoch, first.metrics) == (second.epoch, second.metrics), name
        assert all(torch.equal(first.state_dict[key], second.state_dict[key]) for key in second.state_dict), name
    assert not [path.name for path in one.rglob("*.tmp")]


def checkpoints(data):
    return sorted((data / "run/checkpoints").iterdir())
