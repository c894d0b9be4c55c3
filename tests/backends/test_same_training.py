"""A network learns from dali-cpu what it learns from torchvision: the same losses and weights, bit for bit."""

import pytest
import torch
from torchvision.models import resnet18

from dalipipe import DataLoader, Recipe

RECIPE = Recipe.from_toml("""
ops = [
    { op = "RandomResizedCrop", size = 32 },
    { op = "RandomHorizontalFlip" },
    { op = "ColorJitter", brightness = 0.4, contrast = 0.4, saturation = 0.4, hue = 0.1 },
    { op = "Resize", size = [35, 37], interpolation = "bicubic" },
    { op = "Normalize", mean = [0.485, 0.456, 0.406], std = [0.229, 0.224, 0.225] },
    { op = "RandomErasing", p = 0.5 },
]
""")


@pytest.fixture
def one_thread():
    before = torch.get_num_threads()
    torch.set_num_threads(1)  # sums come in an order of their own on several
    yield
    torch.set_num_threads(before)


def trained(root, backend, brighter=0.0):
    """Return the losses and the weights of a network after two epochs."""
    torch.manual_seed(0)
    model = resnet18(num_classes=2)
    optimizer = torch.optim.SGD(model.parameters(), lr=0.05, momentum=0.9)
    losses = []
    with DataLoader(root, 6, recipe=RECIPE, backend=backend, num_threads=2, shuffle=True, seed=3) as loader:
        for _ in range(2):
            for images, labels in loader:
                loss = torch.nn.functional.cross_entropy(model(images + brighter), labels)
                optimizer.zero_grad()
                loss.backward()
                optimizer.step()
                losses.append(loss.item())
    return losses, model.state_dict()


@pytest.mark.usefixtures("one_thread")
def test_a_network_learns_the_same_bit_for_bit(make_image_folder):
    root = make_image_folder(classes=("ant", "bee"), per_class=9, sizes=((101, 67), (59, 83), (31, 47)))
    losses, weights = trained(root, "dali-cpu")
    expected, expected_weights = trained(root, "torchvision")
    assert len(losses) == 6
    assert losses == expected
    assert all(torch.equal(weight, expected_weights[name]) for name, weight in weights.items())
    # A thousandth of a level would show.
    assert trained(root, "torchvision", brighter=1e-5)[0] != expected
