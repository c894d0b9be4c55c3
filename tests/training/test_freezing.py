"""What is frozen computes in evaluation mode altogether: the same images give the same features, and nothing moves."""

import warnings

import pytest
import torch
from torch import nn

from dalipipe.training.config import TrainConfig
from dalipipe.training.network.blocks import Blocks, Freezing
from dalipipe.training.network.models import create_model, head_names

FAMILIES = {
    "alexnet": 64, "convnext_tiny": 32, "densenet121": 32, "efficientnet_b0": 32, "googlenet": 32, "inception_v3": 75,
    "maxvit_t": 224, "mnasnet0_5": 32, "mobilenet_v2": 32, "mobilenet_v3_small": 32, "regnet_y_400mf": 32,
    "resnet18": 32, "shufflenet_v2_x0_5": 32, "squeezenet1_1": 32, "swin_t": 32, "swin_v2_t": 32,
    "vgg11_bn": 32, "vit_b_32": 224, "timm/test_vit": 160, "timm/test_efficientnet": 64, "timm/test_convnext": 64,
    "timm/test_resnet": 64, "timm/test_maxvit": 160, "timm/test_byobnet": 64, "timm/test_mambaout": 64,
    "timm/test_nfnet": 64, "timm/deit_tiny_distilled_patch16_224": 224, "timm/levit_128s": 224,
    "timm/efficientformer_l1": 224, "timm/regnetx_002": 64, "timm/lcnet_050": 64,
}  # fmt: skip


def build(name):
    """Return a network in which everything that can drop something does."""
    torch.manual_seed(0)
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        if not name.startswith("timm/"):
            return create_model(name, 3)
        timm = pytest.importorskip("timm")
        options = {"num_classes": 3, "drop_rate": 0.5}
        try:
            return timm.create_model(name[5:], drop_path_rate=0.5, **options)
        except TypeError:  # it has no stochastic depth
            return timm.create_model(name[5:], **options)


def frozen(model, freeze, **options):
    freezing = Freezing(model, Blocks.of(model, head_names(model)), TrainConfig(freeze=freeze, **options))
    freezing.begin_epoch(1)
    freezing.train_mode()
    return freezing


def taken_by(model, name, images):
    """Return what reaches a module in a forward pass."""
    seen = []
    with model.get_submodule(name).register_forward_hook(lambda module, given, out: seen.append(given[0])):
        model(images)
    return seen


@pytest.mark.parametrize("name", FAMILIES)
def test_two_passes_of_the_same_images_bring_the_same_to_the_head(name):
    model = build(name)
    frozen(model, "backbone")
    before = {key: tensor.clone() for key, tensor in model.state_dict().items()}
    images = torch.randn(2, 3, FAMILIES[name], FAMILIES[name])
    with torch.no_grad():
        for head in head_names(model):
            first, second = taken_by(model, head, images), taken_by(model, head, images)
            assert len(first) == len(second) == 1
            assert torch.equal(first[0], second[0])
            assert model.get_submodule(head).training
    assert all(torch.equal(before[key], tensor) for key, tensor in model.state_dict().items() if "head" not in key)


def test_what_learns_behind_a_frozen_part_stays_random():
    model = build("vgg11_bn")
    blocks = Blocks.of(model, head_names(model))
    frozen(model, str(len(blocks.backbone) - 1))  # all but the dense layer before the head
    drops = [module for module in model.classifier if isinstance(module, nn.Dropout)]
    assert [module.training for module in drops] == [False, True]
    assert not any(module.training for module in model.features.modules())
    frozen(model, "none")
    assert all(module.training for module in model.modules())


def test_the_dropout_of_a_new_head_is_not_frozen():
    model = create_model("vgg11", 3, "gap", 0.5)
    frozen(model, "backbone", head="gap")
    assert [module.training for module in model.classifier] == [True, True]
    assert not model.features.training
