"""What a recipe refuses, at load time and in one line."""

import tomllib

import pytest
import tomli_w
from hypothesis import given, settings
from hypothesis import strategies as st

from dalipipe.errors import RecipeError
from dalipipe.recipes import Recipe
from dalipipe.recipes.ops import OPS
from dalipipe.recipes.ops.building import build_op


def toml_of(*tables: str) -> str:
    return 'name = "test"\n' + "".join(f"[[ops]]\n{table}\n" for table in tables)


def op_toml(name: str, **arguments: object) -> str:
    return tomli_w.dumps({"op": name, **arguments})


# Refusals


NORMALIZE = op_toml("Normalize", mean=[0.5], std=[0.5])

UNREADABLE = [
    ("", "recipe: a recipe needs at least one [[ops]] table, got none. Add one."),
    ("ops = []", "recipe: a recipe needs at least one [[ops]] table, got none. Add one."),
    ("ops = [3]", 'recipe: op 1: must be a table with a text `op`, got 3. Write for example op = "CenterCrop".'),
    ("ops = [{size = 3}]", "recipe: op 1: must be a table with a text `op`, got {'size': 3}."),
    (toml_of(op_toml("CentreCrop", size=3)), "recipe: op 1: unknown op 'CentreCrop'. Did you mean 'CenterCrop'?"),
    (
        toml_of(op_toml("Posterize", bits=3)),
        "recipe: op 1: unknown op 'Posterize'. Did you mean 'RandomPosterize'? There are: AutoAugm",
    ),
    (
        toml_of(op_toml("CenterCrop", size=3), op_toml("RandomHorizontalFlip", prob=1)),
        "recipe: op 2 (RandomHorizontalFlip): unknown argument 'prob'. There are: p.",
    ),
    (toml_of(op_toml("CenterCrop", siez=3)), "op 1 (CenterCrop): unknown argument 'siez'. Did you mean 'size'?"),
    (toml_of(op_toml("ToDtype", x=1)), "op 1 (ToDtype): unknown argument 'x'. There are: dtype, scale."),
    (toml_of(op_toml("CenterCrop")), "recipe: op 1 (CenterCrop): size is missing. Add it."),
    (toml_of(op_toml("CenterCrop", size=[3, 0])), "op 1 (CenterCrop): size.1: input should be greater than or"),
    (toml_of(op_toml("Resize", size="224")), "op 1 (Resize): size: input should be a valid integer, got '224'."),
    (toml_of(op_toml("Resize", size=True)), "op 1 (Resize): size: input should be a valid integer, got True."),
    (toml_of(op_toml("Resize", size=9, max_size=9)), "op 1 (Resize): max_size must exceed size, got 9 for size 9"),
    (toml_of(op_toml("Resize", size=[9, 9], max_size=12)), "op 1 (Resize): max_size needs a single number as size"),
    (toml_of(op_toml("RandomHorizontalFlip", p=1.5)), "op 1 (RandomHorizontalFlip): p: input should be less than"),
    (toml_of(op_toml("RandomResizedCrop", size=9, scale=[1, 0.5])), "op 1 (RandomResizedCrop): scale must be (low"),
    (toml_of(op_toml("RandomResizedCrop", size=9, scale=[0, 0])), "scale must reach above 0, got (0.0, 0.0)"),
    (toml_of(op_toml("RandomResizedCrop", size=9, ratio=[0, 1])), "op 1 (RandomResizedCrop): ratio must be (low"),
    (toml_of(op_toml("RandomResizedCrop", size=9, interpolation="lanczos")), "interpolation: input should be 'nea"),
    (toml_of(op_toml("RandomCrop", size=9, padding=[1, 2, 3])), "padding: must be one number, two or four, got (1"),
    (toml_of(op_toml("RandomCrop", size=9, padding=-1)), "op 1 (RandomCrop): padding.0: input should be greater"),
    (toml_of(op_toml("RandomCrop", size=9, fill=256)), "op 1 (RandomCrop): fill.0: input should be less than or"),
    (toml_of(op_toml("RandomRotation", degrees=-5)), "op 1 (RandomRotation): degrees: a single number must be >="),
    (toml_of(op_toml("RandomRotation", degrees=[5, 4])), "degrees must be (low, high) with -360 <= low <= high <="),
    (toml_of(op_toml("RandomRotation", degrees=float("inf"))), "degrees.0: input should be a finite number"),
    (toml_of(op_toml("RandomRotation", degrees=5, center=[float("nan")] * 2)), "center.0: input should be a finite"),
    (toml_of(op_toml("RandomAffine", degrees=5, shear=[0, 90])), "op 1 (RandomAffine): shear must be (low, high)"),
    (toml_of(op_toml("RandomAffine", degrees=5, shear=True)), "op 1 (RandomAffine): shear: input should be a valid"),
    (toml_of(op_toml("RandomAffine", degrees=5, scale=[0, 1])), "op 1 (RandomAffine): scale must be (low, high)"),
    (toml_of(op_toml("RandomAffine", degrees=5, translate=[0.1, 2])), "translate.1: input should be less than or"),
    (toml_of(op_toml("Normalize", mean=[0.5], std=[0.0])), "op 1 (Normalize): every std must be > 0, got (0.0, 0."),
    (toml_of(op_toml("Normalize", mean=[float("nan")], std=[0.5])), "mean.0: input should be a finite number, got"),
    ("nmae = 'x'\n[[ops]]\nop = 'CenterCrop'\nsize = 3", "recipe: unknown argument 'nmae'. Did you mean 'name'?"),
    ("name = 3\n[[ops]]\nop = 'CenterCrop'\nsize = 3", "recipe: name: input should be a valid string, got 3."),
]


@pytest.mark.parametrize(("text", "message"), UNREADABLE, ids=[message for _, message in UNREADABLE])
def test_what_can_not_be_read_is_refused(text, message):
    with pytest.raises(RecipeError) as caught:
        Recipe.from_toml(text)
    assert message in str(caught.value)
    assert "\n" not in str(caught.value)


UNFITTING = [
    (
        toml_of(op_toml("Resize", size=[8, 9]), op_toml("CenterCrop", size=32)),
        "recipe: op 2: CenterCrop: size 32 exceeds the incoming height of 8 px. Put a Resize before it or lower size",
    ),
    (
        toml_of(op_toml("Resize", size=[33, 9]), op_toml("CenterCrop", size=32)),
        "op 2: CenterCrop: size 32 exceeds the incoming width of 9 px.",
    ),
    (
        toml_of(op_toml("Resize", size=[8, 9]), op_toml("RandomCrop", size=32, padding=2)),
        "op 2: RandomCrop: size 32 exceeds the incoming height of 8 px with 4 px of padding. Put a Resize before it",
    ),
    (
        toml_of(op_toml("CenterCrop", size=8), NORMALIZE, op_toml("RandomHorizontalFlip")),
        "op 3 (RandomHorizontalFlip): works on uint8 pixels, but Normalize comes before it. Put RandomHorizontalFl",
    ),
    (toml_of(op_toml("CenterCrop", size=8), op_toml("ToDtype"), op_toml("ToDtype")), "op 3: ToDtype: the pixels"),
    (toml_of(op_toml("CenterCrop", size=8), NORMALIZE, NORMALIZE), "op 3: Normalize: the pixels are normalised"),
    (
        toml_of(op_toml("Resize", size=8), NORMALIZE),
        "recipe: the output is ? x ? x 3 float32, so images of different sizes could not be batched. Add a Resize",
    ),
]


@pytest.mark.parametrize(("text", "message"), UNFITTING, ids=[message for _, message in UNFITTING])
def test_ops_that_do_not_fit_are_refused(text, message):
    with pytest.raises(RecipeError) as caught:
        Recipe.from_toml(text)
    assert message in str(caught.value)


def test_a_crop_that_padding_makes_room_for_is_accepted():
    text = toml_of(op_toml("Resize", size=[32, 32]), op_toml("RandomCrop", size=[36, 40], padding=[4, 2]))
    assert Recipe.from_toml(text).output_shape == (3, 36, 40)


def test_a_syntax_error_has_line_and_column():
    with pytest.raises(RecipeError, match=r"^mine\.toml: not valid TOML: .*line 3, column 8"):
        Recipe.from_toml('name = "x"\n[[ops]]\nsize = = 3\n', where="mine.toml")


@pytest.mark.parametrize("text", ["x = " + "[" * 5000, "x = " + "1" * 5000, "\ufeffname = 1", "x = \x00"])
def test_hostile_toml_is_a_recipe_error(text):
    with pytest.raises(RecipeError, match=r"^recipe: not valid TOML: "):
        Recipe.from_toml(text)


# Whatever comes


VALUES = st.recursive(
    st.none()
    | st.booleans()
    | st.integers()
    | st.just(10**400)
    | st.floats()
    | st.text(max_size=5)
    | st.dates()
    | st.sampled_from(["bilinear", "nearest"]),
    lambda inner: st.lists(inner, max_size=4) | st.dictionaries(st.text(max_size=3), inner, max_size=2),
    max_leaves=5,
)
ARGUMENTS = st.sampled_from(sorted({field for model in OPS.values() for field in model.model_fields}))
TABLES = st.dictionaries(ARGUMENTS | st.text(max_size=4), VALUES, max_size=5)


@given(st.text())
@settings(max_examples=60)
def test_any_text_is_a_recipe_or_a_recipe_error(text):
    try:
        Recipe.from_toml(text)
    except RecipeError as error:
        assert str(error).startswith("recipe: ")


@given(st.sampled_from(sorted(OPS)), TABLES)
@settings(max_examples=150)
def test_any_table_is_an_op_or_a_recipe_error(name, table):
    try:
        op = build_op({**table, "op": name}, "test: op 1")
    except RecipeError as error:
        assert str(error).startswith(f"test: op 1 ({name}): ")
        assert "\n" not in str(error)
        return
    again = build_op({"op": op.op, **tomllib.loads(tomli_w.dumps(op.arguments()))}, "test")
    assert again == op


def without_none(value):
    if isinstance(value, dict):
        return {key: without_none(item) for key, item in value.items() if item is not None}
    return [without_none(item) for item in value if item is not None] if isinstance(value, list) else value


@given(st.dictionaries(st.sampled_from(["name", "ops", "description"]) | st.text(max_size=4), VALUES, max_size=4))
@settings(max_examples=60)
def test_any_toml_is_a_recipe_or_a_recipe_error(data):
    text = tomli_w.dumps(without_none(data)).replace("1" + "0" * 400, "9" * 5000)
    try:
        Recipe.from_toml(text)
    except RecipeError as error:
        assert str(error).startswith("recipe: ")
