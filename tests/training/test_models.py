import warnings

import pytest
import torch
from torch import nn

from dalipipe.errors import ConfigError
from dalipipe.training.network.blocks import Blocks
from dalipipe.training.network.models import check_images, create_model, head_names, resolve_device, torchvision_models

FAMILIES = ("resnet18", "vgg11_bn", "alexnet", "squeezenet1_1", "densenet121", "mobilenet_v3_small", "efficientnet_b0")


def shape_of(name, classes=3, head="linear"):
    """Return a network without memory for its weights."""
    with torch.device("meta"), warnings.catch_warnings():
        warnings.simplefilter("ignore")
        return create_model(name, classes, head)


def test_a_network_has_one_output_per_class():
    torch.manual_seed(0)
    assert create_model("resnet18", 3)(torch.zeros(2, 3, 37, 41)).shape == (2, 3)


def test_all_of_torchvisions_can_be_named():
    assert set(torchvision_models()) > {"resnet18", "vgg16_bn", "vit_b_16", "convnext_tiny", "efficientnet_b0"}


@pytest.mark.parametrize("name", [*FAMILIES, "googlenet", "inception_v3", "vit_b_16", "swin_t", "maxvit_t"])
def test_head_and_blocks_are_all_of_a_network(name):
    model = shape_of(name)
    (head,) = head_names(model)
    assert model.state_dict()[f"{head}.weight"].shape[0] == 3
    blocks = Blocks.of(model, (head,))
    names = [key for block in range(-1, len(blocks.backbone)) for key, _ in blocks.parameters(model, block)]
    assert sorted(names) == sorted(key for key, _ in model.named_parameters())
    assert len(blocks.backbone) >= 7


def test_the_seed_gives_the_first_weights():
    def first(seed):
        torch.manual_seed(seed)
        return create_model("squeezenet1_1", 2).state_dict()["features.0.weight"]

    assert torch.equal(first(1), first(1))
    assert not torch.equal(first(1), first(2))


@pytest.mark.parametrize("name", ["vgg16", "alexnet", "resnet18", "mobilenet_v3_small"])
def test_gap_is_pooling_dropout_and_one_dense_layer(name):
    large, small = shape_of(name), shape_of(name, head="gap")
    size = [sum(p.numel() for p in model.parameters()) for model in (large, small)]
    assert size[1] <= size[0]
    if name in ("vgg16", "alexnet"):
        assert size[1] < size[0] / 5
        assert isinstance(small.avgpool, nn.AdaptiveAvgPool2d)
    assert small(torch.empty(2, 3, 64, 64, device="meta")).shape == (2, 3)
    assert any(isinstance(module, nn.Dropout) and module.p == 0.5 for module in small.modules())


def test_gap_is_refused_where_the_network_pools_already():
    with pytest.raises(ConfigError, match="--head gap: needs a dense last layer, got squeezenet1_1"):
        shape_of("squeezenet1_1", head="gap")


@pytest.mark.parametrize(
    ("name", "words"), [("resnet19", "Did you mean 'resnet18'?"), ("timm/resnet19", "Did you mean 'timm/resnet18'?")]
)
def test_an_unknown_network_is_refused_with_the_nearest(name, words):
    if name.startswith("timm"):
        pytest.importorskip("timm")
    with pytest.raises(ConfigError, match=f"--model: must be a known network, got '{name}'") as caught:
        create_model(name, 2)
    assert words in str(caught.value)


def test_timms_networks_are_built_for_the_classes():
    pytest.importorskip("timm")
    model = create_model("timm/resnet10t", 3)
    assert model(torch.zeros(1, 3, 64, 64)).shape == (1, 3)
    (head,) = head_names(model)
    assert model.state_dict()[f"{head}.weight"].shape[0] == 3
    with pytest.raises(ConfigError, match="--head gap: is for torchvision's networks, got timm/resnet10t"):
        create_model("timm/resnet10t", 3, "gap")


@pytest.mark.parametrize(
    ("name", "heads"), [("deit_tiny_distilled_patch16_224", 2), ("efficientformer_l1", 2), ("crossvit_tiny_240", 1)]
)
def test_all_heads_of_a_network_are_its_head(name, heads):
    pytest.importorskip("timm")
    model = shape_of(f"timm/{name}")
    names = head_names(model)
    assert len(names) == heads
    blocks = Blocks.of(model, names)
    parameters = [key for block in range(-1, len(blocks.backbone)) for key, _ in blocks.parameters(model, block)]
    assert sorted(parameters) == sorted(key for key, _ in model.named_parameters())
    assert {3} == {parameter.shape[0] for key, parameter in blocks.parameters(model, -1)}


def test_blocks_that_share_parameters_have_each_of_them_once():
    pytest.importorskip("timm")
    model = shape_of("timm/coat_lite_tiny")
    blocks = Blocks.of(model, head_names(model))
    found = [id(each) for block in range(-1, len(blocks.backbone)) for _, each in blocks.parameters(model, block)]
    assert len(found) == len(set(found)) == len(list(model.parameters()))


def test_a_network_that_names_no_classes_is_refused():
    model = nn.Sequential(nn.Flatten(), nn.Linear(12, 5))
    check_images("encoder", model, 4, (3, 2, 2), training=False, classes=5)
    with pytest.raises(ConfigError, match=r"each of the 2 classes, \(4, 2\) for a batch, got \(4, 5\) from encoder"):
        check_images("encoder", model, 4, (3, 2, 2), training=False, classes=2)


def test_without_timm_its_networks_say_how_to_get_it(monkeypatch):
    monkeypatch.setitem(__import__("sys").modules, "timm", None)
    with pytest.raises(ConfigError, match=r"needs timm, .* pip install 'dalipipe\[timm\]'"):
        create_model("timm/resnet10t", 3)


@pytest.mark.parametrize(
    ("name", "batch_size", "side_px"), [("resnet18", 1, 32), ("vgg11", 2, 31), ("vgg11_bn", 1, 16), ("vit_b_16", 2, 65)]
)
def test_images_that_the_network_cannot_take_are_refused_before_there_are_any(name, batch_size, side_px):
    model = shape_of(name)
    with pytest.raises(ConfigError, match=f"{name}: can't take {batch_size} x {side_px} x {side_px} px at once"):
        check_images(name, model, batch_size, (3, side_px, side_px), training=True)


@pytest.mark.parametrize(
    ("name", "side_px", "training"),
    [("resnet18", 32, False), ("resnet18", 33, True), ("vgg11", 32, True), *((name, 65, True) for name in FAMILIES)],
)
def test_images_that_it_can_take_pass_and_change_nothing(name, side_px, training):
    model = shape_of(name).eval()
    size = 1 if name != "densenet121" else 2
    assert check_images(name, model, size, (3, side_px, side_px), training=training) is None
    assert not model.training


def test_checking_images_leaves_batch_norm_alone():
    model = create_model("resnet18", 2)
    before = {key: tensor.clone() for key, tensor in model.state_dict().items()}
    check_images("resnet18", model, 2, (3, 64, 64), training=True)
    assert all(torch.equal(before[key], tensor) for key, tensor in model.state_dict().items())


def test_auto_is_a_device_that_works():
    assert torch.ones(2, device=resolve_device("auto")).sum() == 2


@pytest.mark.parametrize("name", ["gpu", "meta", "", "cuda:99"])
def test_a_device_that_does_not_work_is_refused(name):
    with pytest.raises(ConfigError, match="--device: must be one that"):
        resolve_device(name)
