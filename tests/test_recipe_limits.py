"""Recipes that could never work are refused when they are read, soon, and in one line."""

import pytest
from torchvision import transforms

from dalipipe.errors import RecipeError
from dalipipe.recipes import Recipe
from dalipipe.recipes.reading import MOST_OPS

FLIP = '{op = "RandomHorizontalFlip"}'
CROP = '[[ops]]\nop = "CenterCrop"\nsize = 8\n'


def nested(kind, deep):
    inner = FLIP
    for _ in range(deep):
        inner = f'{{op = "{kind}", ops = [{inner}]}}'
    return f"ops = [{inner}]"


@pytest.mark.parametrize("deep", [10, 64, 70, 150, 1500])
@pytest.mark.parametrize("kind", ["RandomApply", "RandomChoice"])
def test_ops_that_stand_in_one_another_too_deep_are_refused(kind, deep):
    with pytest.raises(RecipeError, match="deep") as got:
        Recipe.from_toml(nested(kind, deep))
    assert "\n" not in str(got.value) and len(str(got.value)) < 2500


def chain(wrap, deep):
    inner = transforms.RandomHorizontalFlip()
    for _ in range(deep):
        inner = wrap(inner)
    return transforms.Compose([transforms.Resize((8, 8)), inner, transforms.ToTensor()])


@pytest.mark.parametrize("deep", [70, 1500])
@pytest.mark.parametrize(
    "wrap",
    [
        lambda inner: transforms.Compose([inner]),
        lambda inner: transforms.RandomApply([inner]),
        lambda inner: transforms.RandomChoice([inner]),
        lambda inner: transforms.RandomApply([transforms.Compose([inner])]),
    ],
    ids=["Compose", "RandomApply", "RandomChoice", "both"],
)
def test_transforms_that_stand_in_one_another_too_deep_are_refused(wrap, deep):
    with pytest.raises(RecipeError, match="deep"):
        Recipe.from_torchvision(chain(wrap, deep))


def test_more_ops_than_there_may_be_are_refused():
    ops = f"ops = [{', '.join([FLIP] * (MOST_OPS + 1))}]"
    with pytest.raises(RecipeError, match=r"may have 4,096 ops, got 4,097"):
        Recipe.from_toml(ops)
    with pytest.raises(RecipeError, match=r"may have 4,096 ops, got 4,097"):
        Recipe.from_toml(f'ops = [{{op = "RandomChoice", {ops}}}]')
    with pytest.raises(RecipeError, match="may have 4,096 ops"):
        Recipe.from_torchvision(
            transforms.Compose([transforms.RandomHorizontalFlip()] * 5000 + [transforms.ToTensor()])
        )


@pytest.mark.parametrize(
    "op",
    [
        'op = "Resize"\nsize = [65535, 65535]',
        'op = "Resize"\nsize = 65535',
        'op = "RandomResizedCrop"\nsize = 60000',
        'op = "CenterCrop"\nsize = 60000',
        'op = "RandomCrop"\nsize = 60000\npad_if_needed = true',
    ],
)
@pytest.mark.parametrize("after", ["", CROP])
def test_images_that_can_not_fit_in_memory_are_refused(op, after):
    with pytest.raises(RecipeError, match=r"op 1: \w+: makes images of at least \d+ x \d+ px, more than the limit"):
        Recipe.from_toml(f"[[ops]]\n{op}\n{after}")
