import math
import urllib.error

import pytest
import torch
import torchvision
from safetensors.torch import save_file

from dalipipe.errors import WeightsError
from dalipipe.training.network.checkpoint import Checkpoint, load_checkpoint, save_checkpoint
from dalipipe.training.network.models import create_model, head_names
from dalipipe.training.network.trained import restore
from dalipipe.training.network.weights import load_weights

CLASSES = ("ant", "bee", "cat")


@pytest.fixture(scope="module")
def resnet():
    """A resnet18 for 1,000 classes, as ImageNet has them."""
    torch.manual_seed(5)
    return torchvision.models.resnet18(num_classes=1000).state_dict()


def build(name="resnet18", weights="none", classes=CLASSES, seed=0, head="linear"):
    torch.manual_seed(seed)
    model = create_model(name, len(classes), head)
    return model, load_weights(model, name, classes, str(weights))


@pytest.mark.parametrize("wrap", [None, "model", "state_dict"])
def test_a_state_dict_fills_all_but_a_head_of_other_size(tmp_path, resnet, wrap):
    torch.save(resnet if wrap is None else {wrap: resnet, "epoch": 7}, tmp_path / "w.pt")
    model, report = build(weights=tmp_path / "w.pt")
    state = model.state_dict()
    assert report.fresh == ("fc.weight", "fc.bias")
    assert report.loaded == len(state) - 2
    assert all(torch.equal(state[key], resnet[key]) for key in state if key not in report.fresh)
    assert torch.equal(state["fc.weight"], build(weights=tmp_path / "w.pt")[0].state_dict()["fc.weight"])
    assert not torch.equal(state["fc.weight"], build(weights=tmp_path / "w.pt", seed=1)[0].state_dict()["fc.weight"])


def test_a_head_that_fits_is_taken(tmp_path):
    source, _ = build(seed=9)
    torch.save(source.state_dict(), tmp_path / "w.pt")
    model, report = build(weights=tmp_path / "w.pt")
    assert report.fresh == ()
    assert torch.equal(model.fc.weight, source.fc.weight)


def test_a_state_dict_without_a_head_or_counters_will_do(tmp_path, resnet):
    old = {key: value for key, value in resnet.items() if "fc." not in key and "num_batches" not in key}
    torch.save(old, tmp_path / "w.pt")
    model, _ = build(weights=tmp_path / "w.pt")
    assert torch.equal(model.conv1.weight, resnet["conv1.weight"])


def save_ours(path, classes, model="resnet18"):
    source, _ = build(seed=9)
    save_checkpoint(path, Checkpoint(model, classes, "", "", source.state_dict(), 1, {}))
    return source


def test_a_checkpoint_of_ours_keeps_its_head_for_the_same_classes_only(tmp_path):
    source = save_ours(tmp_path / "best.pt", CLASSES)
    assert torch.equal(build(weights=tmp_path / "best.pt")[0].fc.weight, source.fc.weight)
    model, report = build(weights=tmp_path / "best.pt", classes=("cat", "dog", "emu"))
    assert report.fresh == ("fc.weight", "fc.bias")
    assert not torch.equal(model.fc.weight, source.fc.weight)
    assert torch.equal(model.conv1.weight, source.conv1.weight)


@pytest.mark.parametrize(("name", "right"), [("resnet34", "resnet18"), ("resnet50", "resnet18"), ("vgg11", "resnet18")])
def test_weights_of_another_network_are_refused_and_named(tmp_path, resnet, name, right):
    torch.save(resnet, tmp_path / "w.pt")
    with pytest.raises(WeightsError) as caught:
        build(name, tmp_path / "w.pt")
    assert f"must be weights of {name}, got those of {right}. Use --model {right}." in str(caught.value)


def test_a_file_of_which_half_fits_is_taken_and_the_rest_reported(tmp_path, resnet):
    renamed = {f"x.{key}" if key.startswith("layer4.1") else key: value for key, value in resnet.items()}
    torch.save(renamed, tmp_path / "w.pt")
    model, report = build(weights=tmp_path / "w.pt")
    assert torch.equal(model.conv1.weight, resnet["conv1.weight"])
    assert {name for name in report.fresh if "layer4.1" in name} == {key for key in resnet if "layer4.1" in key}
    assert {name for name in report.skipped if name.startswith("x.")} == {key for key in renamed if key[:2] == "x."}


def test_a_file_of_which_less_than_half_fits_is_refused(tmp_path, resnet):
    first = {key: value for key, value in resnet.items() if key.startswith(("conv1", "bn1", "layer1"))}
    torch.save(first, tmp_path / "w.pt")
    with pytest.raises(WeightsError, match="got a file in which 25 of its 100 tensors match"):
        build(weights=tmp_path / "w.pt")


@pytest.mark.parametrize("prefix", ["module.", "_orig_mod.", "module._orig_mod."])
def test_what_ddp_and_compile_put_before_names_is_taken_away(tmp_path, resnet, prefix):
    torch.save({prefix + key: value for key, value in resnet.items()}, tmp_path / "w.pth")
    model, report = build(weights=tmp_path / "w.pth")
    assert torch.equal(model.conv1.weight, resnet["conv1.weight"])
    assert report.fresh == ("fc.weight", "fc.bias")


def test_safetensors_are_read_and_damaged_ones_refused(tmp_path, resnet):
    save_file(resnet, tmp_path / "w.safetensors")
    model, _ = build(weights=tmp_path / "w.safetensors")
    assert torch.equal(model.conv1.weight, resnet["conv1.weight"])
    (tmp_path / "w.safetensors").write_bytes(b"half a file")
    with pytest.raises(WeightsError, match=r"w\.safetensors: must be a safetensors file, got a damaged"):
        build(weights=tmp_path / "w.safetensors")


def test_a_vgg_with_its_large_classifier_fills_one_with_gap(tmp_path):
    full, _ = build("vgg11", classes=tuple("abcdefg"))
    torch.save(full.state_dict(), tmp_path / "w.pt")
    model, report = build("vgg11", tmp_path / "w.pt", head="gap")
    assert torch.equal(model.features[0].weight, full.features[0].weight)
    assert report.fresh == ("classifier.1.weight", "classifier.1.bias")
    assert all(name.startswith("classifier.") for name in report.skipped)


def test_timms_default_weights_without_a_network_name_both_ways_out(monkeypatch):
    timm = pytest.importorskip("timm")
    create = timm.create_model

    def cut_off(name, pretrained, **options):
        if pretrained:
            raise OSError("Name or service not known")
        return create(name, pretrained=False, **options)

    monkeypatch.setattr(timm, "create_model", cut_off)
    with pytest.raises(WeightsError, match=r"timm's resnet10t must be reachable.*--weights none.*--weights FILE"):
        build("timm/resnet10t", "default")


@pytest.mark.parametrize("content", [[1, 2], {"state_dict": [1]}, {"lr": 0.1}, torch.zeros(3)])
def test_a_file_without_a_state_dict_is_refused(tmp_path, content):
    torch.save(content, tmp_path / "w.pt")
    with pytest.raises(WeightsError, match="must hold a state dict"):
        build(weights=tmp_path / "w.pt")


def test_a_pickled_network_is_refused_with_what_to_do(tmp_path):
    torch.save(build("squeezenet1_1")[0], tmp_path / "w.pt")
    with pytest.raises(
        WeightsError,
        match=r"got a pickle of torchvision\.\S+, Python objects.*model\.state_dict\(\)",
    ):
        build(weights=tmp_path / "w.pt")


def test_a_directory_is_refused(tmp_path):
    with pytest.raises(WeightsError, match="Is a directory"):
        build(weights=tmp_path)


@pytest.fixture
def torch_cache(tmp_path, monkeypatch):
    """The directory in which torch keeps what it downloads; the network is cut off."""

    def cut_off(*_arguments, **_keywords):
        raise urllib.error.URLError("Name or service not known")

    monkeypatch.setenv("TORCH_HOME", str(tmp_path))
    monkeypatch.setattr(torch.hub, "urlopen", cut_off)
    (tmp_path / "hub/checkpoints").mkdir(parents=True)
    return tmp_path / "hub/checkpoints"


CACHED = "resnet18-f37072fd.pth"


def test_default_weights_get_a_fresh_head_even_for_1000_classes(torch_cache, resnet):
    torch.save(resnet, torch_cache / CACHED)
    model, report = build(weights="default", classes=tuple(map(str, range(1000))))
    assert torch.equal(model.conv1.weight, resnet["conv1.weight"])
    assert report.fresh == ("fc.weight", "fc.bias")
    assert not torch.equal(model.fc.weight, resnet["fc.weight"])


def test_a_download_that_fails_names_both_ways_out(torch_cache, capfd):
    with pytest.raises(WeightsError) as caught:
        build(weights="default")
    message = str(caught.value)
    assert f"{CACHED} must be reachable, got: Name or service not known." in message
    assert "--weights none" in message
    assert "--weights FILE" in message


def test_a_damaged_download_in_the_cache_is_named(torch_cache):
    (torch_cache / CACHED).write_bytes(b"half a file")
    with pytest.raises(WeightsError) as caught:
        build(weights="default")
    assert str(torch_cache / CACHED) in str(caught.value)
    assert "Delete it." in str(caught.value)


SMALL = ["squeezenet1_1", "mobilenet_v3_small", "efficientnet_b0", "shufflenet_v2_x0_5", "mnasnet0_5", "regnet_y_400mf",
         "timm/test_efficientnet", "timm/test_resnet", "timm/test_vit", "timm/test_convnext", "timm/test_byobnet",
         "timm/efficientformer_l1"]  # fmt: skip


@pytest.mark.parametrize("name", SMALL)
def test_a_fresh_head_knows_nothing_and_a_loss_begins_there(tmp_path, name):
    """Whatever the library does for training from scratch: with other weights, logits stay small and classes alike."""
    if name.startswith("timm"):
        pytest.importorskip("timm")
    source, _ = build(name, classes=tuple(map(str, range(11))))
    torch.save(source.state_dict(), tmp_path / "w.pt")
    model, report = build(name, tmp_path / "w.pt")
    for head in head_names(model):
        for key, tensor in model.get_submodule(head).state_dict().items():
            assert f"{head}.{key}" in report.fresh
            width = model.get_submodule(head).weight[0].numel()
            assert tensor.abs().max() <= width**-0.5 + 1e-6, "as nn.Linear draws it"
    features = torch.randn(64, width)
    logits = torch.nn.functional.linear(features, model.get_submodule(head).weight.flatten(1))
    labels = torch.arange(64) % len(CLASSES)
    assert abs(torch.nn.functional.cross_entropy(logits, labels) - math.log(len(CLASSES))) < 0.4


def test_networks_that_ask_for_the_version_of_their_weights_are_filled_and_given_back(tmp_path):
    source, _ = build("mnasnet0_5")
    torch.save(dict(source.state_dict()), tmp_path / "w.pt")
    model, report = build("mnasnet0_5", tmp_path / "w.pt", seed=1)
    assert not report.fresh
    save_checkpoint(tmp_path / "best.pt", Checkpoint("mnasnet0_5", CLASSES, "", "", model.state_dict(), 1, {}))
    again = restore(load_checkpoint(tmp_path / "best.pt"), "best.pt")
    assert torch.equal(again.classifier[1].weight, source.classifier[1].weight)
