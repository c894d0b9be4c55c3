import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from dalipipe.sampling import batched

ORDERS = st.lists(st.integers(0, 50), max_size=60)


@given(ORDERS, st.integers(1, 70), st.booleans())
@settings(max_examples=100)
def test_batches_keep_the_order_and_lose_nothing(order, batch_size, drop_last):
    batches = list(batched(order, batch_size, epoch=3, drop_last=drop_last))
    indices = [index for batch in batches for index in batch.indices.tolist()]
    kept = len(order) - len(order) % batch_size if drop_last else len(order)
    assert indices == order[:kept]
    assert all(len(batch) == batch_size for batch in batches[:-1])
    assert all(0 < len(batch) <= batch_size for batch in batches)
    assert {batch.epoch for batch in batches} <= {3}


@given(ORDERS, st.integers(1, 7))
@settings(max_examples=60)
def test_a_sample_that_comes_again_has_the_next_occurrence(order, batch_size):
    seen: dict[int, int] = {}
    for batch in batched(order, batch_size, epoch=0, drop_last=False):
        for index, occurrence in zip(batch.indices.tolist(), batch.occurrences.tolist(), strict=True):
            assert occurrence == seen.get(index, 0)
            seen[index] = occurrence + 1


def test_batches_are_made_as_they_are_asked_for():
    taken = []

    def order():
        for index in range(100):
            taken.append(index)
            yield index

    batches = batched(order(), 3, epoch=0, drop_last=False)
    next(batches)
    assert taken == [0, 1, 2]


def test_indices_of_any_integer_type_are_taken():
    batches = list(batched(np.array([3, 1, 2], dtype=np.uint8), 2, epoch=0, drop_last=False))
    assert [batch.indices.dtype for batch in batches] == [np.int64, np.int64]
    assert [batch.indices.tolist() for batch in batches] == [[3, 1], [2]]


@pytest.mark.parametrize("keep", [[True, False, True], [False] * 3])
def test_a_selection_keeps_epoch_and_occurrences(keep):
    (batch,) = batched([4, 4, 7], 3, epoch=5, drop_last=False)
    some = batch.select(np.array(keep))
    assert some.epoch == 5
    assert some.indices.tolist() == [4, 7][: sum(keep)]
    assert some.occurrences.tolist() == [0, 0][: sum(keep)]
    assert len(some) == sum(keep)


def test_a_batch_can_not_be_changed():
    (batch,) = batched([1, 2], 2, epoch=0, drop_last=False)
    with pytest.raises(AttributeError):
        batch.epoch = 2
