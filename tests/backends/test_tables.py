"""The tables of the backends: what each has, and that what one lacks is refused when the recipe is compiled."""

import pytest

from dalipipe.backends import BACKENDS, compile_recipe, describe_step
from dalipipe.backends.base import Job
from dalipipe.errors import BackendError
from dalipipe.recipes import Recipe, ops
from dalipipe.recipes.ops import OPS
from dalipipe.recipes.primitives import DECLARED, Primitive
from dalipipe.sources import ArraySource

CPU = [name for name in BACKENDS if name != "dali-gpu"]
PLAIN = [name for name, model in OPS.items() if model.stage == "pixels" and not issubclass(model, ops.Container)]


def test_every_primitive_is_declared():
    assert set(DECLARED) == set(Primitive) - {Primitive.NOTHING}


@pytest.mark.parametrize("name", PLAIN)
def test_every_op_on_pixels_says_what_it_becomes_and_by_which_rule(name):
    assert OPS[name].primitives and OPS[name].rule is not None


@pytest.mark.parametrize("backend", BACKENDS)
@pytest.mark.parametrize("name", OPS)
def test_every_backend_has_every_op(backend, name):
    assert BACKENDS[backend].has(OPS[name])


@pytest.mark.parametrize("backend", CPU)
@pytest.mark.parametrize("held", [False, True])
def test_what_a_backend_lacks_is_refused_by_name_when_the_recipe_is_compiled(backend, held, monkeypatch):
    monkeypatch.delitem(BACKENDS[backend].table(), Primitive.AFFINE)
    rotation = ops.RandomRotation(degrees=3)
    recipe = Recipe(name="test", ops=(ops.CenterCrop(size=9), ops.RandomApply(ops=(rotation,)) if held else rotation))
    source = ArraySource([], [])
    with pytest.raises(BackendError) as caught:
        compile_recipe(Job(source, recipe), backend)
    begin = f"{backend}: can't do RandomRotation: there is no AFFINE. It has: RandomResizedCrop, "
    assert str(caught.value).startswith(begin)
    assert str(caught.value).endswith('Use backend "dali-cpu" or "torchvision".')
    assert "RandomAffine" not in str(caught.value) and "RandAugment" not in str(caught.value)


@pytest.mark.parametrize("backend", CPU)
def test_what_stands_in_for_a_primitive_on_grey_images_must_be_there_too(backend, monkeypatch):
    monkeypatch.delitem(BACKENDS[backend].table(), Primitive.CONTRAST_GREY)
    assert BACKENDS[backend].lacks(ops.ColorJitter(contrast=0.1)) == [Primitive.CONTRAST_GREY]
    assert not BACKENDS[backend].lacks(ops.ColorJitter(brightness=0.1))


def test_a_step_shows_what_its_arguments_leave_of_an_op():
    recipe = Recipe(name="test", ops=(ops.CenterCrop(size=9), ops.ColorJitter(hue=0.1), ops.Normalize(mean=0, std=1)))
    assert describe_step(recipe, "torchvision") == [
        "v2.functional.pad + crop",
        "v2.functional.adjust_hue",
        "v2.functional.normalize",
    ]
    assert describe_step(recipe, "dali-cpu") == ["view, or copy kernel where it pads", "colour kernel", "last kernel"]
    assert describe_step(recipe, "dali-gpu") == ["fn.slice", "fn.arithmetic", "fn.crop_mirror_normalize"]


def test_what_several_primitives_need_is_shown_once():
    jitter = ops.RandomApply(ops=(ops.ColorJitter(brightness=0.1, contrast=0.1, hue=0.1),))
    recipe = Recipe(name="test", ops=(jitter, ops.CenterCrop(size=9)))
    assert describe_step(recipe, "dali-gpu")[0] == "fn.split, arithmetic, reductions, merge"
    assert describe_step(recipe, "dali-cpu")[1] == "view, or copy kernel where it pads"
