import re
import tomllib
from enum import Enum
from pathlib import Path

import pytest
import tomli_w
from pydantic import ValidationError

from dalipipe.errors import RecipeError
from dalipipe.recipes import Recipe, list_recipes, ops, recipes_dir
from dalipipe.recipes.ops import OPS, ImageSpec
from dalipipe.recipes.ops.building import build_op
from dalipipe.recipes.ops.refused import REFUSED

ROWS = tomllib.loads((Path(__file__).parent / "ops.toml").read_text())
CASES = [(name, arguments) for name, rows in ROWS.items() for arguments in rows]
SHIPPED = list(list_recipes("image"))
WHOLE = ops.CenterCrop(size=224)


def toml_of(*tables: str) -> str:
    return 'name = "test"\n' + "".join(f"[[ops]]\n{table}\n" for table in tables)


def op_toml(name: str, **arguments: object) -> str:
    return tomli_w.dumps({"op": name, **arguments})


def recipe_with(op: ops.Op) -> Recipe:
    """A recipe around an op, of a fixed output size."""
    return Recipe(name="test", ops=(WHOLE, op))


# Round trip


@pytest.mark.parametrize("name", OPS)
def test_every_op_has_a_row_of_test_arguments(name):
    assert ROWS.get(name), f"add a table [[{name}]] to tests/ops.toml"


def test_there_are_no_rows_for_ops_that_are_gone():
    assert set(ROWS) == set(OPS)


@pytest.mark.parametrize(("name", "arguments"), CASES)
def test_an_op_survives_toml(name, arguments):
    op = build_op({"op": name, **arguments}, "test")
    recipe = Recipe(name="test", description='a "quoted" line\nand another', ops=(ops.Resize(size=(53, 59)), op))
    if isinstance(op, ops.Resize) and isinstance(op.size, int):
        recipe = Recipe(name="test", ops=(op, WHOLE))
    again = Recipe.from_toml(recipe.to_toml())
    assert again == recipe
    assert again.fingerprint() == recipe.fingerprint()
    assert again.ops[1:] == recipe.ops[1:]
    for key in arguments:
        assert getattr(op, key) is not None


@pytest.mark.parametrize("name", SHIPPED)
def test_a_shipped_recipe_survives_toml(name):
    recipe = Recipe.load(name)
    assert Recipe.from_toml(recipe.to_toml()) == recipe


@pytest.mark.parametrize("name", SHIPPED)
def test_a_shipped_recipe_says_what_it_is(name):
    recipe = Recipe.load(name)
    assert recipe.name == name
    assert recipe.description.endswith(".")
    channels, height, width = recipe.output_shape
    assert (channels, height) == (3, width)
    assert height in (32, 128, 224)


@pytest.mark.parametrize("name", [name for name in SHIPPED if not name.endswith("-eval")])
def test_a_shipped_recipe_has_a_twin_that_decides_nothing(name):
    recipe = Recipe.load(name)
    twin = recipe.eval_twin()
    assert recipe.is_random
    assert not twin.is_random
    assert twin.output_shape == recipe.output_shape
    assert twin.levels == recipe.levels
    assert twin.name == recipe.evaluation
    assert twin.eval_twin() is twin


def test_the_twin_is_derived_where_none_is_named():
    recipe = Recipe(name="mine", ops=(ops.RandomResizedCrop(size=224), ops.ToDtype(scale=True)))
    twin = recipe.eval_twin()
    assert twin.ops == (ops.Resize(size=256), ops.CenterCrop(size=224), ops.ToDtype(scale=True))
    oblong = Recipe(name="mine", ops=(ops.RandomResizedCrop(size=(29, 37)),)).eval_twin()
    assert oblong.ops == (ops.Resize(size=(29, 37)),)


@pytest.mark.parametrize(
    "change",
    [
        ("224", "128"),
        ("0.5, 0.5, 0.5", "0.4, 0.5, 0.6"),
        ("size = 224", "size = [224, 200]"),
        ("size = 224", 'size = 224\ninterpolation = "bicubic"'),
        ('[[ops]]\nop = "RandomHor', '[[ops]]\nop = "Grayscale"\nnum_output_channels = 3\n\n[[ops]]\nop = "RandomHor'),
    ],
)
def test_a_changed_copy_of_a_shipped_recipe_has_its_own_name_and_a_twin_of_its_own(tmp_path, change):
    text = (recipes_dir() / "small-data.toml").read_text()
    assert change[0] in text
    (tmp_path / "mine.toml").write_text(text.replace(*change))
    recipe = Recipe.load(tmp_path / "mine.toml")
    twin = recipe.eval_twin()
    assert (twin.output_shape, twin.levels, twin.is_random) == (recipe.output_shape, recipe.levels, False)
    assert (recipe.name, twin.name.partition(" ")[0]) == ("mine", "mine-eval")
    assert "derived" in twin.name
    assert ("bicubic" in change[1]) == ("bicubic" in twin.to_toml())
    assert ("Grayscale" in change[1]) == ("Grayscale" in twin.to_toml())


def test_a_twin_of_ones_own_has_the_size_and_normalisation_of_the_training_images(tmp_path):
    def write(name, op, mean):
        (tmp_path / name).write_text(
            'evaluation = "check.toml"\n' + toml_of(op, op_toml("Normalize", mean=mean, std=[0.5]))
        )

    write("train.toml", op_toml("RandomResizedCrop", size=8), [0.5])
    write("check.toml", op_toml("Resize", size=[8, 8]), [0.5])
    assert Recipe.load(tmp_path / "train.toml").eval_twin().ops[0] == ops.Resize(size=(8, 8))
    write("check.toml", op_toml("Resize", size=[16, 16]), [0.5])
    with pytest.raises(RecipeError, match=r"as large as those for training, 8 x 8 px, got 16 x 16 px .*check\.toml'"):
        Recipe.load(tmp_path / "train.toml").eval_twin()
    write("check.toml", op_toml("Resize", size=[8, 8]), [0.4])
    with pytest.raises(RecipeError, match=r"must be normalised as those for training, got another .*check\.toml'"):
        Recipe.load(tmp_path / "train.toml").eval_twin()


def test_the_twin_beside_a_file_is_found_from_anywhere(tmp_path, monkeypatch):
    (tmp_path / "train.toml").write_text('evaluation = "check.toml"\n' + toml_of('op = "RandomResizedCrop"\nsize = 8'))
    (tmp_path / "check.toml").write_text(toml_of('op = "Resize"\nsize = [8, 8]'))
    monkeypatch.chdir("/")
    assert Recipe.load(tmp_path / "train.toml").eval_twin().ops == (ops.Resize(size=(8, 8)),)


# Fingerprint


def test_the_fingerprint_is_the_same_in_every_version():
    text = toml_of(op_toml("RandomResizedCrop", size=224), op_toml("Normalize", mean=[0.5], std=[0.5]))
    assert Recipe.from_toml(text).fingerprint() == "988da81493ebb07c"


def test_the_fingerprint_does_not_depend_on_names_comments_or_spelling():
    plain = Recipe.from_toml(toml_of(op_toml("RandomResizedCrop", size=224)))
    spelt = Recipe.from_toml(
        '# A comment.\nname = "other"\ndescription = "Different."\nevaluation = "imagenet-eval"\n'
        '[[ops]]  # the crop\nsize = [224, 224]\nop = "RandomResizedCrop"\nscale = [0.08, 1]\nantialias = true\n'
    )
    assert plain.fingerprint() == spelt.fingerprint()


CHANGES = {
    "size": (13, 17),
    "scale": (0.6, 0.7),
    "ratio": (0.9, 1.1),
    "max_size": 99,
    "padding": (4, 4, 4, 5),
    "fill": (1, 2, 3),
    "p": 0.125,
    "degrees": (1, 2),
    "interpolation": "bilinear",
    "center": (1, 2),
    "translate": (0.25, 0.125),
    "shear": (0, 1, 2, 3),
    "mean": (0.1, 0.2, 0.3),
    "std": (0.1, 0.2, 0.3),
    "value": (1, 2, 3),
    "ops": (ops.RandomVerticalFlip(), ops.RandomHorizontalFlip()),
    ("RandomChoice", "p"): (1.0, 3.0),
    "brightness": (0.5, 2.0),
    "contrast": (0.5, 2.0),
    "saturation": (0.5, 2.0),
    "hue": (0.1, 0.2),
    "threshold": 7.0,
    "bits": 2,
    "sharpness_factor": 1.25,
    "kernel_size": (7, 9),
    "sigma": (0.5, 0.75),
    "distortion_scale": 0.25,
    "num_output_channels": 1,
    "num_ops": 1,
    "magnitude": 5,
    "num_magnitude_bins": 11,
    ("RandomPerspective", "interpolation"): "bilinear",
    ("RandomResizedCrop", "interpolation"): "nearest",
    ("Resize", "interpolation"): "bicubic",
    ("TrivialAugmentWide", "interpolation"): "nearest",
}
ONE_VALUED = {
    ("AutoAugment", "policy"),
    ("ToDtype", "dtype"),
}


def arguments_of_ops():
    for name, model in OPS.items():
        for argument in model.model_fields:
            if argument != "op" and (name, argument) not in ONE_VALUED:
                yield name, argument


@pytest.mark.parametrize(("name", "argument"), list(arguments_of_ops()))
def test_the_fingerprint_changes_with_every_argument(name, argument):
    base = {**ROWS[name][0], "size": 23} if argument == "max_size" else ROWS[name][0]
    before = build_op({"op": name, **base}, "test")
    now = getattr(before, argument)
    value = not now if isinstance(now, bool) else CHANGES.get((name, argument), CHANGES.get(argument))
    after = build_op({"op": name, **base, argument: value}, "test")
    assert getattr(after, argument) != now
    assert recipe_with(before).fingerprint() != recipe_with(after).fingerprint()


def test_the_fingerprint_changes_with_the_order():
    flips = (ops.RandomHorizontalFlip(), ops.RandomVerticalFlip())
    assert (
        Recipe(name="x", ops=(WHOLE, *flips)).fingerprint() != Recipe(name="x", ops=(WHOLE, *flips[::-1])).fingerprint()
    )


@pytest.mark.parametrize("name", REFUSED)
def test_what_cannot_be_an_op_is_refused_with_the_reason(name):
    with pytest.raises(RecipeError, match=f"op 1: {name} {REFUSED[name][0]}"):
        Recipe.from_toml(toml_of(f'op = "{name}"'))


def test_a_recipe_can_not_be_changed():
    with pytest.raises(ValidationError):
        Recipe.load("imagenet-train").name = "other"


# Shapes


def test_the_shape_is_known_after_each_op():
    recipe = Recipe.load("imagenet-eval")
    assert [str(spec) for spec in recipe.shapes()] == [
        "? x ? x 3 uint8",
        "? x ? x 3 uint8",
        "224 x 224 x 3 uint8",
        "224 x 224 x 3 float32",
    ]
    assert recipe.shapes(ImageSpec(height=375, width=500))[1] == ImageSpec(height=256, width=341)
    assert recipe.output_shape == (3, 224, 224)


def test_the_output_shape_is_channels_height_width():
    assert Recipe(name="x", ops=(ops.RandomResizedCrop(size=(29, 37)),)).output_shape == (3, 29, 37)


def test_levels_are_mean_and_deviation_in_levels():
    half = ops.Normalize(mean=(0.5, 0.25, 0.0), std=(0.5, 0.5, 1.0))
    implied = Recipe(name="x", ops=(WHOLE, half))
    spelt = Recipe(name="x", ops=(WHOLE, ops.ToDtype(scale=True), half))
    raw = Recipe(name="x", ops=(WHOLE, ops.ToDtype(), ops.Normalize(mean=(127.5, 63.75, 0), std=(127.5, 127.5, 255))))
    assert implied.levels == spelt.levels == raw.levels == ((127.5, 63.75, 0.0), (127.5, 127.5, 255.0))
    assert Recipe(name="x", ops=(WHOLE, ops.ToDtype(scale=True))).levels == ((0, 0, 0), (255, 255, 255))
    assert Recipe(name="x", ops=(WHOLE, ops.ToDtype())).levels == ((0, 0, 0), (1, 1, 1))
    assert Recipe(name="x", ops=(WHOLE,)).levels is None


# torchvision's forms of an argument


@pytest.mark.parametrize(
    ("name", "arguments", "field", "value"),
    [
        ("RandomResizedCrop", {"size": 7}, "size", (7, 7)),
        ("CenterCrop", {"size": [7]}, "size", (7, 7)),
        ("Resize", {"size": [7]}, "size", 7),
        ("Resize", {"size": 7}, "size", 7),
        ("RandomCrop", {"size": 7, "padding": 4}, "padding", (4, 4, 4, 4)),
        ("RandomCrop", {"size": 7, "padding": [4, 5]}, "padding", (4, 5, 4, 5)),
        ("RandomCrop", {"size": 7, "padding": [1, 2, 3, 4]}, "padding", (1, 2, 3, 4)),
        ("RandomCrop", {"size": 7, "fill": 9}, "fill", (9, 9, 9)),
        ("RandomRotation", {"degrees": 15}, "degrees", (-15, 15)),
        ("RandomRotation", {"degrees": [90, 90]}, "degrees", (90, 90)),
        ("RandomAffine", {"degrees": 0, "shear": 3}, "shear", (-3, 3, 0, 0)),
        ("RandomAffine", {"degrees": 0, "shear": [1, 2]}, "shear", (1, 2, 0, 0)),
        ("RandomAffine", {"degrees": 0, "shear": [1, 2, 3, 4]}, "shear", (1, 2, 3, 4)),
        ("Normalize", {"mean": [0.5], "std": [0.5]}, "mean", (0.5, 0.5, 0.5)),
    ],
)
def test_torchvisions_short_forms_are_understood(name, arguments, field, value):
    assert getattr(build_op({"op": name, **arguments}, "test"), field) == value


TORCHVISION_DEFAULTS = {
    "RandomResizedCrop": {"scale": (0.08, 1.0), "ratio": (3 / 4, 4 / 3), "antialias": True},
    "RandomHorizontalFlip": {"p": 0.5},
    "RandomVerticalFlip": {"p": 0.5},
    "RandomRotation": {"interpolation": "nearest", "fill": (0, 0, 0), "center": None},
    "RandomAffine": {"interpolation": "nearest", "translate": None, "scale": None, "shear": None, "fill": (0, 0, 0)},
    "RandomCrop": {"padding": (0, 0, 0, 0), "pad_if_needed": False, "fill": (0, 0, 0)},
    "Resize": {"max_size": None, "antialias": True},
    "ToDtype": {"scale": False},
    "Pad": {"fill": (0, 0, 0)},
    "RandomPerspective": {"distortion_scale": 0.5, "p": 0.5, "interpolation": "bilinear", "fill": (0, 0, 0)},
    "RandomGrayscale": {"p": 0.1},
    "RandomInvert": {"p": 0.5},
    "RandomSolarize": {"p": 0.5},
    "RandomPosterize": {"p": 0.5},
    "RandomAutocontrast": {"p": 0.5},
    "RandomEqualize": {"p": 0.5},
    "RandomAdjustSharpness": {"p": 0.5},
    "GaussianBlur": {"sigma": (0.1, 2.0)},
    "RandAugment": {"num_ops": 2, "magnitude": 9, "num_magnitude_bins": 31, "interpolation": "nearest"},
    "TrivialAugmentWide": {"num_magnitude_bins": 31, "interpolation": "nearest"},
    "AutoAugment": {"policy": "imagenet", "interpolation": "nearest"},
}


@pytest.mark.parametrize("name", TORCHVISION_DEFAULTS)
def test_defaults_are_torchvisions(name):
    import inspect

    from torchvision.transforms import v2

    fields = OPS[name].model_fields
    theirs = {key: item.default for key, item in inspect.signature(getattr(v2, name)).parameters.items()}
    for argument, default in TORCHVISION_DEFAULTS[name].items():
        assert fields[argument].default == default
        there = theirs[argument]
        if isinstance(there, Enum):
            assert default == there.value
        elif argument == "fill":
            assert default == (there,) * 3
        elif argument == "padding":
            assert there is None
        else:
            assert default == there


# Names and paths


def test_a_misspelt_name_gets_the_nearest_one():
    with pytest.raises(RecipeError) as caught:
        Recipe.load("imagenet-trian")
    message = str(caught.value)
    assert message.startswith(
        "recipe: there is no recipe named 'imagenet-trian'. Did you mean 'imagenet-train'? Known: "
    )
    assert all(name in message for name in SHIPPED)


@pytest.mark.parametrize("name", ["", "x" * 5000, "nul\0", "line\nbreak", "/", "no-such.toml", "/root/x/y.toml"])
def test_a_name_that_is_nothing_is_a_recipe_error_of_one_line(name):
    with pytest.raises(RecipeError) as caught:
        Recipe.load(name)
    assert str(caught.value).startswith("recipe: ")
    assert "\n" not in str(caught.value)


def test_a_recipe_is_found_by_name_by_path_and_as_itself(tmp_path):
    path = tmp_path / "my crop.toml"
    path.write_text('[[ops]]\nop = "CenterCrop"\nsize = 9\n')
    by_path = Recipe.load(path)
    assert by_path.name == "my crop"
    assert by_path == Recipe.load(str(path))
    assert Recipe.load(by_path) is by_path
    assert Recipe.load("imagenet-eval") == Recipe.load(list_recipes()["imagenet-eval"])


def test_an_error_names_the_file(tmp_path):
    path = tmp_path / "mine.toml"
    path.write_text(toml_of(op_toml("CenterCrop", size=0)))
    with pytest.raises(RecipeError, match=re.escape(f"{path}: op 1 (CenterCrop): size.0: input")):
        Recipe.load(path)


def test_a_file_that_is_not_text_is_refused(tmp_path):
    path = tmp_path / "mine.toml"
    path.write_bytes(b"\xff\xfe\x00")
    with pytest.raises(RecipeError, match="it is not UTF-8 text"):
        Recipe.load(path)
