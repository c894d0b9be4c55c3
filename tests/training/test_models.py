import urllib.error

import pytest
import torch
import torchvision

from dalipipe.errors import ConfigError, WeightsError
from dalipipe.training.checkpoint import Checkpoint, save_checkpoint
from dalipipe.training.config import MODELS
from dalipipe.training.models import build_model, check_images, head_of, resolve_device

CLASSES = ("ant", "bee", "cat")


@pytest.fixture(scope="module")
def resnet():
    """A resnet18 for 1,000 classes, as ImageNet has them."""
    torch.manual_seed(5)
    return torchvision.models.resnet18(num_classes=1000).state_dict()


def build(name="resnet18", weights="none", classes=CLASSES, seed=0):
    torch.manual_seed(seed)
    return build_model(name, classes, str(weights))


def test_a_network_has_one_output_per_class():
    model, report = build()
    assert model(torch.zeros(2, 3, 37, 41)).shape == (2, 3)
    assert (report.origin, report.loaded, len(report.fresh)) == ("none", 0, len(model.state_dict()))


@pytest.mark.parametrize("name", MODELS)
def test_the_head_is_found_in_every_network(name):
    with torch.device("meta"):
        model = torchvision.models.get_model(name, num_classes=3)
    weight, bias = head_of(model)
    assert model.state_dict()[weight].shape[0] == 3
    assert model.state_dict()[bias].shape == (3,)
    assert list(model.state_dict())[-2:] == [weight, bias]


def test_the_seed_gives_the_first_weights():
    one, same, other = (build(seed=seed)[0].state_dict() for seed in (1, 1, 2))
    assert all(torch.equal(one[key], same[key]) for key in one)
    assert not torch.equal(one["conv1.weight"], other["conv1.weight"])


@pytest.mark.parametrize("wrap", [None, "model", "state_dict"])
def test_a_state_dict_fills_all_but_a_head_of_other_size(tmp_path, resnet, wrap):
    torch.save(resnet if wrap is None else {wrap: resnet, "epoch": 7}, tmp_path / "w.pt")
    model, report = build(weights=tmp_path / "w.pt")
    state = model.state_dict()
    assert report.fresh == ("fc.weight", "fc.bias")
    assert report.loaded == len(state) - 2
    assert all(torch.equal(state[key], resnet[key]) for key in state if key not in report.fresh)
    assert torch.equal(state["fc.weight"], build(seed=0)[0].state_dict()["fc.weight"])


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


def test_weights_of_an_unknown_network_are_refused(tmp_path, resnet):
    torch.save({**resnet, "layer9.weight": torch.zeros(2)}, tmp_path / "w.pt")
    with pytest.raises(WeightsError, match="got a file in which 100 of its 100 tensors match"):
        build(weights=tmp_path / "w.pt")


def test_a_backbone_tensor_of_another_size_is_refused(tmp_path, resnet):
    torch.save({**resnet, "conv1.weight": torch.zeros(64, 1, 7, 7)}, tmp_path / "w.pt")
    with pytest.raises(WeightsError, match="99 of its 100 tensors match"):
        build(weights=tmp_path / "w.pt")


@pytest.mark.parametrize("content", [[1, 2], {"state_dict": [1]}, {"lr": 0.1}, torch.zeros(3)])
def test_a_file_without_a_state_dict_is_refused(tmp_path, content):
    torch.save(content, tmp_path / "w.pt")
    with pytest.raises(WeightsError, match="must hold a state dict"):
        build(weights=tmp_path / "w.pt")


def test_a_pickled_network_is_refused_with_what_to_do(tmp_path):
    torch.save(build()[0], tmp_path / "w.pt")
    with pytest.raises(WeightsError, match=r"got pickled Python objects.*model\.state_dict\(\)"):
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


@pytest.mark.parametrize(
    ("name", "batch_size", "side_px"), [("resnet18", 1, 32), ("vgg11", 2, 31), ("vgg11_bn", 1, 16)]
)
def test_images_that_the_network_cannot_take_are_refused_before_there_are_any(name, batch_size, side_px):
    with pytest.raises(ConfigError, match=f"{name}: can't take {batch_size} x {side_px} x {side_px} px at once"):
        check_images(name, batch_size, (3, side_px, side_px), training=True)


@pytest.mark.parametrize(
    ("name", "side_px", "training"),
    [("resnet18", 32, False), ("resnet18", 33, True), ("vgg11", 32, True), *((name, 65, True) for name in MODELS)],
)
def test_images_that_it_can_take_pass(name, side_px, training):
    assert check_images(name, 1, (3, side_px, side_px), training=training) is None


def test_auto_is_a_device_that_works():
    assert torch.ones(2, device=resolve_device("auto")).sum() == 2


@pytest.mark.parametrize("name", ["gpu", "meta", "", "cuda:99"])
def test_a_device_that_does_not_work_is_refused(name):
    with pytest.raises(ConfigError, match="--device: must be one that"):
        resolve_device(name)
