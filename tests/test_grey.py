"""Images of one channel: what torch's loader has of them is what every backend makes."""

import numpy as np
import pytest
import torch
import torchvision.datasets as tv
from PIL import Image
from torch.utils.data import DataLoader as TorchLoader
from torch.utils.data import Subset
from torchvision import transforms as v1
from torchvision.transforms import v2
from torchvision.transforms.v2 import functional

import dalipipe
from dalipipe import Recipe
from dalipipe.backends import Finish, Job, Output, compile_recipe
from dalipipe.errors import ConfigError, RecipeError, SourceError
from dalipipe.pictures import augmented
from dalipipe.recipes.ops.building import build_op
from dalipipe.sampling import Batch
from dalipipe.sources import ArraySource
from dalipipe.sources.torch_datasets import as_source
from dalipipe.training.network.models import check_images, create_model

RNG = np.random.default_rng(3)
IMAGES = RNG.integers(0, 256, (9, 19, 23, 1), dtype=np.uint8)
CPU = ("torchvision", "dali-cpu", "dali-cpu-stock")


def mnist(transform, count=6):
    dataset = object.__new__(tv.FashionMNIST)
    dataset.data, dataset.targets = torch.from_numpy(IMAGES[:count, ..., 0].copy()), torch.arange(count)
    dataset.transform, dataset.target_transform, dataset.transforms = transform, None, None
    return dataset


def coloured(transform):
    dataset = object.__new__(tv.CIFAR10)
    dataset.data, dataset.targets = RNG.integers(0, 256, (5, 19, 23, 3), dtype=np.uint8), [0, 1, 0, 1, 1]
    dataset.transform, dataset.target_transform, dataset.transforms = transform, None, None
    return dataset


def both(dataset):
    """Return torch's batches and ours."""
    with dalipipe.DataLoader(dataset, 4, backend="torchvision", num_threads=1, seed=0) as loader:
        return list(TorchLoader(dataset, 4)), list(loader)


EXACT = {
    "ToTensor": v1.ToTensor(),
    "v1": v1.Compose([v1.CenterCrop(12), v1.ToTensor(), v1.Normalize((0.5,), (0.25,))]),
    "three": v1.Compose([v1.Grayscale(3), v1.ToTensor(), v1.Normalize((0.1, 0.2, 0.3), (0.4, 0.5, 0.6))]),
    "grey of grey": v1.Compose([v1.Grayscale(), v1.Pad(2, fill=9), v1.ToTensor()]),
    "v2": v2.Compose([v2.ToImage(), v2.ToDtype(torch.float32, scale=True), v2.Normalize([0.5], [0.5])]),
    "v2 of three means": v2.Compose(
        [v2.ToImage(), v2.ToDtype(torch.float32, scale=True), v2.Normalize([0.1, 0.2, 0.3], [0.4, 0.5, 0.6])]
    ),
    "RGB": v2.Compose([v2.RGB(), v2.ToImage(), v2.ToDtype(torch.float32, scale=True)]),
    "uint8": v1.PILToTensor(),
    "back and forth": v1.Compose([v1.ToTensor(), v1.ToPILImage("L"), v1.CenterCrop(8), v1.ToTensor()]),
}


@pytest.mark.parametrize("name", EXACT)
@pytest.mark.parametrize("nest", [lambda data: data, lambda data: Subset(data, [4, 0, 2])])
def test_grey_arrays_are_what_torch_makes_of_them(name, nest):
    for theirs, ours in zip(*both(nest(mnist(EXACT[name]))), strict=True):
        assert ours[0].dtype == theirs[0].dtype
        assert ours[0].shape == theirs[0].shape
        assert torch.allclose(ours[0].float(), theirs[0].float(), atol=1e-6)
        assert torch.equal(ours[1], theirs[1])


@pytest.mark.parametrize("tail", [[], [v1.Normalize((0.5,), (0.5,))], [v1.Normalize((0.5,) * 3, (0.5,) * 3)]])
@pytest.mark.parametrize("grey", [[], [v1.Grayscale()], [v1.Grayscale(3)]])
def test_colours_that_become_grey(grey, tail):
    dataset = coloured(v1.Compose([*grey, v1.ToTensor(), *tail]))
    if grey and grey[0].num_output_channels == 1 and tail and len(tail[0].mean) == 3:
        with pytest.raises(RuntimeError, match="doesn't match the broadcast shape"):  # torchvision's own
            both(dataset)
        return
    for theirs, ours in zip(*both(dataset), strict=True):
        assert ours[0].shape == theirs[0].shape
        # Pillow rounds grey, torchvision's tensors cut it.
        assert float((ours[0] - theirs[0]).abs().max()) <= (0 if not grey else 2 / 255) + 1e-6


def test_two_channels_or_four_are_refused():
    for channels in (2, 4):
        dataset = coloured(v1.ToTensor())
        dataset.data = np.zeros((5, 8, 8, channels), np.uint8)
        with pytest.raises(SourceError, match=r"data must be uint8 images .* got uint8 \(5, 8, 8,"):
            as_source(dataset)


OPS = {
    "ColorJitter": {"brightness": 0.4, "contrast": [1.5, 1.6], "saturation": 0.9, "hue": 0.3},
    "RandomGrayscale": {"p": 1.0},
    "Grayscale": {"num_output_channels": 1},
    "RandomAutocontrast": {"p": 1.0},
    "RandomEqualize": {"p": 1.0},
    "RandomAdjustSharpness": {"sharpness_factor": 2.0, "p": 1.0},
    "GaussianBlur": {"kernel_size": 3},
    "RandomRotation": {"degrees": 30, "fill": 77},
    "RandomPosterize": {"bits": 3, "p": 1.0},
}
FUNCTIONS = {
    "RandomAutocontrast": functional.autocontrast,
    "RandomEqualize": functional.equalize,
    "RandomGrayscale": lambda image: image,
    "Grayscale": lambda image: image,
    "RandomAdjustSharpness": lambda image: functional.adjust_sharpness(image, 2.0),
    "RandomPosterize": lambda image: functional.posterize(image, 3),
}


def recipe_of(*tables, channels=1):
    built = tuple(build_op(table, "op") for table in tables)
    return Recipe(name="grey", input_channels=channels, ops=built)


def images_of(recipe, backend, source=None, **output):
    source = source or ArraySource(IMAGES, [0] * len(IMAGES))
    executor = compile_recipe(Job(source, recipe, 5, len(source), output=Output(**output)), backend)
    try:
        indices = np.arange(len(source))
        (result,) = executor.run([Batch(0, indices, np.zeros_like(indices))])
    finally:
        executor.close()
    assert not result.failures
    return result.images


@pytest.mark.parametrize("name", OPS)
def test_each_op_is_what_torchvision_makes_of_one_channel(name):
    recipe = recipe_of({"op": name, **OPS[name]}, {"op": "CenterCrop", "size": (19, 23)})
    images = images_of(recipe, "torchvision")
    assert images.shape == (9, 1, 19, 23)
    if name in FUNCTIONS:
        whole = torch.from_numpy(IMAGES).permute(0, 3, 1, 2)
        assert torch.equal(images, torch.stack([FUNCTIONS[name](image) for image in whole]))


def test_contrast_takes_the_mean_of_the_image_itself_and_saturation_and_hue_do_nothing():
    whole = torch.from_numpy(IMAGES).permute(0, 3, 1, 2)
    window = {"op": "CenterCrop", "size": (19, 23)}
    recipe = recipe_of({"op": "ColorJitter", "contrast": (1.5, 1.5)}, window)
    expected = torch.stack([functional.adjust_contrast(image, 1.5) for image in whole])
    for backend in CPU:
        assert int((images_of(recipe, backend).int() - expected.int()).abs().max()) <= 1
    plain = recipe_of({"op": "ColorJitter", "saturation": (3.0, 3.0), "hue": (0.4, 0.4)}, window)
    for backend in CPU:
        assert torch.equal(images_of(plain, backend), whole)


@pytest.mark.parametrize("backend", CPU[1:])
@pytest.mark.parametrize("channels", [1, 3])
def test_backends_agree_on_one_channel(backend, channels):
    source = None
    if channels == 3:
        source = ArraySource(RNG.integers(0, 256, (9, 19, 23, 3), dtype=np.uint8), [0] * 9)
    recipe = recipe_of(
        {"op": "RandomHorizontalFlip"},
        {"op": "Grayscale", "num_output_channels": 1},
        {"op": "ColorJitter", **OPS["ColorJitter"]},
        {"op": "TrivialAugmentWide"},
        {"op": "RandomCrop", "size": 24, "padding": 4, "fill": 50},
        {"op": "Normalize", "mean": 0.5, "std": 0.25},
        {"op": "RandomErasing", "p": 1.0, "value": 0.5},
        channels=channels,
    )
    for output in ({}, {"memory_format": "channels_last"}, {"dtype": "float16"}):
        expected, found = (
            images_of(recipe, "torchvision", source, **output),
            images_of(recipe, backend, source, **output),
        )
        assert found.shape == expected.shape == (9, 1, 24, 24)
        assert found.dtype == expected.dtype
        gap = (found.float() - expected.float()).abs() * 0.25 * 255
        assert float(gap.mean()) < 0.5


def test_levels_and_their_finish():
    recipe = recipe_of({"op": "CenterCrop", "size": 16}, {"op": "Normalize", "mean": 0.3, "std": 0.2})
    levels = images_of(recipe, "torchvision", dtype="uint8")
    assert levels.shape == (9, 1, 16, 16)
    assert torch.equal(Finish(recipe)(levels), images_of(recipe, "torchvision"))


def test_a_recipe_says_what_it_takes_and_gives():
    ops = ('op = "RandomResizedCrop"', "size = 8"), ('op = "Normalize"', "mean = 0.5", "std = 0.5")
    lines = ['name = "g"', "input_channels = 1", *(line for op in ops for line in ("[[ops]]", *op))]
    recipe = Recipe.from_toml("\n".join(lines))
    assert Recipe.from_toml(recipe.to_toml()) == recipe
    assert recipe.output_shape == recipe.eval_twin().output_shape == (1, 8, 8)
    assert recipe.fingerprint() != recipe.model_copy(update={"input_channels": 3}).fingerprint()
    made = recipe_of({"op": "RandomResizedCrop", "size": 8}, {"op": "Grayscale", "num_output_channels": 1}, channels=3)
    assert made.output_shape == made.eval_twin().output_shape == (1, 8, 8)
    colours = ArraySource(np.zeros((2, 9, 9, 3), np.uint8), [0, 1])
    with pytest.raises(SourceError, match="for a recipe with input_channels = 1, got uint8"):
        images_of(recipe, "torchvision", colours)
    assert images_of(made, "torchvision").shape == (9, 1, 8, 8)
    mean = {"op": "Normalize", "mean": (0.1, 0.2, 0.3), "std": 0.5}
    for op in (mean, {"op": "Pad", "padding": 1, "fill": (1, 2, 3)}):
        with pytest.raises(RecipeError, match="must be one number where images have one channel"):
            recipe_of({"op": "CenterCrop", "size": 8}, op).shapes()
    inner = {"op": "RandomApply", "ops": [{"op": "Grayscale", "num_output_channels": 1}]}
    with pytest.raises(RecipeError, match="must keep the number of channels"):
        recipe_of({"op": "CenterCrop", "size": 8}, inner, channels=3).shapes()


def test_pictures_and_parity_take_grey_recipes(tmp_path):
    made = recipe_of(
        {"op": "Resize", "size": (16, 16)},
        {"op": "Grayscale", "num_output_channels": 1},
        {"op": "ColorJitter", "contrast": 0.5},
        {"op": "Normalize", "mean": 0.5, "std": 0.5},
        channels=3,
    )
    source = ArraySource(RNG.integers(0, 256, (4, 19, 23, 3), dtype=np.uint8), [0, 0, 1, 1])
    pictures, bad = augmented(Job(source, made, batch_size=4), "torchvision", range(1), np.arange(4))
    assert pictures[0].shape == (4, 16, 16, 3)
    assert not bad
    for place in range(4):
        Image.fromarray(pictures[0][place]).save(tmp_path / f"{place}.png")


def test_a_network_for_colours_is_told_to_get_three_channels():
    model = create_model("resnet18", 2)
    with pytest.raises(ConfigError, match=r"it takes 3 channels, and the recipe makes 1. Give Grayscale"):
        check_images("resnet18", model, 4, (1, 32, 32), training=True)
    check_images("resnet18", model, 4, (3, 32, 32), training=True)
