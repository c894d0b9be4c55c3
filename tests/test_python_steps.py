"""Steps of a recipe that are functions of the user's."""

import random
import sys
import types

import numpy as np
import pytest
import torch
from PIL import ImageOps
from torch.utils.data import Dataset
from torchvision.datasets import ImageFolder

import dalipipe
from dalipipe import Recipe, ops
from dalipipe.errors import ConfigError, RecipeError

BACKENDS = ["torchvision", "dali-cpu", "dali-cpu-stock"]
CROP = ops.RandomResizedCrop(size=16)
NORMALIZE = ops.Normalize(mean=(0.2, 0.4, 0.6), std=(0.5, 0.3, 0.2))


class Darken:
    """Some levels, drawn for each image, are taken off."""

    def __init__(self, most=50):
        self.most = most

    def __call__(self, image):
        off = random.randint(0, self.most) + np.random.randint(2) + int(torch.randint(2, (1,)))
        return (image.int() - off).clamp(0, 255).to(torch.uint8)


def inverted(image):
    assert image.mode == "RGB"
    return ImageOps.invert(image)


def shifted(image, by=0.5):
    assert image.dtype == torch.float32
    return image + by


@pytest.fixture(autouse=True)
def own_package(monkeypatch):
    package = types.ModuleType("own_steps")
    package.Darken, package.inverted, package.shifted = Darken, inverted, shifted
    package.smaller = lambda image: image[:, 1:]
    package.nothing = lambda image: None
    package.same = lambda image: image
    package.rows = lambda image: np.asarray(image)[::-1]

    def stumbles(image):
        raise KeyError("label")

    package.stumbles = stumbles
    monkeypatch.setitem(sys.modules, "own_steps", package)


@pytest.fixture
def folder(make_image_folder):
    return make_image_folder(per_class=4)


def step(name, **arguments):
    return ops.Python(call=f"own_steps:{name}", **arguments)


def images_of(folder, *steps, backend="torchvision", seed=3, **options):
    recipe = Recipe(name="test", ops=(CROP, *steps))
    with dalipipe.DataLoader(folder, 5, recipe=recipe, backend=backend, seed=seed, num_threads=2, **options) as loader:
        return torch.cat([images for images, _ in loader])


def test_it_is_written_with_its_arguments():
    text = '[[ops]]\nop = "CenterCrop"\nsize = 9\n[[ops]]\nop = "Python"\ncall = "own_steps:Darken"\nmost = 7\n'
    recipe = Recipe.from_toml(text)
    assert recipe.ops[1].given == {"most": 7}
    again = Recipe.from_toml(recipe.to_toml())
    assert (again.ops, again.fingerprint()) == (recipe.ops, recipe.fingerprint())
    assert Recipe.from_toml(text.replace("7", "8")).fingerprint() != recipe.fingerprint()
    assert recipe.calls == ("own_steps:Darken",)


@pytest.mark.parametrize("backend", BACKENDS)
def test_levels_pil_images_and_floats_are_handed_as_torchvision_would(folder, backend):
    plain = images_of(folder, backend=backend)
    assert torch.equal(images_of(folder, step("inverted", takes="pil"), backend=backend), 255 - plain)
    assert torch.equal(images_of(folder, step("rows", takes="pil"), backend=backend), plain.flip(2))
    floats = images_of(folder, NORMALIZE, backend=backend)
    torch.testing.assert_close(images_of(folder, NORMALIZE, step("shifted"), backend=backend), floats + 0.5)
    turned = images_of(folder, step("inverted", takes="pil"), NORMALIZE, step("shifted", by=2.0), backend=backend)
    mean, std = (torch.tensor(values).view(3, 1, 1) for values in (NORMALIZE.mean, NORMALIZE.std))
    torch.testing.assert_close(turned, ((255 - plain) / 255 - mean) / std + 2.0)


@pytest.mark.parametrize("tail", [(NORMALIZE,), (ops.ToDtype(scale=True),), (ops.ToDtype(scale=True), NORMALIZE)])
def test_what_follows_a_step_rounds_as_it_does_without_one(folder, tail):
    assert torch.equal(images_of(folder, step("same"), *tail), images_of(folder, *tail))


def test_what_a_step_draws_belongs_to_the_sample_and_the_scripts_generators_stay(folder):
    def state():
        return random.getstate(), np.random.get_state()[1].tolist(), torch.get_rng_state().tolist()

    before = state()
    first = images_of(folder, step("Darken", most=90))
    assert state() == before
    recipe = Recipe(name="test", ops=(CROP, step("Darken", most=90)))
    with dalipipe.DataLoader(folder, 2, recipe=recipe, backend="torchvision", seed=3, num_threads=1) as loader:
        assert torch.equal(torch.cat([images for images, _ in loader]), first)
    assert not torch.equal(images_of(folder, step("Darken", most=90), seed=4), first)
    darker = images_of(folder).int() - first.int()
    assert len({int(image.max()) for image in darker}) > 1


class Asked(Dataset):
    def __init__(self, folder):
        self.images = ImageFolder(folder)

    def __len__(self):
        return len(self.images)

    def __getitem__(self, index):
        return self.images[index]


def test_a_data_set_that_is_asked_and_views_get_the_same(folder):
    recipe = Recipe(name="test", ops=(CROP, step("Darken"))).with_views(2)
    options = {"recipe": recipe, "backend": "torchvision", "seed": 3, "num_threads": 1}
    with dalipipe.DataLoader(folder, 4, **options) as direct, dalipipe.DataLoader(Asked(folder), 4, **options) as asked:
        for (ours, _), (theirs, _) in zip(direct, asked, strict=True):
            assert all(torch.equal(one, other) for one, other in zip(ours, theirs, strict=True))
            assert not torch.equal(*ours)


def test_float16_and_whole_levels(folder):
    darkened = images_of(folder, step("Darken"))
    assert torch.equal(images_of(folder, step("Darken"), NORMALIZE, dtype="uint8"), darkened)
    half = images_of(folder, step("Darken"), NORMALIZE, dtype="float16", memory_format="channels_last")
    assert half.dtype == torch.float16 and half.is_contiguous(memory_format=torch.channels_last)
    torch.testing.assert_close(half.float(), images_of(folder, step("Darken"), NORMALIZE), rtol=1e-2, atol=1e-2)
    with pytest.raises(ConfigError, match=r"op 3 \(Python\) takes floats"):
        images_of(folder, NORMALIZE, step("shifted"), dtype="uint8")


@pytest.mark.parametrize("backend", BACKENDS)
def test_a_bad_file_costs_nothing_else(folder, backend):
    bad = sorted(folder.glob("*/*"))[2]
    wanted = images_of(folder, step("Darken"), backend=backend)
    bad.write_bytes(b"")
    kept = [at for at in range(len(wanted)) if at != 2]
    assert torch.equal(images_of(folder, step("Darken"), backend=backend, on_error="skip"), wanted[kept])


@pytest.mark.parametrize(
    ("steps", "message"),
    [
        ((step("missing"),), r"op 2 \(Python\): own_steps:missing can't be had: AttributeError"),
        ((ops.Python(call="no_such_package:f"),), r"no_such_package:f can't be had: ModuleNotFoundError"),
        ((step("Darken", mots=3),), r"own_steps:Darken can't be had: TypeError: .*mots"),
        ((step("smaller"),), r"must give back an image as it gets one, \(3, 16, 16\) torch.uint8, got '\(3, 15, 16\)"),
        ((step("nothing"),), r"got 'NoneType'"),
        (
            (step("Darken"), ops.RandomHorizontalFlip()),
            r"op 3 \(RandomHorizontalFlip\): must come before the Python step",
        ),
        ((NORMALIZE, step("inverted", takes="pil")), r"op 3: Python: takes = \"pil\" needs levels, got floats"),
    ],
)
def test_what_is_wrong_is_said(folder, steps, message):
    with pytest.raises(RecipeError, match=message):
        images_of(folder, *steps)


def test_what_a_step_raises_comes_through(folder):
    with pytest.raises(KeyError, match="label"):
        images_of(folder, step("stumbles"))


@pytest.mark.parametrize("call", ["own_steps", "/tmp/x.py:f", "own steps:f", "own_steps:", ":f", "a..b:f", "a:f()"])
def test_a_call_is_a_dotted_name_and_never_a_path(call):
    with pytest.raises(RecipeError, match="call: call must be"):
        Recipe.from_toml(f'[[ops]]\nop = "CenterCrop"\nsize = 9\n[[ops]]\nop = "Python"\ncall = "{call}"\n')


def test_it_needs_images_of_one_size_and_is_not_left_to_chance(folder):
    with pytest.raises(RecipeError, match="must get images of one size"):
        Recipe(name="test", ops=(step("inverted"), CROP)).shapes()
    with pytest.raises(ValueError, match="must be one on uint8 pixels, got Python"):
        ops.RandomApply(ops=(step("inverted"),))


def test_showing_a_recipe_runs_nothing(tmp_path):
    from typer.testing import CliRunner

    from dalipipe.cli import app

    file = tmp_path / "own.toml"
    file.write_text(
        '[[ops]]\nop = "CenterCrop"\nsize = 9\n[[ops]]\nop = "Python"\ncall = "no_such_package:f"\nby = 3\n'
    )
    result = CliRunner().invoke(app, ["show", str(file)])
    assert result.exit_code == 0
    assert "Python(call=no_such_package:f, by=3)" in result.stdout
