"""A loader that goes back to where it was: after any batch, under another batch size, with any sampler."""

import json

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from torch.utils.data import BatchSampler, DistributedSampler, RandomSampler, SubsetRandomSampler, WeightedRandomSampler

import dalipipe
from dalipipe.backends import BACKENDS
from dalipipe.errors import StateError
from dalipipe.sources import ArraySource

CPU = [name for name in BACKENDS if name != "dali-gpu"]
COUNT = 13
RECIPE = dalipipe.Recipe.from_toml("""
ops = [
    { op = "RandomCrop", size = [5, 7], padding = 2 },
    { op = "RandomHorizontalFlip" },
    { op = "ToDtype", scale = true },
]
""")
SOURCE = ArraySource(
    np.random.default_rng(0).integers(0, 256, (COUNT, 5, 7, 3), dtype=np.uint8),
    np.arange(COUNT),
    [str(i) for i in range(COUNT)],
)


def make(batch_size=3, **options):
    options = {"backend": "dali-cpu", "shuffle": True, "seed": 4, **options}
    return dalipipe.DataLoader(SOURCE, batch_size, num_threads=1, recipe=RECIPE, **options)


def samples(batches):
    """Return {label: pixels} of some batches, by label: what was decided for each sample."""
    return {int(label): image for images, labels in batches for image, label in zip(images, labels, strict=True)}


def same(a, b):
    return a.keys() == b.keys() and all(torch.equal(a[key], b[key]) for key in a)


@pytest.mark.parametrize("backend", CPU)
def test_what_is_left_is_bit_identical(backend):
    whole = make(backend=backend)
    wanted = list(whole) + list(whole)
    for taken in range(len(wanted) + 1):
        first = make(backend=backend)
        for _ in range(taken // len(first)):
            assert len(list(first)) == len(first)
        iterator = iter(first)
        for _ in range(taken % len(first)):
            next(iterator)
        state = json.loads(json.dumps(first.state_dict()))
        second = make(backend=backend)
        second.load_state_dict(state)
        rest = list(second) + list(second)
        for (images, labels), (wanted_images, wanted_labels) in zip(rest, wanted[taken:], strict=False):
            assert torch.equal(images, wanted_images) and torch.equal(labels, wanted_labels)


@given(st.integers(1, 15), st.integers(0, 15), st.integers(1, 15), st.booleans(), st.integers(0, 3))
@settings(max_examples=25)
def test_another_batch_size_gives_exactly_the_remaining_samples(size, taken, new_size, shuffle, epoch):
    with make(size, shuffle=shuffle) as first, make(new_size, shuffle=shuffle) as second:
        first.set_epoch(epoch)
        wanted = samples(first)
        first.set_epoch(epoch)
        iterator = iter(first)
        before = samples(batch for _, batch in zip(range(min(taken, len(first))), iterator, strict=False))
        second.load_state_dict(first.state_dict())
        after = samples(second)
        iterator.close()
        assert not before.keys() & after.keys()
        assert same(before | after, wanted)


def test_prefetched_batches_do_not_count():
    loader = make(2, prefetch=5)
    iterator = iter(loader)
    next(iterator)
    assert loader.state_dict()["position"] == 2
    iterator.close()
    assert loader.state_dict()["position"] == 2


def test_the_seed_comes_with_the_state():
    first, second = make(seed=4), make(seed=5)
    iterator = iter(first)
    next(iterator)
    second.load_state_dict(first.state_dict())
    assert same(samples(second), samples(iterator))


SAMPLERS = {
    "random": lambda: RandomSampler(SOURCE, generator=torch.Generator().manual_seed(8)),
    "global": lambda: RandomSampler(SOURCE),
    "subset": lambda: SubsetRandomSampler([1, 4, 7, 8, 9, 12], generator=torch.Generator().manual_seed(8)),
    "weighted": lambda: WeightedRandomSampler([1.0] * COUNT, 20, generator=torch.Generator().manual_seed(8)),
    "distributed": lambda: DistributedSampler(SOURCE, num_replicas=2, rank=1, seed=3),
}


@pytest.mark.parametrize("kind", SAMPLERS)
def test_a_sampler_goes_on_where_it_was(kind):
    first = make(shuffle=None, sampler=SAMPLERS[kind]())
    list(first)
    iterator = iter(first)
    next(iterator)
    state = json.loads(json.dumps(first.state_dict()))
    wanted = list(iterator)
    torch.manual_seed(99)
    second = make(shuffle=None, sampler=SAMPLERS[kind]())
    second.load_state_dict(state)
    got = list(second)
    assert len(got) == len(wanted) > 0
    for (images, labels), (wanted_images, wanted_labels) in zip(got, wanted, strict=True):
        assert torch.equal(images, wanted_images) and torch.equal(labels, wanted_labels)


@pytest.mark.parametrize("kind", ["random", "subset", "weighted"])
def test_at_the_end_of_an_epoch_a_sampler_goes_on_with_the_next(kind):
    def labels(loader):
        return [batch.tolist() for _, batch in loader]

    first, second = (make(shuffle=None, sampler=SAMPLERS[kind]()) for _ in range(2))
    done = labels(first)
    second.load_state_dict(first.state_dict())
    third = make(shuffle=None, sampler=SAMPLERS[kind]())
    third.load_state_dict(second.state_dict())  # of a loader that has not yet begun again
    wanted = labels(first)
    assert labels(second) == labels(third) == wanted != done


def test_a_batch_sampler_goes_on_where_it_was():
    def loader():
        sampler = RandomSampler(SOURCE, generator=torch.Generator().manual_seed(8))
        return make(1, shuffle=None, batch_sampler=BatchSampler(sampler, 4, drop_last=False))

    first, second = loader(), loader()
    iterator = iter(first)
    next(iterator)
    second.load_state_dict(first.state_dict())
    assert [labels.tolist() for _, labels in second] == [labels.tolist() for _, labels in iterator]


def test_single_samples_go_on_where_they_were():
    first, second = make(None), make(None)
    iterator = iter(first)
    before = [label for _, (_, label) in zip(range(5), iterator, strict=False)]
    second.load_state_dict(first.state_dict())
    after = [label for _, label in second]
    assert sorted(before + after) == list(range(COUNT)) and len(before) == 5


def test_the_state_is_small():
    assert len(json.dumps(make().state_dict())) < 1024


class Many:
    """As many samples as nobody could list."""

    classes, labels = ("a",), np.broadcast_to(np.zeros(1, np.int64), 2**27)

    def __len__(self):
        return 2**27

    def item(self, index):
        return np.full((5, 7, 3), index % 251, np.uint8)

    def fingerprint(self):
        return "0123456789abcdef"


@pytest.mark.parametrize("shuffle", [True, False])
def test_a_hundred_million_samples_are_gone_through_and_resumed(shuffle):
    def loader(size, **options):
        return dalipipe.DataLoader(Many(), size, shuffle=shuffle, seed=4, recipe=RECIPE, backend="torchvision",
                                   num_threads=1, **options)  # fmt: skip

    def indices(batches, count):
        return [index for _, batch in zip(range(count), batches, strict=False) for index in batch.indices.tolist()]

    first, second = loader(8, rank=1, world_size=4), loader(8)
    iterator = iter(first)
    next(iterator), next(iterator)
    state = json.loads(json.dumps(first.state_dict()))
    assert len(json.dumps(state)) < 1024 and state["position"] == 64
    second.load_state_dict({**state, "position": 2**26})
    next(iter(second))
    assert second.last_indices.tolist() == indices(second.batches(0, 2**26), 1)
    wanted = indices(second.batches(0), 12)
    assert len(set(wanted)) == 96 and (wanted == list(range(96))) is not shuffle
    assert indices(first.batches(0), 3) == wanted[8:16] + wanted[40:48] + wanted[72:80]
    assert len(indices(first.batches(0, 2**27 - 8), 9)) == 2, "of the 8 that are left, as each of 4 ranks"


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ({"length": 5}, "another number of samples"),
        ({"data": "0" * 16}, "another data set"),
        ({"recipe": "0" * 16}, "another recipe"),
        ({"shuffle": False}, "another shuffle"),
        ({"version": 99}, "version must be 2, got 99"),
        ({"version": 1}, "version must be 2, got 1, whose epochs had other orders"),
        ({"position": -1}, "position must be"),
        ({"epoch": "1"}, "epoch must be"),
        ({"order": None}, "order must be"),
    ],
)
def test_a_state_of_something_else_is_refused(change, message):
    loader = make()
    with pytest.raises(StateError, match=message):
        loader.load_state_dict({**loader.state_dict(), **change})
    with pytest.raises(StateError, match="version must be"):
        loader.load_state_dict([])


@given(
    st.recursive(
        st.none() | st.booleans() | st.integers() | st.text(), lambda x: st.lists(x) | st.dictionaries(st.text(), x)
    )
)
def test_no_json_does_worse_than_a_state_error(value):
    with pytest.raises(StateError):
        _LOADER.load_state_dict(value)


_LOADER = make()
