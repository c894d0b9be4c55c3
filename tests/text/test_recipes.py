import subprocess
import sys
import tomllib

import pytest
import tomli_w
from hypothesis import given, settings
from hypothesis import strategies as st
from pydantic import ValidationError

import dalipipe
from dalipipe.errors import RecipeError
from dalipipe.recipes import list_recipes, reading
from dalipipe.recipes.ops import OPS
from dalipipe.text import Recipe, TextAugment
from dalipipe.text.edits import BoundOp
from dalipipe.text.ops import (
    REGISTRY,
    TEXT_OPS,
    Lowercase,
    OneOf,
    RandomDeletion,
    RandomInsertion,
    RandomReversal,
    RandomSwap,
)
from dalipipe.text.vocabulary import read_lexicon

MIXED = """
[[ops]]
op = "RandomSwap"
count = 1
[[ops]]
op = "CenterCrop"
size = 7
"""

# One row of arguments for each op: what is forgotten here fails the test below.
ARGUMENTS = {
    "RandomInsertion": {"rate": 0.2, "vocabulary": ["x"]},
    "RandomDeletion": {"rate": 0.2},
    "RandomReplacement": {"count": 2, "vocabulary": ["x"], "keep": ["the"]},
    "RandomSwap": {"count": 1, "p": 0.25},
    "RandomReversal": {"length": [2, 4], "p": 0.5},
    "Lowercase": {},
    "OneOf": {"ops": [{"op": "Lowercase"}, {"op": "RandomSwap", "rate": 0.1}], "p": 0.75},
}


@pytest.mark.parametrize("name", ["text-eda", "text-light"])
def test_the_recipes_that_come_with_dalipipe(name):
    assert name in list_recipes()
    assert name in list_recipes("text")
    assert name not in list_recipes("image")
    recipe = Recipe.load(name)
    assert recipe.is_random
    assert Recipe.from_toml(recipe.to_toml()) == recipe
    assert recipe.description


def test_text_eda_has_the_four_operations_at_the_papers_rate():
    (one_of,) = Recipe.load("text-eda").ops
    assert isinstance(one_of, OneOf)
    names = [op.op for op in one_of.ops]
    assert names == ["RandomReplacement", "RandomInsertion", "RandomSwap", "RandomDeletion"]
    assert [op.rate for op in one_of.ops] == [0.1] * 4


@pytest.mark.parametrize(("name", "digits"), [("text-eda", "b0e2e112d183b5cb"), ("text-light", "d5f1b7765e4f6568")])
def test_fingerprints_stay(name, digits):
    assert Recipe.load(name).fingerprint() == digits


def test_what_reads_image_recipes_knows_the_names_of_the_ops_of_text():
    assert set(TEXT_OPS) == reading.TEXT_OPS
    assert not set(TEXT_OPS) & set(OPS)


@pytest.mark.parametrize("name", sorted(TEXT_OPS))
def test_every_op_goes_through_toml_and_has_an_edit(name):
    op = TEXT_OPS[name](**ARGUMENTS[name])
    recipe = Recipe(name="it", ops=(op,))
    again = Recipe.from_toml(recipe.to_toml())
    assert again == recipe
    assert again.fingerprint() == recipe.fingerprint()
    assert BoundOp(op, read_lexicon) is not None
    assert "Args:" in (TEXT_OPS[name].__doc__ or "")


@pytest.mark.parametrize(
    ("read", "message"),
    [
        (
            Recipe.from_toml,
            "recipe: op 2: CenterCrop is an op for images, and this is a recipe for sentences. "
            "Put it into a recipe of its own, a dalipipe.Recipe.",
        ),
        (
            dalipipe.Recipe.from_toml,
            "recipe: op 1: RandomSwap is an op for sentences, and this is a recipe for images. "
            "Put it into a recipe of its own, a dalipipe.text.Recipe.",
        ),
    ],
)
def test_a_recipe_holds_one_kind_and_says_where_the_other_belongs(read, message):
    with pytest.raises(RecipeError) as caught:
        read(MIXED)
    assert str(caught.value) == message


@pytest.mark.parametrize("name", ["imagenet-train", dalipipe.Recipe.load("imagenet-train")])
def test_image_recipes_are_refused_where_text_is_wanted(name):
    with pytest.raises(RecipeError, match=r"dalipipe\.Recipe"):
        TextAugment(name)


@pytest.mark.parametrize(
    "read", [dalipipe.Recipe.load, lambda name: dalipipe.Recipe.from_toml(Recipe.load(name).to_toml())]
)
def test_text_recipes_are_refused_where_images_are_wanted(read):
    with pytest.raises(
        RecipeError, match=r"of image ops is needed here, got one of text.*dalipipe\.text\.Recipe reads"
    ):
        read("text-eda")


def test_a_text_recipe_object_is_refused_where_images_are_wanted():
    with pytest.raises(RecipeError, match=r"those of sentences dalipipe\.text\.Recipe"):
        dalipipe.Recipe.load(Recipe.load("text-eda"))


def test_text_augment_takes_a_recipe_its_name_or_its_path():
    variants = {
        TextAugment(what, seed=3)("a b c d e f", 7)
        for what in ("text-light", Recipe.load("text-light"), list_recipes()["text-light"])
    }
    assert len(variants) == 1


def test_keys_of_images_are_refused():
    with pytest.raises(RecipeError, match="apply_exif_orientation is for images"):
        Recipe.from_toml('apply_exif_orientation = true\n[[ops]]\nop = "Lowercase"\n')


def test_the_evaluation_twin_keeps_what_is_not_random():
    recipe = Recipe(name="it", ops=(Lowercase(), RandomSwap(count=1)))
    assert [op.op for op in recipe.eval_twin().ops] == ["Lowercase"]
    assert Recipe(name="it", ops=(Lowercase(),)).is_random is False
    with pytest.raises(RecipeError, match="Evaluate on the sentences as they are"):
        Recipe.load("text-eda").eval_twin()


@pytest.mark.parametrize(
    ("lines", "message"),
    [
        ('op = "RandomDeletion"\nrate = 1.5', r"op 1 \(RandomDeletion\): rate: .*less than or equal to 1, got 1\.5"),
        (
            'op = "RandomDeletion"\nrate = -0.1',
            r"op 1 \(RandomDeletion\): rate: .*greater than or equal to 0, got -0\.1",
        ),
        ('op = "RandomDeletion"\nrate = nan', r"op 1 \(RandomDeletion\): rate: "),
        ('op = "RandomSwap"', r"op 1 \(RandomSwap\): give either rate or count, got neither"),
        ('op = "RandomSwap"\nrate = 0.1\ncount = 2', r"give either rate or count, got both"),
        ('op = "RandomSwap"\ncount = 0', r"count: .*greater than or equal to 1, got 0"),
        ('op = "RandomInsertion"\nrate = 0.1\nvocabulary = []', r"must hold at least one"),
        ('op = "RandomInsertion"\nrate = 0.1\nvocabulary = ["a", " "]', r"none that is blank"),
        ('op = "RandomInsertion"\nrate = 0.1\nvocabulary = "words"', r'must be "dataset", "wordnet".*got \'words\''),
        ('op = "RandomReversal"\nlength = 1', r"length"),
        ('op = "RandomReversal"\nlength = [5, 3]', r"low <= high, got \(5, 3\)"),
        ('op = "RandomReversal"\nlength = 3\np = 2', r"p: "),
        ('op = "OneOf"\nops = []', r"ops: "),
        (
            'op = "OneOf"\nops = [{op = "CenterCrop", size = 3}]',
            r"\(OneOf\): op 1: CenterCrop is an op for images",
        ),
        ('op = "OneOf"\nops = [{op = "RandomSwap", rate = 2}]', r"op 1 \(RandomSwap\): rate: "),
        ('op = "RandomSwop"\nrate = 0.1', r"unknown op 'RandomSwop'. Did you mean 'RandomSwap'\?"),
        ('op = "RandomSwap"\nrates = 0.1', r"unknown argument 'rates'. Did you mean 'rate'\?"),
    ],
)
def test_bad_arguments_are_refused_in_one_line_that_names_the_op(lines, message):
    with pytest.raises(RecipeError, match=message) as caught:
        Recipe.from_toml(f"[[ops]]\n{lines}\n")
    assert "\n" not in str(caught.value)


VALUES = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats() | st.text(max_size=5) | st.sampled_from(sorted(TEXT_OPS)),
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(st.sampled_from(["op", "rate", "count"]), inner),
    max_leaves=6,
)
NAMES = st.sampled_from(sorted({name for model in TEXT_OPS.values() for name in model.model_fields} - {"op"}))


@given(st.sampled_from(sorted(TEXT_OPS)), st.dictionaries(NAMES | st.text(max_size=3), VALUES, max_size=4))
@settings(max_examples=200)
def test_any_table_is_an_op_or_a_recipe_error(name, table):
    try:
        op = REGISTRY.build({**table, "op": name}, "test: op 1")
    except RecipeError as error:
        assert str(error).startswith(f"test: op 1 ({name}): ")
        assert "\n" not in str(error)
        return
    assert REGISTRY.build({"op": op.op, **tomllib.loads(tomli_w.dumps(op.arguments()))}, "test") == op


def test_bad_arguments_in_python_are_value_errors():
    with pytest.raises(ValidationError):
        RandomDeletion(rate=1.01)
    with pytest.raises(ValueError, match="rate or count"):
        RandomSwap()
    assert RandomReversal(length=3).length == (3, 3)


def test_a_vocabulary_file_lies_beside_its_recipe(tmp_path):
    (tmp_path / "names.txt").write_text("Zoë\n", encoding="utf-8")
    path = tmp_path / "it.toml"
    path.write_text(
        """
[[ops]]
op = "RandomInsertion"
count = 1
vocabulary = "names.txt"
[[ops]]
op = "OneOf"
ops = [{ op = "RandomReplacement", count = 1, vocabulary = "names.txt" }]
""",
        encoding="utf-8",
    )
    augment = TextAugment(path)
    words = augment("one").split()
    assert len(words) == 2
    assert "Zoë" in words
    (insertion, one_of) = augment.recipe.ops
    assert isinstance(insertion, RandomInsertion)
    assert insertion.vocabulary == one_of.ops[0].vocabulary == str(tmp_path / "names.txt")


def test_loading_images_does_not_import_the_text_package():
    code = """
import sys
import dalipipe, dalipipe.loading.loader, dalipipe.backends
from dalipipe import Recipe, list_recipes
[Recipe.load(name) for name in list_recipes("image")]
assert not [name for name in sys.modules if name.startswith("dalipipe.text")]
"""
    result = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, timeout=240)
    assert result.returncode == 0, result.stderr
