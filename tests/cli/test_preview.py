"""`dalipipe preview` of images, and `dalipipe.preview`."""

import numpy as np
import pytest
from PIL import Image
from typer.testing import CliRunner

import dalipipe
from dalipipe.cli import app
from dalipipe.contact import decided
from dalipipe.errors import RecipeError
from dalipipe.recipe import Recipe


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


def test_the_sheet_is_what_a_training_with_its_seed_sees(make_image_folder):
    folder = make_image_folder(per_class=2)
    first, again, other, later = (
        np.asarray(dalipipe.preview(folder, "cifar-train", images=2, variants=1, seed=seed, epoch=epoch))
        for seed, epoch in ((0, 0), (0, 0), (1, 0), (0, 4))
    )
    assert (first == again).all()
    assert (first != other).any() and (first != later).any()


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
    next(path for path in sorted(folder.rglob("*")) if path.is_file()).write_bytes(b"no image")
    assert dalipipe.preview(folder, "cifar-train", images=4).height < whole


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
