"""The order of an epoch is a random permutation, as far as statistics can tell, and is never listed."""

import math

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from scipy import stats

from dalipipe.decisions.permutation import Permutation, permutation

LENGTHS = [1, 2, 3, 4, 5, 7, 8, 9, 13, 15, 16, 17, 31, 32, 33, 97, 255, 256, 257, 1009, 1023, 1024, 1025, 65535, 65537]
FAR = 0.0005  # less likely than that is taken for an error: some hundred are asked, of fixed seeds


@pytest.mark.parametrize("length", [0, *LENGTHS])
def test_every_sample_comes_once(length):
    order = permutation(length, 2**64 - 1, 2**32 - 1)
    assert order.dtype == np.int64
    np.testing.assert_array_equal(np.sort(order), np.arange(length))


@given(st.integers(1, 2**32), st.integers(0, 2**64 - 1), st.integers(0, 2**32 - 1), st.data())
@settings(max_examples=60)
def test_places_can_be_asked_for_in_any_order(length, seed, epoch, data):
    places = data.draw(st.lists(st.integers(0, length - 1), min_size=1, max_size=20, unique=True))
    order = Permutation(length, seed, epoch)
    found = order.at(places).tolist()
    assert len(set(found)) == len(places) and 0 <= min(found) <= max(found) < length
    assert found == [int(order.at([place])[0]) for place in places]


@pytest.mark.parametrize("length", [1_281_167, 10**9, 2**32])
def test_a_part_of_a_long_order_is_spread_over_all_of_it(length):
    for places in (np.arange(20_000), np.arange(length - 20_000, length), np.arange(20_000) * (length // 20_000)):
        found = Permutation(length, 3, 0).at(places)
        assert len(np.unique(found)) == 20_000
        assert stats.kstest(found / length, "uniform").pvalue > FAR
        assert stats.chisquare(np.bincount(found % 64, minlength=64)).pvalue > FAR
        assert abs(stats.spearmanr(places, found).statistic) < 0.03
        assert abs(stats.spearmanr(found[:-1], found[1:]).statistic) < 0.03


def orders(length, count, seed=9):
    return np.stack([permutation(length, seed, epoch) for epoch in range(count)])


@pytest.mark.parametrize("length", [2, 3, 4, 5])
def test_every_order_of_a_few_is_equally_likely(length):
    count = max(400, 12 * math.factorial(length))
    codes = orders(length, count) @ length ** np.arange(length)
    _, counts = np.unique(codes, return_counts=True)
    assert len(counts) == math.factorial(length)
    assert stats.chisquare(counts).pvalue > FAR


@pytest.mark.parametrize("length", [7, 8, 9, 13, 16, 17, 31, 64])
def test_over_epochs_a_sample_comes_anywhere_and_beside_any_other(length):
    found = orders(length, 800)
    at = [[np.bincount(found[:, place], minlength=length)] for place in (0, length // 2, length - 1)]
    places = [np.bincount(np.argmax(found == sample, axis=1), minlength=length) for sample in (0, length - 1)]
    steps = np.bincount(((found[:, 1:] - found[:, :-1]) % length).ravel(), minlength=length)[1:]
    for counts in (*np.concatenate(at), *places, steps):
        assert stats.chisquare(counts).pvalue > FAR
    fixed = (found == np.arange(length)).sum(axis=1)  # 1 on average, whatever the length, with a variance of 1
    assert abs(fixed.mean() - 1) < 4 / math.sqrt(len(found))
    odd = sum(is_odd(order) for order in found.tolist())
    assert stats.binomtest(odd, len(found)).pvalue > FAR


def is_odd(order):
    """Return whether an order takes an odd number of exchanges."""
    left, cycles = set(range(len(order))), 0
    while left:
        cycles, place = cycles + 1, left.pop()
        while (place := order[place]) in left:
            left.discard(place)
    return (len(order) - cycles) % 2 == 1


@pytest.mark.parametrize("length", [97, 1024, 1025])
def test_epochs_and_seeds_have_nothing_in_common(length):
    found = [permutation(length, seed, epoch) for seed in (0, 1, 2**40, 2**64 - 1) for epoch in (0, 1, 2)]
    alike = [
        (abs(stats.spearmanr(one, other).statistic), (one == other).sum())
        for number, one in enumerate(found)
        for other in found[:number]
    ]
    assert max(rank for rank, _ in alike) < 4.5 / math.sqrt(length)
    assert max(same for _, same in alike) <= 7


def test_the_statistics_can_tell():
    """Of a network of few rounds they find that it is none."""
    from unittest.mock import patch

    with patch("dalipipe.decisions.permutation.ROUNDS", 4), pytest.raises(AssertionError):
        test_every_order_of_a_few_is_equally_likely(5)
