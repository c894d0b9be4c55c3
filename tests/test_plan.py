import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from scipy import stats

from dalipipe.decisions.randomness import ORDER_POSITION, SUBSTITUTE_POSITION, philox, uniforms

COUNTS = (22, 1, 0, 6)


# Known answers of philox4x32-10. Source: Random123, tests/kat_vectors.
KNOWN = [
    ("00000000 00000000 00000000 00000000", "00000000 00000000", "6627e8d5 e169c58d bc57ac4c 9b00dbd8"),
    ("ffffffff ffffffff ffffffff ffffffff", "ffffffff ffffffff", "408f276d 41c83b0e a20bc7c6 6d5451fd"),
    ("243f6a88 85a308d3 13198a2e 03707344", "a4093822 299f31d0", "d16cfe09 94fdcceb 5001e420 24126ea1"),
]


def words(text: str) -> list[int]:
    return [int(word, 16) for word in text.split()]


@pytest.mark.parametrize(("counter", "key", "answer"), KNOWN)
def test_philox_gives_the_published_answers(counter, key, answer):
    low, high = words(key)
    assert philox([words(counter)], low | (high << 32)).tolist() == [words(answer)]


def test_philox_gives_the_published_answers_in_arrays():
    assert philox([words(KNOWN[0][0])] * 3, 0).tolist() == [words(KNOWN[0][2])] * 3


def test_uniforms_are_philox_of_sample_occurrence_epoch_and_op():
    """The layout of the counter is what lets a later version, or another program, draw the same numbers."""
    drawn = uniforms(COUNTS, seed=(7 << 32) | 5, epoch=3, indices=[11], occurrences=[2])
    key = (7 << 32) | 5
    op_0_block_1 = philox([(11, 2, 3, (0 << 16) | 1)], key)[0]
    op_3_block_1 = philox([(11, 2, 3, (3 << 16) | 1)], key)[0]
    assert drawn[0, 4:8].tolist() == [int(word) / 2**32 for word in op_0_block_1]
    assert drawn[0, 27:29].tolist() == [int(word) / 2**32 for word in op_3_block_1[:2]]


def test_uniforms_have_a_column_for_every_draw():
    drawn = uniforms(COUNTS, 0, 0, np.arange(5))
    assert drawn.shape == (5, 29)
    assert drawn.dtype == np.float64
    assert drawn.flags.c_contiguous
    assert uniforms((), 0, 0, np.arange(5)).shape == (5, 0)
    assert uniforms((0, 0), 0, 0, np.arange(5)).shape == (5, 0)
    assert uniforms(COUNTS, 0, 0, []).shape == (0, 29)


@given(st.integers(0, 2**64 - 1), st.integers(0, 2**32 - 1), st.lists(st.integers(0, 2**32 - 1), max_size=4))
@settings(max_examples=50)
def test_uniforms_lie_in_zero_to_one(seed, epoch, indices):
    drawn = uniforms(COUNTS, seed, epoch, indices)
    assert ((drawn >= 0) & (drawn < 1)).all()
    assert (drawn * 2**32 == np.rint(drawn * 2**32)).all()


# Statistics. Seeds are fixed, so a test that passes once passes always.


@pytest.mark.parametrize(
    ("seed", "epoch", "first"), [(0, 0, 0), (1, 0, 0), (0, 1, 0), (2**63, 99, 10**6), (0, 2**32 - 1, 2**31)]
)
def test_uniforms_are_uniform(seed, epoch, first):
    drawn = uniforms(COUNTS, seed, epoch, first + np.arange(20_000))
    pvalues = [stats.kstest(column, "uniform").pvalue for column in drawn.T]
    assert min(pvalues) > 0.01 / len(pvalues)
    assert stats.kstest(pvalues, "uniform").pvalue > 0.001
    counts = np.histogram(drawn, bins=256, range=(0, 1))[0]
    assert stats.chisquare(counts).pvalue > 0.001


def test_draws_do_not_know_of_one_another():
    drawn = uniforms(COUNTS, 3, 1, np.arange(20_000))
    again = uniforms(COUNTS, 3, 2, np.arange(20_000))
    neighbours = np.concatenate([drawn, again, np.roll(drawn, 1, axis=0)], axis=1)
    correlation = np.corrcoef(neighbours.T) - np.eye(neighbours.shape[1])
    assert np.abs(correlation).max() < 5.2 / np.sqrt(20_000)
    pairs = np.histogram2d(drawn[:-1, 22], drawn[1:, 22], bins=16)[0]
    assert stats.chisquare(pairs.ravel()).pvalue > 0.001


# A decision belongs to the sample


@given(st.data())
@settings(max_examples=60)
def test_a_sample_draws_the_same_in_any_batch(data):
    count = data.draw(st.integers(1, 40))
    seed, epoch = data.draw(st.integers(0, 2**64 - 1)), data.draw(st.integers(0, 1000))
    whole = uniforms(COUNTS, seed, epoch, np.arange(count))
    order = np.array(data.draw(st.permutations(range(count))))
    cuts = sorted(data.draw(st.lists(st.integers(0, count), max_size=4)))
    for batch in np.split(order, cuts):
        np.testing.assert_array_equal(uniforms(COUNTS, seed, epoch, batch), whole[batch])


@given(st.lists(st.integers(0, 30), max_size=6), st.data())
@settings(max_examples=60)
def test_an_op_draws_by_its_position_whatever_the_others_draw(counts, data):
    """Giving another op more draws, or adding ops after it, leaves an op's decisions alone."""
    position = data.draw(st.integers(0, 5))
    others = data.draw(st.lists(st.integers(0, 30), min_size=position, max_size=position))
    alone = uniforms((*[0] * position, 6), 5, 0, np.arange(4))
    among = uniforms((*others, 6, *counts), 5, 0, np.arange(4))
    start = sum(others)
    np.testing.assert_array_equal(among[:, start : start + 6], alone)


def test_everything_that_should_changes_the_draws():
    base = {"counts": (4,), "seed": 1, "epoch": 1, "indices": np.arange(1000), "occurrences": np.zeros(1000, int)}
    other = [{"seed": 2}, {"seed": 1 + 2**32}, {"epoch": 2}, {"indices": 1000 + np.arange(1000)}]
    other += [{"occurrences": np.ones(1000, int)}, {"indices": np.arange(1000)[::-1]}]
    drawn = [uniforms(**{**base, **change}) for change in ({}, *other)]
    drawn += [uniforms((4, 4), 1, 1, np.arange(1000))[:, 4:]]
    for one in range(len(drawn)):
        for two in range(one):
            assert (drawn[one] == drawn[two]).mean() < 0.001


def test_occurrences_may_be_one_number():
    np.testing.assert_array_equal(uniforms((2,), 0, 0, [4, 5], 3), uniforms((2,), 0, 0, [4, 5], [3, 3]))


def test_the_order_is_not_a_decision_of_any_op():
    assert ORDER_POSITION != SUBSTITUTE_POSITION
    assert min(ORDER_POSITION, SUBSTITUTE_POSITION) > 60_000
