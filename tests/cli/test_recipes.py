import tomllib

import pytest
from typer.testing import CliRunner

from dalipipe.cli import app
from dalipipe.recipes import Recipe, list_recipes
from dalipipe.text import Recipe as TextRecipe


def run(*arguments):
    return CliRunner().invoke(app, [str(argument) for argument in arguments])


def test_every_recipe_is_listed_with_its_sentence():
    result = run("recipes")
    assert result.exit_code == 0
    lines = result.stdout.splitlines()
    texts = list_recipes("text")
    for name in list_recipes():
        description = (TextRecipe if name in texts else Recipe).load(name).description
        assert description.endswith(".")
        assert sum(line.split() == [name, *description.split()] for line in lines) == 1


@pytest.mark.parametrize("name", list(list_recipes("image")))
def test_show_has_every_step_with_the_shape_after_it(name):
    result = run("show", name, "--backend", "torchvision")
    recipe = Recipe.load(name)
    assert result.exit_code == 0
    lines = result.stdout.splitlines()
    for view in recipe.views:
        for op, spec in zip(view.ops, view.shapes()[1:], strict=True):
            assert any(line.startswith(f"{op.op}(") and line.rstrip().endswith(str(spec)) for line in lines)
    assert f"fingerprint  {recipe.fingerprint()}" in lines
    twin = recipe.eval_twin()
    assert f"evaluation   {'itself' if twin == recipe else twin.name}" in lines
    assert any("float32" in line and line.startswith("gives") for line in lines)


@pytest.mark.parametrize("name", ["text-eda", "text-light"])
def test_show_has_every_op_of_a_text_recipe(name):
    result = run("show", name)
    recipe = TextRecipe.load(name)
    assert result.exit_code == 0
    for op in (*recipe.ops, *getattr(recipe.ops[0], "ops", ())):
        assert f"{op.op}(" in result.stdout
    assert "rate=0.1" in result.stdout or "rate=0.05" in result.stdout
    assert f"fingerprint  {recipe.fingerprint()}" in result.stdout.splitlines()


def test_show_names_the_operators_of_every_backend():
    result = run("show", "imagenet-train")
    assert result.exit_code == 0
    for operator in ("decoders.image_slice", "crop_mirror_normalize", "v2.functional.resized_crop"):
        assert operator in result.stdout
    titles = [line for line in result.stdout.splitlines() if line.startswith("on ")]
    named = ", ".join(title.removeprefix("on ") for title in titles).split(", ")
    assert sorted(named) == sorted(set(named))
    assert {"dali-gpu", "dali-cpu-stock", "torchvision"} <= set(named)


def test_show_can_be_about_one_backend():
    result = run("show", "imagenet-train", "--backend", "torchvision")
    assert "fn." not in result.stdout.replace("v2.functional", "")
    assert [line for line in result.stdout.splitlines() if line.startswith("on ")] == ["on torchvision"]


def test_a_size_that_is_the_shorter_side_does_not_look_like_a_square(tmp_path):
    file = tmp_path / "mine.toml"
    file.write_text(
        '[[ops]]\nop = "Resize"\nsize = 64\n[[ops]]\nop = "Resize"\nsize = [48, 48]\n'
        '[[ops]]\nop = "RandomCrop"\nsize = 32\npadding = [1, 2]\nfill = 7\n'
    )
    shown = run("show", file, "--backend", "torchvision").stdout
    assert "Resize(size=64) " in shown
    assert "Resize(size=(48, 48)) " in shown
    assert "RandomCrop(size=32, padding=(1, 2, 1, 2), fill=7) " in shown
    assert "mine-eval (derived from it)" in shown
    assert "uint8" in next(line for line in shown.splitlines() if line.startswith("gives"))


def test_toml_is_the_file_ready_to_be_changed(tmp_path):
    result = run("show", "shear-zoom", "--toml")
    assert result.stdout == list_recipes()["shear-zoom"].read_text()
    assert tomllib.loads(result.stdout)["name"] == "shear-zoom"
    copy = tmp_path / "copy.toml"
    copy.write_text(result.stdout)
    assert run("show", copy, "--toml").stdout == result.stdout


@pytest.mark.parametrize(
    ("arguments", "said"),
    [
        (("show", "imagenet-trian"), "Did you mean 'imagenet-train'?"),
        (("show", "imagenet-train", "--backend", "torchvison"), "Did you mean 'torchvision'?"),
        (("show", "gone.toml"), "can't read 'gone.toml': No such file or directory"),
        (("show",), "RECIPE"),
        (("recipes", "too-much"), "too-much"),
    ],
)
def test_mistakes_are_one_line_and_status_2(arguments, said):
    result = run(*arguments)
    assert result.exit_code == 2
    assert result.stdout == ""
    assert result.stderr.count("\n") == 1
    assert result.stderr.startswith("error: ")
    assert said in result.stderr


def test_a_syntax_error_is_told_with_line_and_column(tmp_path):
    file = tmp_path / "broken.toml"
    file.write_text('name = "broken"\n[[ops]]\nop = CenterCrop\n')
    result = run("show", file)
    assert result.exit_code == 2
    assert "broken.toml" in result.stderr
    assert "line 3, column 6" in result.stderr


def test_what_training_chooses_itself_is_found_in_its_output():
    result = CliRunner().invoke(app, ["show", "auto"])
    assert (result.exit_code, result.stderr.count("\n")) == (2, 1)
    assert "the recipe.toml in the output of a run" in result.stderr
