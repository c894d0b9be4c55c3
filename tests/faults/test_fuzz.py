"""Whatever text comes as a recipe and whatever JSON as a state: it works, or is refused as such, in one line."""

import copy
import json
import math
from collections.abc import Callable

import numpy as np
import pytest
import tomli_w
import torch
from hypothesis import example, given, settings
from hypothesis import strategies as st
from torch.utils.data import BatchSampler, DistributedSampler, RandomSampler, SequentialSampler

import dalipipe
from dalipipe.errors import RecipeError, StateError
from dalipipe.recipes import Recipe, list_recipes
from dalipipe.recipes.ops import OPS
from dalipipe.sources import ArraySource
from dalipipe.text import Recipe as TextRecipe
from dalipipe.text.ops import TEXT_OPS

# Recipes


def read(text: str) -> Recipe | TextRecipe | None:
    """Return what a text is as a recipe, None where it is refused as it should be; checks what a recipe promises."""
    return read_as(Recipe, text) or read_as(TextRecipe, text)


def read_as(kind: type[Recipe | TextRecipe], text: str) -> Recipe | TextRecipe | None:
    try:
        recipe = kind.from_toml(text)
    except RecipeError as error:
        message = str(error)
        assert message.startswith("recipe: ") and len(message) < 3000
        assert "\n" not in message
        return None
    assert kind.from_toml(recipe.to_toml()) == recipe
    assert len(recipe.fingerprint()) == 16
    if isinstance(recipe, Recipe):
        assert all(side > 0 for side in recipe.output_shape)
        assert dalipipe.backends.Job(SOURCE, recipe).program is not None
    return recipe


SHIPPED = {name: path.read_text() for name, path in list_recipes().items()}
HUGE = "0x" + "f" * 5000
FRAGMENTS = st.sampled_from(
    [
        *("=", "[[ops]]", "[ops]", "[[ops.ops]]", '"', "'''", "[", "]", "{", "}", ",", "\n", "#", "0", "-"),
        *("1e308", "nan", "inf", "true", "0xffff", "9" * 30, "1979-05-27", "op", "name", "size", "p = 2"),
        *("\\u0000", "\x00", "\ud7ff", "é", "[" * 300, HUGE),
    ]
)
NUMBERS = st.integers() | st.floats() | st.sampled_from([0, 1, -1, 65535, 65536, 2**63, 10**40, 1e308, 5e-324])
SCALARS = NUMBERS | st.booleans() | st.text(max_size=6) | st.sampled_from(["bilinear", "nearest", "float32", "dataset"])
VALUES = st.recursive(
    SCALARS,
    lambda inner: st.lists(inner, max_size=4) | st.dictionaries(st.text(max_size=4), inner, max_size=3),
    max_leaves=6,
)
MODELS = {**OPS, **TEXT_OPS}


@st.composite
def tables(draw: Callable, deep: int = 4) -> dict:
    """A table of a real op with some of its arguments, each of any value; containers with ops in them."""
    name = draw(st.sampled_from(sorted(MODELS)))
    arguments = [argument for argument in MODELS[name].model_fields if argument not in ("op", "ops")]
    chosen = draw(st.lists(st.sampled_from(arguments), unique=True, max_size=3)) if arguments else []
    table = {"op": name, **{argument: draw(VALUES | st.just(8)) for argument in chosen}}
    if "ops" in MODELS[name].model_fields and deep:
        table["ops"] = draw(st.lists(tables(deep - 1), max_size=3))
    return table


END = [{"op": "CenterCrop", "size": 8}]


@given(st.lists(tables(), max_size=4), st.dictionaries(st.text(max_size=5), VALUES, max_size=1), st.booleans())
@settings(max_examples=150)
def test_any_ops_with_any_arguments(ops, head, whole):
    # With a size at the end more of them are recipes.
    read(tomli_w.dumps({**head, "ops": ops + END if whole else ops}))


@st.composite
def spoilt(draw: Callable) -> str:
    """A shipped recipe with something taken out, put in or moved."""
    text = draw(st.sampled_from(sorted(SHIPPED.values())))
    for _ in range(draw(st.integers(1, 3))):
        at, stop = sorted((draw(st.integers(0, len(text))), draw(st.integers(0, len(text)))))
        stop = min(stop, at + draw(st.integers(0, 40)))
        new = draw(FRAGMENTS | st.text(max_size=3) | NUMBERS.map(str) | st.just(text[at:stop] * 2))
        text = text[:at] + new + text[stop:]
    return text


@given(spoilt())
@example(f"name = {HUGE}\n[[ops]]\nop = 'CenterCrop'\nsize = 3")
@example(f"[[ops]]\nop = 'CenterCrop'\nsize = {HUGE}")
@example(f"[[ops]]\nop = 'RandomRotation'\ndegrees = [{HUGE}, 1]")
@example(f"ops = [{HUGE}]")
@example("ops = [" + "[" * 450 + "]" * 450 + "]")
@example("[[ops]]\nop = 'CenterCrop'\nsize = " + "{a=" * 150 + "1" + "}" * 150)
@example(f"[[ops]]\nop = '{'x' * 100_000}'")
@settings(max_examples=200)
def test_any_shipped_recipe_that_is_spoilt(text):
    read(text)


@given(st.text() | st.lists(FRAGMENTS, max_size=12).map("".join))
@settings(max_examples=150)
def test_any_text(text):
    read(text)


@given(st.binary(max_size=200) | spoilt().map(lambda text: text.encode("utf-8", "replace")))
@settings(max_examples=40)
def test_any_file(tmp_path_factory, content):
    path = tmp_path_factory.getbasetemp() / "any.toml"
    path.write_bytes(content)
    try:
        Recipe.load(path)
    except RecipeError as error:
        assert str(error).startswith("recipe: can't read ") or str(error).startswith(str(path))


def test_shipped_recipes_are_read_here():
    assert all(read(text) is not None for text in SHIPPED.values())


def test_weights_whose_sum_is_no_number_are_refused():
    flip = {"op": "RandomHorizontalFlip"}
    ops = [{"op": "RandomChoice", "p": [1e308, 1e308], "ops": [flip, flip]}, *END]
    with pytest.raises(RecipeError, match="p must be a weight"):
        Recipe.from_toml(tomli_w.dumps({"ops": ops}))


# States

COUNT = 11
SOURCE = ArraySource(
    np.random.default_rng(0).integers(0, 256, (COUNT, 8, 8, 3), dtype=np.uint8),
    np.arange(COUNT),
    [str(number) for number in range(COUNT)],
)
RECIPE = Recipe.from_toml(tomli_w.dumps({"ops": [{"op": "RandomHorizontalFlip"}, *END]}))


def generator() -> torch.Generator:
    return torch.Generator().manual_seed(5)


ORDERS = {
    "in order": lambda: {},
    "shuffled": lambda: {"shuffle": True},
    "skipping": lambda: {"on_error": "skip"},
    "random sampler": lambda: {"sampler": RandomSampler(SOURCE, generator=generator())},
    "global sampler": lambda: {"sampler": RandomSampler(SOURCE)},
    "distributed sampler": lambda: {"sampler": DistributedSampler(SOURCE, num_replicas=2, rank=0)},
    "batch sampler": lambda: {"batch_sampler": BatchSampler(SequentialSampler(SOURCE), 3, drop_last=False)},
}


def make(order: str) -> dalipipe.DataLoader:
    options = {"recipe": RECIPE, "backend": "torchvision", "seed": 4, "num_threads": 1}
    given = ORDERS[order]()
    return dalipipe.DataLoader(SOURCE, **({} if "batch_sampler" in given else {"batch_size": 3}), **given, **options)


def labels_of(loader: dalipipe.DataLoader) -> list[int]:
    return [label for _, labels in loader for label in labels.tolist()]


@pytest.fixture(scope="module", params=ORDERS)
def loader(request):
    """The name of an order, a loader that has it, and its state in the middle of an epoch."""
    with make(request.param) as loader:
        iterator = iter(loader)
        next(iterator)
        state = json.loads(json.dumps(loader.state_dict()))
        iterator.close()
        yield request.param, loader, state


JSON = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats() | st.text(max_size=5),
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(st.text(max_size=3), inner, max_size=3),
    max_leaves=5,
)
ODD = JSON | st.sampled_from(
    [2**32 - 1, 2**32, 2**63, 2**64 - 1, 2**64, -1, 10**5000, math.nan, math.inf, 1.0, 1e300, True, "1", "", [], {}]
)
KEYS = ["version", "epoch", "position", "seed", "shuffle", "length", "data", "recipe", "order", "bad"]
CHANGES = st.dictionaries(st.sampled_from([*KEYS, "other"]), ODD | st.integers(0, 14), min_size=1, max_size=3)
INNER = st.dictionaries(st.sampled_from(["generator", "global", "epoch", "sampler", "of", "x"]), ODD, max_size=2)
BAD = st.lists(
    st.tuples(st.integers(-1, COUNT), st.text(max_size=3) | ODD, st.integers(0, 3) | ODD).map(list), max_size=3
)
SPOILT = (
    CHANGES
    | st.builds(lambda order: {"order": order}, INNER)
    | st.builds(lambda bad, position: {"bad": bad, "position": position}, BAD, st.integers(0, COUNT))
)


def load(loader: dalipipe.DataLoader, state: object) -> bool:
    """Return whether a loader takes a state; one that it refuses changes nothing."""
    before = loader.state_dict()
    try:
        loader.load_state_dict(state)
    except StateError as error:
        assert str(error).startswith("loader state: ") and "\n" not in str(error) and len(str(error)) < 1000
        assert loader.state_dict() == before
        return False
    return True


@given(changes=SPOILT, missing=st.sets(st.sampled_from(KEYS)))
@settings(max_examples=60)
def test_any_state_is_refused_or_gives_the_samples_that_it_names(loader, changes, missing):
    order, loader, good = loader
    state = {**copy.deepcopy(good), **changes}
    if len(missing) == 1:
        state = {key: value for key, value in state.items() if key not in missing}
    if not load(loader, state):
        return
    assert (loader.epoch, loader.seed) == (state["epoch"], state["seed"])
    try:
        got = labels_of(loader)
    except StateError as error:  # which only the sampler itself can tell
        assert "the sampler must give the order that it gave" in str(error) and "sampler" in order
        return
    assert set(got) <= set(range(COUNT)) and len(set(got)) == len(got)
    if order in ("in order", "shuffled", "skipping"):
        fresh = dalipipe.DataLoader(
            SOURCE,
            batch_size=3,
            shuffle=order == "shuffled",
            recipe=RECIPE,
            backend="torchvision",
            seed=state["seed"],
            num_threads=1,
        )
        with fresh:
            fresh.set_epoch(state["epoch"])
            bad = {row[0] for row in state.get("bad", []) if order == "skipping"}
            assert got == [label for label in labels_of(fresh)[state["position"] :] if label not in bad]


@given(state=JSON)
@settings(max_examples=40)
def test_any_json_is_refused(loader, state):
    assert not load(loader[1], state)


def test_the_state_itself_is_taken(loader):
    assert load(loader[1], loader[2])
    assert loader[1].state_dict() == loader[2]


@pytest.mark.parametrize(
    ("order", "change", "message"),
    [
        ("in order", {"position": COUNT + 1}, "position must be at most the 11 samples of an epoch, got 12."),
        ("in order", {"epoch": 2**32}, "epoch must be at most 4294967295, got 4294967296."),
        ("in order", {"seed": 2**64}, "seed must be at most 18446744073709551615, got 18446744073709551616."),
        ("in order", {"seed": 10**5000}, "seed must be at most 18446744073709551615, got int too long to show."),
        ("in order", {"epoch": True}, "epoch must be a whole number of at least 0, got True."),
        (
            "in order",
            {"order": {"epoch": 3}},
            "order must hold a seed and an epoch without a sampler, got {'epoch': 3}.",
        ),
        ("random sampler", {"order": {"epoch": 3}}, "order must hold generator, got ['epoch']."),
        ("random sampler", {"order": {"generator": "AAAA"}}, "order must hold the sampler's generator, got 'AAAA'."),
        ("global sampler", {"order": {"global": 7}}, "order must hold the sampler's global, got 7."),
        ("distributed sampler", {"order": {"epoch": "1"}}, "order must hold the sampler's epoch, got '1'."),
        ("random sampler", {"order": {"of": 1}}, "order must hold generator, got ['of']."),
        ("batch sampler", {"order": {"of": "1"}}, "order must hold the sampler's of, got '1'."),
        ("skipping", {"bad": [[COUNT, "", 0]]}, "bad must be a list of [position, reason, epoch], got [11, '', 0]."),
        ("skipping", {"bad": 10**5000}, "bad must be a list of [position, reason, epoch], got int too long to show."),
        ("batch sampler", {"order": {"x": 1}}, "order must hold nothing of the sampler, got ['x']."),
    ],
)
def test_what_a_state_says_of_its_place_is_checked(order, change, message):
    with make(order) as loader, pytest.raises(StateError) as caught:
        loader.load_state_dict({**loader.state_dict(), **change})
    assert message in str(caught.value)
