"""Every op and every recipe on every backend that runs here, on images of every kind, over many draws."""

import io
import json
import tomllib
from pathlib import Path

import numpy as np
import pytest
from PIL import Image
from typer.testing import CliRunner

from dalipipe.cli import app
from dalipipe.parity import MEASURED, WHOLE, Settings, compare, comparing, tolerances
from dalipipe.parity.steps import Items
from dalipipe.recipes import Recipe, list_recipes
from dalipipe.recipes.ops import OPS, CenterCrop, ImageSpec
from dalipipe.recipes.ops.building import build_op

ROWS = tomllib.loads((Path(__file__).parents[1] / "ops.toml").read_text())
CASES = [(name, row) for name in OPS for row in ROWS[name]]
RECIPES = {
    view.name: view for name in list_recipes("image") for view in Recipe.load(name).kinds.values()
}  # each view of a recipe is one here
ON_CPU = tuple(name for name in MEASURED if name != "dali-gpu")
FRAME = CenterCrop(size=(71, 61))  # larger than most images here, so what lies outside them is compared too


def waves(height, width):
    rng = np.random.default_rng(height * 1000 + width)
    y, x = np.mgrid[:height, :width]
    pattern = np.stack([np.sin(y / 5 + x / 9), np.cos(x / 7), np.sin((x - y) / 11)], axis=-1)
    return np.clip(128 + 90 * pattern + rng.normal(0, 12, pattern.shape), 0, 255).astype(np.uint8)


def encode(pixels, form, mode="RGB", **options):
    buffer = io.BytesIO()
    Image.fromarray(pixels).convert(mode).save(buffer, form, **options)
    return buffer.getvalue()


@pytest.fixture(scope="module")
def images():
    return Items(
        [
            encode(waves(101, 67), "JPEG", quality=90),
            encode(waves(17, 11), "JPEG", quality=90),
            encode(waves(1, 5), "PNG"),
            encode(waves(331, 499), "JPEG", quality=90),
            encode(waves(43, 71), "JPEG", "L"),
            encode(waves(43, 71), "JPEG", "CMYK"),
            encode(waves(71, 43), "JPEG", progressive=True),
            encode(waves(37, 29), "PNG", "P"),
            encode(waves(37, 29), "PNG", "RGBA"),
        ]
    )


def problems(report):
    return [f"{row.backend}, {row.step}: {row.problem}" for row in report.rows if not row.ok]


def settings(recipe, draws, backends=ON_CPU, **options):
    """Return the settings for so many draws, or one: where nothing is random, the second would be the first again."""
    return Settings(backends, draws=draws if recipe.is_random else 1, threads=2, **options)


@pytest.mark.parametrize(("name", "arguments"), CASES)
def test_every_op_is_the_references(images, name, arguments):
    op = build_op({"op": name, **arguments}, "test")
    chain = (FRAME, op) if op.stage == "range" else (op,) if op.check(ImageSpec()).height else (op, FRAME)
    recipe = Recipe(name=name, ops=chain)
    report = compare(images, recipe, settings(recipe, 6, steps=False))
    assert problems(report) == []
    assert not report.unreadable
    assert {row.backend for row in report.rows} == set(ON_CPU) and not report.refused


@pytest.mark.parametrize("backend", ON_CPU)
@pytest.mark.parametrize("name", RECIPES)
def test_every_recipe_is_the_references_step_by_step_and_as_a_whole(images, name, backend):
    recipe = RECIPES[name]
    report = compare(images, recipe, settings(recipe, 2, (backend,)))
    assert problems(report) == []
    assert not report.refused
    assert [row.step for row in report.rows] == ["decode", *(op.op for op in recipe.ops), WHOLE]


# Not longer: a recipe that makes the shorter side 256 makes 256 x 3,328 of a line of 13 pixels. The wide ones first:
# what is compared together gets a frame that holds all of it.
THIN = [(1, 1), (2, 2), (3, 3), (4, 4), (1, 2), (1, 7), (2, 19), (1, 13), (13, 1), (19, 2), (7, 1), (5, 1), (2, 1)]


@pytest.fixture(scope="module")
def thin_images():
    """Noise, which differs most of all, where every pixel is at the border and every filter reaches beyond it."""
    rng = np.random.default_rng(0)
    return Items([rng.integers(0, 256, (*size, 3), dtype=np.uint8) for size in THIN])


@pytest.mark.parametrize("name", RECIPES)
def test_every_recipe_is_the_references_on_tiny_and_thin_images(thin_images, name):
    recipe = RECIPES[name]
    report = compare(thin_images, recipe, settings(recipe, 3))
    assert problems(report) == []
    assert not report.unreadable


def test_what_is_compared_is_bounded_in_memory_where_sizes_differ():
    long = [np.zeros(size, np.uint8) for size in ((9000, 1, 3), (1, 9000, 3))]
    comparison = comparing._Comparing(Items(long * 9), Recipe.load("cifar-eval"), Settings(ON_CPU, draws=1), ON_CPU)
    sizes = [len(portion) for portion in comparison.portions(range(18))]
    assert sum(sizes) == 18
    assert max(sizes) * 3 * 2048**2 <= 64e6


def test_a_backend_that_is_one_level_off_is_found_and_named(images, monkeypatch):
    def brighter(job, backend, batches):
        found = run(job, backend, batches)
        if backend == "dali-cpu" and len(job.recipe.ops) == 1:
            found[3] = np.array(found[3])
            found[3][0, 0, 0] += 1
        return found

    run = comparing.run
    monkeypatch.setattr(comparing, "run", brighter)
    report = compare(images, Recipe(name="test", ops=(FRAME,)), Settings(ON_CPU, draws=1, steps=False))
    assert not report.ok
    assert problems(report) == ["dali-cpu, whole recipe: max 1 > 0"]
    assert [row.worst for row in report.rows if not row.ok] == ["sample 3"]


# The command


def test_the_command_shows_writes_and_passes(make_image_folder, tmp_path):
    root = make_image_folder(classes=("ant", "bee"), per_class=2)
    figures, picture = tmp_path / "figures.json", tmp_path / "worst.png"
    arguments = ["parity", root, "--recipe", "cifar-train", "--json", figures, "--picture", picture]
    result = CliRunner().invoke(app, [str(part) for part in arguments])
    assert result.exit_code == 0, result.output
    assert "within tolerance of torchvision" in result.output
    written = json.loads(figures.read_text())
    assert written["ok"]
    assert {row["backend"] for row in written["recipes"][0]["rows"]} == set(ON_CPU)
    with Image.open(picture) as drawn:
        assert drawn.width > 3 * 200


def test_the_command_passes_on_photos_in_inks(tmp_path):
    for label in ("ant", "bee"):
        (tmp_path / label).mkdir()
        (tmp_path / label / "inks.jpg").write_bytes(encode(waves(101, 67), "JPEG", "CMYK", quality=90))
    result = CliRunner().invoke(app, ["parity", str(tmp_path), "--recipe", "cifar-eval", "--draws", "1"])
    assert result.exit_code == 0, result.output
    assert "BEYOND" not in result.output


def test_the_command_ends_with_1_beyond_tolerance(make_image_folder, monkeypatch):
    root = make_image_folder(classes=("ant", "bee"), per_class=1)
    strict = {family: dict.fromkeys(MEASURED, tolerances.EXACT) for family in tolerances.TOLERANCES}
    monkeypatch.setattr(tolerances, "TOLERANCES", strict)
    result = CliRunner().invoke(app, ["parity", str(root), "--recipe", "contrastive", "--draws", "4"])
    assert result.exit_code == 1, result.output
    assert "beyond their tolerance" in result.output
    rows = [line for line in result.output.splitlines() if line.startswith("dali-cpu ")]
    marked = [("BEYOND" in line) for line in rows]
    assert any(marked) and not all(marked)
    assert all(mark == (row.split()[-1] != "none") for mark, row in zip(marked, rows, strict=True))


@pytest.mark.parametrize(
    ("options", "said"),
    [
        (["--recipe", "text-eda"], "a recipe of image ops is needed"),
        (["--backends", "torchvision"], "must name one to hold against the reference"),
        (["--backends", "dali-cpo"], "Did you mean 'dali-cpu'"),
        (["--picture", "worst.pdf"], "must end in .png"),
    ],
)
def test_the_command_refuses_mistakes_in_one_line(options, said):
    result = CliRunner().invoke(app, ["parity", "--recipe", "cifar-train", *options])
    assert result.exit_code == 2
    assert said in result.output
    assert "Traceback" not in result.output
