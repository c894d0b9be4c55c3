import numpy as np
import pytest
import torch
from PIL import Image

from tests.training.breaking import RECIPE, tiny_model


@pytest.fixture
def tiny_network(monkeypatch):
    """Let runs train the tiny network in place of a ResNet, in one thread: several would wait for each other."""
    from dalipipe.training.run import loop

    monkeypatch.setattr(loop, "create_model", tiny_model)
    before = torch.get_num_threads()
    torch.set_num_threads(1)
    yield
    torch.set_num_threads(before)


@pytest.fixture
def tiny_data(tmp_path):
    """Red and blue images of 17 x 11 px, 10 each, and a recipe that makes 16 x 16 of them."""
    rng = np.random.default_rng(3)
    for label, channel in (("blue", 2), ("red", 0)):
        (tmp_path / "images" / label).mkdir(parents=True)
        for number in range(10):
            pixels = rng.integers(0, 200, (17, 11, 3), dtype=np.uint8)
            pixels[..., channel] += 50
            Image.fromarray(pixels).save(tmp_path / "images" / label / f"{number}.png")
    (tmp_path / "tiny.toml").write_text(RECIPE)
    (tmp_path / "random.toml").write_text(f'evaluation = "tiny.toml"\n{RECIPE}')
    return tmp_path
