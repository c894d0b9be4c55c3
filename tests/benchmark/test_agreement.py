import numpy as np
import pytest

from dalipipe.benchmark.agreement import Sample, compare, compare_loosely
from dalipipe.recipes import Recipe

RECIPE = Recipe.load("imagenet-train")


def normalised(levels):
    mean, std = (np.array(part).reshape(3, 1, 1) for part in RECIPE.levels)
    return ((levels - mean) / std).astype(np.float32)


@pytest.fixture
def levels(make_image):
    return np.stack([make_image(31, 47, seed=seed).transpose(2, 0, 1) for seed in range(6)]).astype(np.float64)


def sample(levels, labels=range(6)):
    return Sample(normalised(levels), np.array(labels, dtype=np.int64))


def test_the_same_pictures_agree(levels):
    found = compare(sample(levels), sample(levels), RECIPE)
    assert found.ok
    assert found.max_abs < 1e-3


def test_differences_are_counted_in_levels(levels):
    found = compare(sample(levels + 0.5), sample(levels), RECIPE)
    assert found.ok
    assert found.mean_abs == pytest.approx(0.5, abs=1e-4)


def test_pictures_two_levels_brighter_are_refused(levels):
    found = compare(sample(levels + 2), sample(levels), RECIPE)
    assert not found.ok
    assert found.because == "pixels differ by 2.0 levels on average"


@pytest.mark.parametrize(
    "change",
    [lambda images: images[..., ::-1], lambda images: np.roll(images, 1, axis=-1), lambda images: images[:, ::-1]],
    ids=["mirrored", "one px aside", "BGR"],
)
def test_a_wrong_picture_is_refused(levels, change):
    assert not compare(sample(change(levels)), sample(levels), RECIPE).ok


def test_one_wrong_picture_does_not_drown_among_right_ones(levels):
    many, wrong = np.tile(levels, (10, 1, 1, 1)), np.tile(levels, (10, 1, 1, 1))
    wrong[7] += 30
    labels = range(60)
    found = compare(sample(wrong, labels), sample(many, labels), RECIPE)
    assert found.mean_abs < 1
    assert not found.ok
    assert found.because == "one image differs by 30.0 levels on average"


@pytest.mark.parametrize("check", [compare, compare_loosely])
def test_other_labels_shapes_and_types_are_refused(levels, check):
    right = sample(levels)
    others = {
        "labels": sample(levels, [0, 1, 2, 3, 5, 4]),
        "batches are": sample(levels[..., :-1]),
        "float16": Sample(right.images.astype(np.float16), right.labels),
    }
    for problem, other in others.items():
        found = check(other, right, RECIPE)
        assert problem in (found if isinstance(found, str) else found.because)


def test_not_a_number_is_no_agreement(levels):
    broken = levels.copy()
    broken[2, 1, 5, 5] = np.nan
    assert not compare(sample(broken), sample(levels), RECIPE).ok
    assert compare_loosely(sample(broken), sample(levels), RECIPE)


def test_other_random_decisions_pass_and_a_forgotten_normalisation_does_not(levels):
    assert compare_loosely(sample(levels[..., ::-1]), sample(levels), RECIPE) == ""
    raw = Sample((levels / 255).astype(np.float32), np.arange(6))
    assert "of a channel differs" in compare_loosely(raw, sample(levels), RECIPE)
    dark = compare_loosely(sample(levels - 20), sample(levels), RECIPE)
    assert dark == "the mean of a channel differs by 20 levels"


def test_a_recipe_that_gives_levels_is_compared_as_it_is():
    recipe = Recipe.from_toml('[[ops]]\nop = "CenterCrop"\nsize = 8')
    images = np.full((2, 3, 8, 8), 100, dtype=np.uint8)
    labels = np.zeros(2, dtype=np.int64)
    assert compare(Sample(images, labels), Sample(images + 1, labels), recipe).mean_abs == 1.0
    assert not compare(Sample(images, labels), Sample(images + 2, labels), recipe).ok
