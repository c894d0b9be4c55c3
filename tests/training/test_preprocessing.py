"""What images weights want is what their library says, and a run makes, keeps and uses just these."""

import json
import warnings

import numpy as np
import pytest
import torch
import torchvision
from PIL import Image
from typer.testing import CliRunner

import dalipipe
from dalipipe.cli import app
from dalipipe.errors import ConfigError, WeightsError
from dalipipe.loading import DataLoader
from dalipipe.recipes import Recipe
from dalipipe.sources.derived import SampleSource
from dalipipe.training.choice import choose_recipes
from dalipipe.training.config import TrainConfig
from dalipipe.training.network import preprocessing
from dalipipe.training.network.checkpoint import load_checkpoint
from dalipipe.training.network.models import check_images, create_model
from dalipipe.training.network.preprocessing import usual_preprocessing
from dalipipe.training.run.loop import train
from tests.training.breaking import Killed, Watching

TINY = "timm/test_efficientnet"  # 0.1 million parameters; bicubic, 160 px


@pytest.fixture(scope="module")
def pictures(tmp_path_factory):
    """Files of odd sizes, oblong both ways, smaller and larger than what networks take."""
    folder, rng, files = tmp_path_factory.mktemp("pictures"), np.random.default_rng(5), []
    for width, height in ((301, 227), (127, 409), (97, 61), (640, 480)):
        coarse = rng.integers(0, 256, (9, 7, 3), dtype=np.uint8)
        pixels = np.asarray(Image.fromarray(coarse).resize((width, height), Image.Resampling.BILINEAR), np.int16)
        pixels = np.clip(pixels + rng.normal(0, 12, pixels.shape), 0, 255).astype(np.uint8)
        files.append(str(folder / f"{width}.png"))
        Image.fromarray(pixels).save(files[-1])
    return files


def transform_of(name):
    """The library's own transform for the evaluation of its weights."""
    if not name.startswith("timm/"):
        return torchvision.models.get_model_weights(name).DEFAULT.transforms()
    timm = pytest.importorskip("timm")
    told = timm.models.get_pretrained_cfg(name.removeprefix("timm/"))
    return timm.data.create_transform(**timm.data.resolve_data_config(pretrained_cfg=told.to_dict()))


NETWORKS = [
    "resnet18", "resnet50", "efficientnet_b0", "efficientnet_b3", "vit_b_16", "convnext_tiny", "mobilenet_v3_large",
    "vgg16", "swin_t", "inception_v3", "timm/resnet50.a1_in1k", "timm/efficientnet_b0", "timm/vit_base_patch16_224",
    "timm/convnext_tiny", "timm/mobilenetv3_large_100", "timm/vgg16", "timm/deit_tiny_distilled_patch16_224",
    "timm/inception_v3.tf_in1k", "timm/vit_base_patch16_clip_224.openai", "timm/vit_base_patch16_siglip_224",
    "timm/volo_d4_448", "timm/vit_base_patch16_sapiens2",
]  # fmt: skip


@pytest.mark.parametrize("name", NETWORKS)
def test_evaluation_images_are_those_of_the_library(name, pictures):
    transform, told = transform_of(name), usual_preprocessing(name)
    wanted = torch.stack([transform(Image.open(file).convert("RGB")) for file in pictures])
    source = SampleSource(pictures, np.zeros(len(pictures), np.int64), ("any",))
    with DataLoader(source, len(pictures), recipe=told.evaluation("eval"), backend="dali-cpu") as loader:
        images, _ = next(iter(loader))
    off = ((images - wanted) * torch.tensor(told.std)[:, None, None] * 255).abs()
    assert off.max() < 2.01  # one bicubic value in a million: torch rounds its weights otherwise than Pillow
    assert (off > 1.01).float().mean() < 1e-5
    train = told.training("train")
    assert (train.output_shape, train.levels) == (told.evaluation("eval").output_shape, told.evaluation("eval").levels)
    assert train.ops[0].interpolation == told.interpolation


def test_all_of_the_libraries_networks_have_recipes():
    timm = pytest.importorskip("timm")
    names = [f"timm/{name}" for name in timm.list_pretrained()[::9]]
    for name in [*torchvision.models.list_models(module=torchvision.models), *names]:
        told = usual_preprocessing(name)
        assert told.training("t").output_shape == told.evaluation("e").output_shape == (3, *told.size)


@pytest.mark.parametrize("name", ["googlenet", "inception_v3", "vit_h_14", "vit_b_16", "maxvit_t", "resnet18"])
def test_a_network_is_built_as_the_library_builds_it_for_its_weights(name, monkeypatch):
    """torchvision changes arguments where it loads weights: what the network does to its input, and its size."""
    weights = torchvision.models.get_model_weights(name).DEFAULT

    def none(self, *_, **__):
        with torch.device("meta"):
            return {}

    monkeypatch.setattr(type(weights), "get_state_dict", none)
    monkeypatch.setattr(torch.nn.Module, "load_state_dict", lambda *_, **__: None)
    with torch.device("meta"), warnings.catch_warnings():
        warnings.simplefilter("ignore")
        theirs, ours = torchvision.models.get_model(name, weights=weights), create_model(name, 1000)
    for attribute in ("transform_input", "image_size"):
        assert getattr(ours, attribute, None) == getattr(theirs, attribute, None)
    check_images(name, ours, 2, (3, *usual_preprocessing(name).size), training=False)


@pytest.mark.parametrize(("mode", "size"), [("border", (3, 96, 96)), ("center", (3, 64, 96))])
def test_what_recipes_have_no_op_for_is_said(mode, size, monkeypatch):
    timm = pytest.importorskip("timm")
    told = timm.models.get_pretrained_cfg("test_efficientnet")
    told.crop_mode, told.input_size = mode, size
    monkeypatch.setattr(timm.models, "get_pretrained_cfg", lambda name: told)
    chosen = choose_recipes(TrainConfig(data="photos", model=TINY))
    assert chosen.train.output_shape == chosen.evaluation.output_shape == size
    assert "stretched" in chosen.warning
    told.interpolation = "lanczos"
    with pytest.raises(ConfigError, match="wants images resized with lanczos, and recipes have nearest"):
        preprocessing.usual_preprocessing(TINY)


def chosen_for(**options):
    return choose_recipes(TrainConfig(data="photos", **options))


def test_recipes_follow_the_weights():
    pretrained = chosen_for(model="efficientnet_b3")
    assert pretrained.train.output_shape == pretrained.evaluation.output_shape == (3, 300, 300)
    assert "EfficientNet_B3_Weights.IMAGENET1K_V1" in pretrained.words
    assert chosen_for(model="efficientnet_b3", weights="none").train == Recipe.load("imagenet-train")
    assert chosen_for(model="vit_h_14", weights="none").train.output_shape == (3, 518, 518)  # takes no other


def test_the_size_can_be_chosen_where_the_network_takes_it():
    for weights in ("default", "none"):
        chosen = chosen_for(img_size=96, weights=weights)
        assert chosen.train.output_shape == chosen.evaluation.output_shape == (3, 96, 96)
        assert chosen.evaluation.ops[0].size == round(256 * 96 / 224)
        with pytest.raises(ConfigError, match="--img-size: vit_b_16 takes images of 224 x 224 px only, got 96"):
            chosen_for(model="vit_b_16", img_size=96, weights=weights)
    with pytest.raises(ConfigError, match="--img-size: is for --recipe auto, got 96 with cifar-train"):
        chosen_for(img_size=96, recipe="cifar-train")


def test_a_named_recipe_that_does_not_fit_the_weights_is_warned_of_once_with_what_to_write():
    warning = chosen_for(model="vgg16", recipe="shear-zoom").warning
    for words in ("--recipe shear-zoom", "VGG16_Weights.IMAGENET1K_V1", "mean 0 and std 1", "0.485", "--recipe auto"):
        assert words in warning
    assert "px" not in warning  # the size is right
    size = chosen_for(recipe="cifar-train").warning
    assert "224 x 224 px" in size
    assert "got 32 x 32 px" in size
    assert not chosen_for(recipe="imagenet-train").warning
    assert not chosen_for(recipe="shear-zoom", weights="none").warning
    assert not chosen_for(recipe="imagenet-train", model="googlenet").warning


def test_weights_that_timm_does_not_have_are_refused_with_those_it_has():
    pytest.importorskip("timm")
    with pytest.raises(
        ConfigError, match=r"must name weights of timm/resnet18, got 'a1_in2k' .*Did you mean 'a1_in1k'"
    ):
        chosen_for(model="timm/resnet18.a1_in2k")


@pytest.fixture
def photos(tmp_path):
    rng = np.random.default_rng(1)
    for label in ("ant", "bee"):
        (tmp_path / "photos" / label).mkdir(parents=True)
        for number in range(5):
            pixels = rng.integers(0, 256, (61, 47, 3), dtype=np.uint8)
            Image.fromarray(pixels).save(tmp_path / "photos" / label / f"{number}.png")
    pytest.importorskip("timm")
    torch.save(create_model(TINY, 2).state_dict(), tmp_path / "w.pt")
    return tmp_path


PLAIN = ("--backend", "torchvision")


def run(*arguments):
    return CliRunner().invoke(app, [str(argument) for argument in arguments])


def options(folder, output, **more):
    given = {"data": folder / "photos", "output": folder / output, "model": TINY, "weights": str(folder / "w.pt")}
    usual = {"epochs": 1, "batch_size": 4, "backend": "torchvision", "report": False, "checkpoint_every": "1"}
    return TrainConfig(**{**given, **usual, **more})


def test_a_run_keeps_its_recipes_and_everything_that_follows_uses_them(photos):
    arguments = [
        "--model",
        TINY,
        "--weights",
        photos / "w.pt",
        "--epochs",
        1,
        "--batch-size",
        4,
        "--set",
        "report=false",
    ]
    told = run("train", photos / "photos", *arguments, "--output", photos / "run", *PLAIN).stdout
    assert "test_efficientnet-train, validated with test_efficientnet-eval" in told
    assert "auto: w.pt doesn't say what it was trained with, so as timm's test_efficientnet.r160_in1k" in told
    recipe = Recipe.load(photos / "run/recipe.toml")
    assert (recipe.output_shape, recipe.ops[0].interpolation) == ((3, 160, 160), "bicubic")
    kept = load_checkpoint(photos / "run/best.pt")
    assert Recipe.from_toml(kept.recipe).fingerprint() == recipe.fingerprint()
    trained = dalipipe.load_model(photos / "run/best.pt")
    assert trained.recipe.ops == recipe.eval_twin().ops == usual_preprocessing(TINY).evaluation("eval").ops
    assert run("predict", photos / "run/best.pt", photos / "photos/ant/1.png", *PLAIN).exit_code == 0
    again = choose_recipes(options(photos, "again", weights=str(photos / "run/best.pt")))
    assert (again.train.ops, again.evaluation.ops) == (recipe.ops, trained.recipe.ops)
    assert "best.pt" in again.train.name
    small = choose_recipes(options(photos, "again", weights=str(photos / "run/best.pt"), img_size=80))
    assert small.evaluation.output_shape == (3, 80, 80)
    named = choose_recipes(options(photos, "again", weights=str(photos / "run/best.pt"), recipe="cifar-train"))
    assert "160 x 160 px" in named.warning
    with pytest.raises(WeightsError):
        choose_recipes(options(photos, "again", weights="nowhere.pt"))


def test_a_run_goes_on_with_its_recipes_where_the_weights_are_gone(photos):
    cfg = options(photos, "run", img_size=64)
    with pytest.raises(Killed):
        train(cfg, Watching(2))  # the first batch is saved by then
    (photos / "w.pt").unlink()
    summary = train(cfg.model_copy(update={"resume": True}))
    assert summary["recipe"]["name"] == "test_efficientnet-train"
    assert json.loads((photos / "run/summary.json").read_text())["weights"]["loaded"] > 80
    assert Recipe.load(photos / "run/recipe.toml").output_shape == (3, 64, 64)
