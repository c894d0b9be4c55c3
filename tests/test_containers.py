"""RandomApply and RandomChoice: what they hold, done for the samples that are drawn."""

import numpy as np
import pytest
from scipy import stats

from dalipipe.decisions import randomness
from dalipipe.decisions.program import program
from dalipipe.errors import RecipeError
from dalipipe.recipes import Recipe, ops
from dalipipe.recipes.primitives import DO, IN_H, OUT_H, Primitive

FLIP, TURN = ops.RandomHorizontalFlip(p=1), ops.RandomRotation(degrees=(5, 30))
DRAWS = 3000


def records_of(op, height=17, width=11, samples=DRAWS):
    """(samples, steps, RECORD): what is decided for each sample."""
    steps = program(Recipe(name="test", ops=(op,)))
    drawn = randomness.uniforms(steps.counts, 0, 0, np.arange(samples))
    return drawn, np.stack([steps.resolve(row, height, width)[0] for row in drawn])


def as_likely(acted, p):
    return stats.binomtest(int(acted.sum()), len(acted), p).pvalue > 0.001


def test_all_inner_ops_are_done_or_none():
    _, records = records_of(ops.RandomApply(ops=(FLIP, TURN), p=0.3))
    acted = records[:, :, DO] != Primitive.NOTHING
    assert (acted[:, 0] == acted[:, 1]).all()
    assert as_likely(acted[:, 0], 0.3)


@pytest.mark.parametrize(("weights", "shares"), [(None, (1 / 3,) * 3), ((1, 0, 4), (0.2, 0, 0.8))])
def test_one_inner_op_is_done_as_often_as_its_weight_says(weights, shares):
    choices = (FLIP, TURN, ops.RandomVerticalFlip(p=1))
    _, records = records_of(ops.RandomChoice(ops=choices, p=weights))
    acted = records[:, :, DO] != Primitive.NOTHING
    assert (acted.sum(axis=1) == 1).all()
    for column, share in zip(acted.T, shares, strict=True):
        assert as_likely(column, share)


def test_what_is_done_is_what_the_inner_op_decides_by_itself():
    """An inner op has its own uniforms: what it decides has nothing to do with whether it is chosen."""
    drawn, records = records_of(ops.RandomApply(ops=(TURN, ops.RandomApply(ops=(TURN,)))), samples=64)
    alone = program(Recipe(name="test", ops=(TURN,)))
    for uniforms, rows in zip(drawn, records, strict=True):
        for row, own in zip(rows, (uniforms[1:2], uniforms[3:4]), strict=True):
            if row[DO]:
                np.testing.assert_array_equal(row, alone.resolve(own, 17, 11)[0][0])
    acted = records[:, :, DO] != Primitive.NOTHING
    assert not (acted[:, 1] & ~acted[:, 0]).any()
    assert 0 < acted[:, 1].sum() < acted[:, 0].sum()


def test_never_and_always():
    assert not records_of(ops.RandomApply(ops=(FLIP,), p=0.0))[1][:, :, DO].any()
    assert (records_of(ops.RandomApply(ops=(FLIP,), p=1.0))[1][:, :, DO] == Primitive.FLIP).all()


def test_a_size_is_left_where_the_op_is_left_out():
    _, records = records_of(ops.RandomApply(ops=(ops.CenterCrop(size=9), ops.Resize(size=(5, 7)))), samples=64)
    for first, second in records:
        assert second[IN_H] == first[OUT_H] == (9 if first[DO] else 17)
        assert second[OUT_H] == (5 if first[DO] else 17)


def test_the_size_is_known_where_every_way_leads_to_it():
    crops = (ops.RandomCrop(size=(9, 7)), ops.Resize(size=(9, 7)))
    known, unknown = ops.ImageSpec(31, 37), ops.ImageSpec()
    assert ops.RandomChoice(ops=crops).check(unknown).height == 9
    assert ops.RandomApply(ops=(FLIP,)).check(known) == known
    assert ops.RandomApply(ops=crops[:1], p=1.0).check(unknown).width == 7
    assert ops.RandomApply(ops=crops[:1]).check(known).height is None
    with pytest.raises(RecipeError, match="images of different sizes could not be batched"):
        Recipe(name="test", ops=(ops.RandomApply(ops=crops[:1]),)).shapes()


def toml(*lines):
    return '[[ops]]\nop = "Resize"\nsize = [9, 9]\n' + "\n".join(lines)


@pytest.mark.parametrize(
    ("lines", "message"),
    [
        (('[[ops]]\nop = "RandomApply"',), r"op 2 \(RandomApply\): ops is missing"),
        (('[[ops]]\nop = "RandomApply"', "ops = []"), "ops: tuple should have at least 1 item"),
        (('[[ops]]\nop = "RandomApply"', "ops = 3"), "ops"),
        (('[[ops]]\nop = "RandomApply"', '[[ops.ops]]\nop = "RandomFlip"'), r"\(RandomApply\): op 1: unknown op"),
        (
            ('[[ops]]\nop = "RandomApply"', '[[ops.ops]]\nop = "RandomRotation"', "degrees = -3"),
            r"op 2 \(RandomApply\): op 1 \(RandomRotation\): degrees",
        ),
        (
            ('[[ops]]\nop = "RandomApply"', '[[ops.ops]]\nop = "ToDtype"'),
            "op 1 must be one on uint8 pixels, got ToDtype",
        ),
        (
            ('[[ops]]\nop = "RandomApply"', '[[ops.ops]]\nop = "Lowercase"'),
            "Lowercase is an op for sentences, and this is a recipe for images",
        ),
        (
            ('[[ops]]\nop = "RandomChoice"', "p = [1, 2]", '[[ops.ops]]\nop = "RandomHorizontalFlip"'),
            "p must be a weight >= 0 for each of the 1 ops",
        ),
    ],
)
def test_what_cannot_be_chosen_is_refused(lines, message):
    with pytest.raises(RecipeError, match=message):
        Recipe.from_toml(toml(*lines))


def test_containers_too_deep_are_refused():
    op = FLIP
    for _ in range(3):
        op = ops.RandomApply(ops=(op,))
    with pytest.raises(ValueError, match="3 deep, got 4"):
        ops.RandomApply(ops=(op,))
