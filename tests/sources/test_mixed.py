"""Several sources by weight: drawn by seed and epoch alone, exactly resumable, the same on any number of ranks."""

from collections import Counter

import numpy as np
import pytest
import torch

import dalipipe
from dalipipe.sources import ArraySource, MixedSource

RECIPE = dalipipe.Recipe.from_toml('name = "one"\n[[ops]]\nop = "CenterCrop"\nsize = 1\n')


def part(first, count):
    """Return a source of images of one px whose level is their number."""
    pixels = np.arange(first, first + count, dtype=np.uint8)[:, None, None, None].repeat(3, axis=3)
    return ArraySource(pixels, np.arange(count) % 2, ("even", "odd"))


def mixed(weights=None):
    return MixedSource({"a": part(0, 40), "b": part(100, 10)}, weights)


def numbers(loader):
    return [number for images, _ in loader for number in images[:, 0, 0, 0].tolist()]


def ours(source, batch_size=7, **more):
    return dalipipe.DataLoader(
        source,
        batch_size,
        recipe=RECIPE,
        seed=4,
        **{"shuffle": True, "backend": "torchvision", "num_threads": 1, **more},
    )


def test_each_source_comes_as_often_as_its_weight_says():
    drawn = Counter()
    source = mixed({"a": 1, "b": 3})
    for epoch in range(80):
        order = source.order(9, epoch, True)
        assert len(order) == len(source) == 50
        drawn.update((order >= 40).tolist())
    assert abs(drawn[True] / 4000 - 0.75) < 0.03
    assert source.weights == (0.25, 0.75) and mixed().weights == (0.5, 0.5)


def test_no_sample_comes_again_before_all_of_its_source_have_come():
    order = mixed({"a": 1, "b": 3}).order(9, 0, True)
    small = order[order >= 40]
    assert len(small) > 20
    for first in range(0, len(small) - 9, 10):
        assert sorted(small[first : first + 10].tolist()) == list(range(40, 50))
    assert small[:10].tolist() != small[10:20].tolist()
    in_order = mixed().order(9, 0, False)
    assert in_order[in_order < 40].tolist() == list(range(int((in_order < 40).sum())))


@pytest.mark.parametrize("shuffle", [True, False])
def test_an_epoch_depends_on_seed_and_number_alone_and_goes_on_where_it_was_left(shuffle):
    every = numbers(ours(mixed(), shuffle=shuffle))
    assert every == numbers(ours(mixed(), 50, shuffle=shuffle)) and len(every) == 50
    loader = ours(mixed(), shuffle=shuffle)
    batches = iter(loader)
    for _ in range(3):
        next(batches)
    other = ours(mixed(), 5, shuffle=shuffle)
    other.load_state_dict(loader.state_dict())
    assert numbers(other) == every[21:]
    assert numbers(other) != every
    ranks = [numbers(ours(mixed(), 5, shuffle=shuffle, rank=rank, world_size=2)) for rank in range(2)]
    assert sorted(ranks[0] + ranks[1]) == sorted(every)
    with pytest.raises(dalipipe.StateError, match="another data set"):
        ours(mixed({"a": 1, "b": 2}), shuffle=shuffle).load_state_dict(loader.state_dict())


def test_what_comes_again_is_augmented_anew():
    flips = dalipipe.Recipe.from_toml(
        'name = "noise"\n[[ops]]\nop = "RandomResizedCrop"\nsize = 4\n[[ops]]\nop = "ColorJitter"\nbrightness = 0.9\n'
    )
    one = ArraySource(np.full((1, 6, 6, 3), 100, np.uint8), [0], ("x",))
    many = ArraySource(np.full((30, 6, 6, 3), 0, np.uint8), [0] * 30, ("x",))
    loader = dalipipe.DataLoader(
        MixedSource({"one": one, "many": many}), 31, recipe=flips, seed=1, num_threads=1, backend="torchvision"
    )
    ((images, _),) = loader
    levels = [level for level in images[:, 0, 0, 0].tolist() if level]
    assert len(levels) > 8 and len(set(levels)) > len(levels) / 2


def test_what_is_wrong_is_said(tmp_path):
    other = ArraySource(np.zeros((2, 1, 1, 3), np.uint8), [0, 1], ("cat", "dog"))
    empty = ArraySource(np.zeros((0, 1, 1, 3), np.uint8), [], ("even", "odd"))
    good = part(0, 3)
    cases = [
        (({},), "needs at least one source"),
        (({"a": good, "b": other},), "must have the same classes, got 'cat', 'dog' in 'b'"),
        (({"a": good, "b": empty},), "got none in 'b'"),
        (({"a": torch.utils.data.TensorDataset(torch.zeros(1))},), "WeightedRandomSampler"),
        (({"a": good}, {"b": 1}), "weights must be of the sources, 'a', got those of 'b'"),
        (({"a": good}, {"a": 0}), "must be a number above 0, got 0 for 'a'"),
        (({"a": good}, {"a": float("nan")}), "must be a number above 0"),
    ]
    for arguments, message in cases:
        with pytest.raises(dalipipe.SourceError, match=message):
            MixedSource(*arguments)
