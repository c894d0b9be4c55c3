"""Fine-tuning begins where a new last layer knows nothing, and says so where it does not."""

import math

import numpy as np
import pytest
import torch
from PIL import Image

from dalipipe.training.config import TrainConfig
from dalipipe.training.data import open_data
from dalipipe.training.network.models import create_model
from dalipipe.training.network.trained import load_model
from dalipipe.training.observer import Observer
from dalipipe.training.run.loop import train
from dalipipe.training.run.problems import high_start
from tests.training.breaking import Watching

TINY = "timm/test_vit"  # takes 160 px only


@pytest.fixture
def folder(tmp_path):
    """Forty images of two classes, red and blue, and weights for eleven other classes."""
    pytest.importorskip("timm")
    rng = np.random.default_rng(2)
    for label, channel in (("blue", 2), ("red", 0)):
        (tmp_path / "photos" / label).mkdir(parents=True)
        for number in range(20):
            pixels = rng.integers(0, 256, (24, 24, 3), dtype=np.uint8) // 2
            pixels[..., channel] += 90
            Image.fromarray(pixels).save(tmp_path / "photos" / label / f"{number}.png")
    torch.manual_seed(3)
    torch.save(create_model(TINY, 11).state_dict(), tmp_path / "w.pt")
    return tmp_path


def options(folder, **more):
    given = {"data": folder / "photos", "output": folder / "run", "model": TINY, "weights": str(folder / "w.pt")}
    usual = {"batch_size": 4, "backend": "torchvision", "report": False, "epochs": 2}
    return TrainConfig(**{**given, **usual, **more})


def probed(cfg, model, head):
    """Return the accuracy, on the validation images, of the best dense layer on the network's features."""
    seen = []
    handle = model.get_submodule(head).register_forward_hook(lambda module, taken, out: seen.append(taken[0]))
    with open_data(cfg, 0, Observer()) as data, torch.no_grad():
        parts = []
        for loader in (data.train, data.val):
            seen.clear()
            labels = [labels for images, labels in loader if model.eval()(images) is not None]
            parts.append((torch.cat(seen), torch.cat(labels)))
    handle.remove()
    (x, y), (val_x, val_y) = parts
    targets = torch.nn.functional.one_hot(y).double()
    scale = x.double().std(0) + 1e-6
    x, val_x = (torch.cat([each.double() / scale, torch.ones(len(each), 1)], 1) for each in (x, val_x))
    weight = torch.linalg.solve(x.T @ x + torch.eye(x.shape[1]) * 1.0, x.T @ targets)
    return float(((val_x @ weight).argmax(1) == val_y).float().mean())


def test_frozen_features_reach_their_linear_probe_in_two_epochs(folder):
    cfg = options(folder, freeze="backbone", lr=0.05)
    watching = Watching()
    summary = train(cfg, watching)
    assert not watching.warnings
    best = probed(cfg, load_model(folder / "run/best.pt").model, "head")
    assert best > 0.8
    assert summary["best"]["val_acc"] >= 0.9 * best


def test_a_first_loss_far_above_that_of_chance_is_reported(folder):
    model = create_model(TINY, 2)
    with torch.no_grad():
        model.head.weight.zero_()
        model.head.bias.copy_(torch.tensor([40.0, 0.0]))
    torch.save(model.state_dict(), folder / "w.pt")
    watching = Watching()
    train(options(folder, epochs=1, batch_size=16), watching)
    (warning,) = watching.warnings
    for words in ("epoch 1, batch 1", "ln(2) = 0.69", "--recipe auto"):
        assert words in warning


@pytest.mark.parametrize("classes", [2, 10, 1000])
def test_a_usual_first_loss_is_not(classes):
    assert not high_start(math.log(classes) + 1, classes)
    assert high_start(math.log(classes) * 1.5 + 2, classes)
