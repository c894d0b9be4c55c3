"""`dalipipe preview` of images, and `dalipipe.preview`."""

import numpy as np
import pytest
from PIL import Image
from typer.testing import CliRunner

import dalipipe
from dalipipe.cli import app
from dalipipe.errors import RecipeError
from dalipipe.pictures import contact_sheet
from dalipipe.pictures.contact_sheet import decided
from dalipipe.recipes import Recipe
from dalipipe.training.config import TrainConfig
from dalipipe.training.data import open_data
from dalipipe.training.observer import Observer


def invoke(*arguments):
    return CliRunner().invoke(app, ["preview", *map(str, arguments)])


def test_a_sheet_shows_each_image_beside_its_variants(make_image_folder, tmp_path):
    folder, out = make_image_folder(per_class=2), tmp_path / "sheet.png"
    result = invoke(folder, "--recipe", "cifar-train", "--output", out, "--images", 2, "--variants", 3)
    assert result.exit_code == 0, result.output
    assert str(out) in result.output.replace("\n", "")
    with Image.open(out) as sheet:
        small = sheet.size
        colours = len(np.unique(np.asarray(sheet.convert("RGB")).reshape(-1, 3), axis=0))
    assert colours > 100
    larger = dalipipe.preview(folder, "cifar-train", images=3, variants=5)
    assert larger.width > small[0] and larger.height > small[1]


def test_seed_and_epoch_decide_what_is_seen(make_image_folder):
    folder = make_image_folder(per_class=2)
    first, again, other, later = (
        np.asarray(dalipipe.preview(folder, "cifar-train", images=2, variants=1, seed=seed, epoch=epoch))
        for seed, epoch in ((0, 0), (0, 0), (1, 0), (0, 4))
    )
    assert (first == again).all()
    assert (first != other).any() and (first != later).any()


@pytest.mark.parametrize("name", ["cifar-train", "imagenet-train-strong"])  # the latter erases what is normalised
def test_the_sheet_is_what_a_training_with_its_seed_sees(make_image_folder, monkeypatch, name):
    folder, shown = make_image_folder(classes=("ant", "bee"), per_class=5), []
    monkeypatch.setattr(contact_sheet.Canvas, "tile", lambda _canvas, _at, pixels, _size: shown.append(pixels))
    dalipipe.preview(folder, name, images=100, variants=2, seed=7)
    cfg = TrainConfig(data=folder, recipe=name, seed=7, batch_size=4)
    mean, std = (np.reshape(part, (3, 1, 1)) for part in Recipe.load(name).levels)
    with open_data(cfg, 0, Observer()) as data:
        assert len(shown) == 3 * len(data.train.source)
        for epoch in range(2):
            for images, _ in data.train:
                indices = data.train.last_indices
                levels = np.clip(np.rint(images.double().numpy() * std + mean), 0, 255).astype(np.uint8)
                for index, pixels in zip(indices, levels, strict=True):
                    np.testing.assert_array_equal(shown[3 * int(index) + 1 + epoch], pixels.transpose(1, 2, 0))


def test_decisions_are_written_below(make_image_folder):
    folder = make_image_folder(per_class=1)
    plain = dalipipe.preview(folder, "cifar-train", images=1)
    assert dalipipe.preview(folder, "cifar-train", images=1, decisions=True).height > plain.height
    words = [line for epoch in range(9) for line in decided(Recipe.load("contrastive"), 0, epoch, 0, (40, 60))]
    for begin in ("box ", "flip, left and right", "brightness x", "hue ", "blur, sigma"):
        assert any(line.startswith(begin) for line in words)


def test_an_image_that_can_not_be_read_is_left_out(make_image_folder):
    folder = make_image_folder(per_class=2)
    whole = dalipipe.preview(folder, "cifar-train", images=4).height
    for path in sorted(folder.rglob("*_0.*")):
        path.write_bytes(b"no image")
    out = folder.parent / "sheet.png"
    result = invoke(folder, "--recipe", "cifar-train", "--output", out, "--images", 4, "--backend", "torchvision")
    assert result.exit_code == 0, result.output
    assert "can't be used and are left out" in result.stderr and "_0." in result.stderr
    assert "with the images that torchvision makes" in result.stdout
    with Image.open(out) as sheet:
        assert sheet.height < whole


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (("--recipe", "cifar-train"), "--output: must name a file for the contact sheet, got none."),
        (("--recipe", "text-eda"), "a text recipe needs a file with sentences, got none."),
        (("--recipe", "cifar-train", "--output", "sheet.what"), "sheet.what: must be writable"),
    ],
)
def test_mistakes_are_told(arguments, message, tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    result = invoke(*arguments)
    assert result.exit_code == 2
    assert message in " ".join(result.output.split())


def test_a_text_recipe_makes_no_sheet():
    with pytest.raises(RecipeError, match="a recipe of image ops is needed here"):
        dalipipe.preview(None, "text-eda")
