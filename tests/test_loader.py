import gc
import os
import re
import threading
from collections import Counter
from itertools import chain

import numpy as np
import pytest
import torch
from hypothesis import example, given, settings
from hypothesis import strategies as st

from dalipipe import DataLoader, FolderSource, dali_iterator
from dalipipe.backends import BACKENDS
from dalipipe.errors import BackendError, ConfigError, DecodeError, RecipeError, SourceError, SourceNotFoundError
from dalipipe.recipes import Recipe, ops

CPU_BACKENDS = [name for name in BACKENDS if name != "dali-gpu"]
DALI_BACKENDS = [name for name in CPU_BACKENDS if name != "torchvision"]
COUNT = 12

FIXED = Recipe(name="fixed", ops=(ops.CenterCrop(size=(7, 9)),))
RANDOM = Recipe(
    name="random",
    ops=(
        ops.RandomResizedCrop(size=(11, 13)),
        ops.RandomHorizontalFlip(),
        ops.RandomAffine(degrees=20, translate=(0.2, 0.2)),
        ops.Normalize(mean=(0.5,) * 3, std=(0.25,) * 3),
    ),
)


class Numbers:
    """A source of images whose pixels and labels are their number."""

    classes = ("even", "odd")

    def __init__(self, count: int) -> None:
        self.labels = np.arange(count, dtype=np.int64)

    def __len__(self) -> int:
        return len(self.labels)

    def item(self, index: int) -> np.ndarray:
        return np.full((7, 9, 3), index, dtype=np.uint8)


@pytest.fixture
def folder(make_image_folder):
    return make_image_folder()


def epoch_of(loader: DataLoader) -> torch.Tensor:
    return torch.cat([images for images, _ in loader])


def by_sample(loader: DataLoader) -> torch.Tensor:
    """One epoch's images in the order of the source, however they came."""
    epoch = loader.epoch
    order = np.concatenate([batch.indices for batch in loader.batches(epoch)])
    images = epoch_of(loader)
    return images[torch.from_numpy(np.argsort(order))]


# What comes


@pytest.mark.parametrize("backend", CPU_BACKENDS)
def test_batches_are_images_and_labels(folder, backend):
    with DataLoader(folder, 5, recipe=RANDOM, backend=backend, num_threads=2) as loader:
        batches = list(loader)
        assert (len(loader), len(batches)) == (3, 3)
        assert loader.backend == backend
        assert loader.device == torch.device("cpu")
        assert loader.recipe == RANDOM
        assert isinstance(loader.source, FolderSource)
    for (images, labels), count in zip(batches, (5, 5, 2), strict=True):
        assert (images.shape, images.dtype) == ((count, 3, 11, 13), torch.float32)
        assert (labels.shape, labels.dtype) == ((count,), torch.int64)
        assert (images.device.type, labels.device.type) == ("cpu", "cpu")
    assert torch.cat([labels for _, labels in batches]).tolist() == [0] * 4 + [1] * 4 + [2] * 4


@pytest.mark.parametrize("backend", CPU_BACKENDS)
@given(count=st.integers(0, 23), batch_size=st.integers(1, 25), shuffle=st.booleans(), drop_last=st.booleans())
@example(count=8, batch_size=4, shuffle=True, drop_last=True)
@example(count=0, batch_size=3, shuffle=False, drop_last=False)
@example(count=3, batch_size=4, shuffle=False, drop_last=True)
@settings(max_examples=8)
def test_every_sample_comes_once_an_epoch(backend, count, batch_size, shuffle, drop_last):
    loader = DataLoader(
        Numbers(count), batch_size, shuffle, recipe=FIXED, backend=backend, num_threads=2, drop_last=drop_last
    )
    with loader:
        for _ in range(2):
            batches = list(loader)
            assert len(batches) == len(loader)
            seen = [label for _, labels in batches for label in labels.tolist()]
            kept = count - count % batch_size if drop_last else count
            assert len(seen) == len(set(seen)) == kept
            assert shuffle or seen == list(range(kept))
            assert [len(labels) for _, labels in batches[:-1]] == [batch_size] * (len(batches) - 1)
            # The pixels are those of the sample that the label says.
            assert [image.unique().tolist() for images, _ in batches for image in images] == [[label] for label in seen]


# Epochs


@pytest.mark.parametrize("backend", CPU_BACKENDS)
def test_each_epoch_has_its_order_and_its_decisions(folder, backend):
    with DataLoader(folder, 4, True, recipe=RANDOM, backend=backend, num_threads=2, seed=1) as loader:
        orders = [np.concatenate([batch.indices for batch in loader.batches(epoch)]).tolist() for epoch in range(3)]
        first, second = by_sample(loader), by_sample(loader)
        loader.set_epoch(0)
        assert torch.equal(by_sample(loader), first)
        assert loader.epoch == 1
        assert torch.equal(by_sample(loader), second)
    assert not torch.equal(first, second)
    assert len({tuple(order) for order in orders}) == 3
    assert all(sorted(order) == list(range(COUNT)) for order in orders)


def test_the_order_is_the_same_whatever_the_batch_size(folder):
    orders = set()
    for batch_size in (1, 5, 12):
        with DataLoader(folder, batch_size, True, recipe=FIXED, backend="torchvision", seed=5) as loader:
            orders.add(tuple(np.concatenate([batch.indices for batch in loader.batches(3)]).tolist()))
    assert len(orders) == 1


@pytest.mark.parametrize("backend", CPU_BACKENDS)
def test_a_sample_looks_the_same_in_every_run(folder, backend):
    def images_with(**options):
        with DataLoader(folder, recipe=RANDOM, backend=backend, **options) as loader:
            loader.set_epoch(2)
            return by_sample(loader)

    expected = images_with(batch_size=12, num_threads=1, seed=7)
    assert torch.equal(images_with(batch_size=5, num_threads=2, seed=7, shuffle=True, prefetch=1), expected)
    assert torch.equal(images_with(batch_size=1, num_threads=3, seed=7, prefetch=4), expected)
    assert not torch.equal(images_with(batch_size=12, seed=8), expected)


def test_backends_take_the_same_decisions(folder):
    images = {}
    for backend in CPU_BACKENDS:
        with DataLoader(folder, 5, True, recipe=RANDOM, backend=backend, num_threads=2, seed=1) as loader:
            images[backend] = by_sample(loader)
    for backend in DALI_BACKENDS:
        levels_off = (images[backend] - images["torchvision"]).abs() * 0.25 * 255
        assert levels_off.mean() < 0.5
        assert (levels_off > 20).double().mean() < 0.01


# More than one iterator


@pytest.mark.parametrize("backend", CPU_BACKENDS)
def test_two_iterators_at_once_do_not_disturb_each_other(backend):
    with DataLoader(Numbers(10), 3, True, recipe=FIXED, backend=backend, num_threads=2, seed=1) as loader:
        alone = [[labels.tolist() for _, labels in loader] for _ in range(2)]
        loader.set_epoch(0)
        one, two = iter(loader), iter(loader)
        turns = [(next(one)[1].tolist(), next(two)[1].tolist()) for _ in range(4)]
        assert next(one, None) is next(two, None) is None
        assert [list(side) for side in zip(*turns, strict=True)] == alone
        nested = [(outer.tolist(), [inner.tolist() for _, inner in loader]) for _, outer in loader]
        assert [sorted(chain(*inner)) for _, inner in nested] == [list(range(10))] * 4
        assert sorted(chain(*(outer for outer, _ in nested))) == list(range(10))


@pytest.mark.parametrize("backend", CPU_BACKENDS)
@pytest.mark.parametrize("after", [1, 3])
def test_an_epoch_left_early_costs_the_next_nothing(backend, after):
    with DataLoader(Numbers(20), 3, recipe=FIXED, backend=backend, num_threads=2) as loader:
        for _ in range(2):
            for step, (images, _) in enumerate(loader, 1):
                assert images[:, 0, 0, 0].tolist() == list(range(3 * step - 3, 3 * step))
                if step == after:
                    break
        assert torch.cat([labels for _, labels in loader]).tolist() == list(range(20))
        assert loader.epoch == 3


@pytest.mark.parametrize("backend", CPU_BACKENDS)
def test_an_error_in_the_users_loop_costs_the_next_epoch_nothing(backend):
    with DataLoader(Numbers(9), 2, recipe=FIXED, backend=backend) as loader:
        with pytest.raises(ZeroDivisionError):
            for _ in loader:
                raise ZeroDivisionError
        assert torch.cat([labels for _, labels in loader]).tolist() == list(range(9))


# The end


def threads() -> int:
    return len(os.listdir("/proc/self/task"))  # noqa: PTH208 - names suffice


def settled_threads() -> int:
    """The number of threads, once those that are ending have ended."""
    gc.collect()
    counts = [threads()]
    while len(counts) < 100 and (len(counts) < 5 or counts[-1] != counts[-5]):
        threading.Event().wait(0.02)
        counts.append(threads())
    return counts[-1]


def end_by(how: str, loader: DataLoader) -> None:
    batches = iter(loader)
    next(batches)
    if how == "close":
        list(batches)
        loader.close()
    elif how == "with":
        with loader:
            list(batches)
    elif how == "close while iterating":
        loader.close()
    elif how == "forget an iterator":
        next(iter(loader))


@pytest.mark.parametrize("backend", CPU_BACKENDS)
def test_threads_end_with_the_loader(backend):
    def use(how: str) -> int:
        end_by(how, DataLoader(Numbers(40), 2, recipe=FIXED, backend=backend, num_threads=3))
        return settled_threads()

    before = use("close")  # what the process keeps for good is there after the first
    ways = ("close", "with", "close while iterating", "forget", "forget an iterator")
    assert {how: use(how) for how in ways} == dict.fromkeys(ways, before)


@pytest.mark.parametrize("backend", CPU_BACKENDS)
def test_a_closed_loader_says_so(backend):
    loader = DataLoader(Numbers(4), 2, recipe=FIXED, backend=backend)
    batches = iter(loader)
    next(batches)
    loader.close()
    loader.close()
    with pytest.raises(ConfigError, match=r"DataLoader: is closed.*Make a new one"):
        next(iter(loader))
    assert [labels.tolist() for _, labels in batches] == [[2, 3]]  # what runs may end


# Arguments


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        ({"batch_size": 0}, "DataLoader: batch_size must be a whole number of at least 1, got 0. "),
        ({"batch_size": 2.5}, "DataLoader: batch_size must be a whole number of at least 1, got 2.5. "),
        ({"batch_size": "8"}, "DataLoader: batch_size must be a whole number of at least 1, got '8'. "),
        ({"num_threads": 0}, "DataLoader: num_threads must be a whole number of at least 1, got 0. "),
        ({"prefetch": 0}, "DataLoader: prefetch must be a whole number of at least 1, got 0. "),
        ({"seed": -1}, "DataLoader: seed must be 0 to 2**64 - 1, got -1. "),
        ({"seed": 2**64}, "DataLoader: seed must be 0 to 2**64 - 1, got 18446744073709551616. "),
        ({"seed": 0.5}, "DataLoader: seed must be 0 to 2**64 - 1, got 0.5. "),
        ({"backend": "dali"}, "backend: unknown name 'dali'. Did you mean 'dali-"),
    ],
)
def test_an_argument_out_of_range_is_refused(arguments, message):
    with pytest.raises(ConfigError) as caught:
        DataLoader(Numbers(3), **{"recipe": FIXED, "backend": "torchvision", **arguments})
    assert str(caught.value).startswith(message)


def test_numpys_numbers_are_numbers():
    with DataLoader(Numbers(5), np.int64(2), recipe=FIXED, backend="torchvision", seed=np.uint32(3)) as loader:
        assert [len(labels) for _, labels in loader] == [2, 2, 1]


@pytest.mark.parametrize("epoch", [-1, 2**32, 0.5])
def test_an_epoch_out_of_range_is_refused(epoch):
    with (
        DataLoader(Numbers(3), recipe=FIXED, backend="torchvision") as loader,
        pytest.raises(ConfigError, match=r"DataLoader: epoch must be 0 to 2\*\*32 - 1, got"),
    ):
        loader.set_epoch(epoch)


def test_a_folder_or_recipe_that_is_not_there_is_refused(tmp_path, folder):
    with pytest.raises(SourceNotFoundError, match="must exist"):
        DataLoader(tmp_path / "nowhere", recipe=FIXED)
    with pytest.raises(RecipeError, match="Did you mean 'imagenet-train'"):
        DataLoader(folder, recipe="imagenet-trian")
    with pytest.raises(RecipeError, match="could not be batched"):
        DataLoader(folder, recipe=Recipe(name="test", ops=(ops.Resize(size=9),)), backend="torchvision")


@pytest.mark.parametrize("backend", CPU_BACKENDS)
@pytest.mark.parametrize("pixels", [np.zeros((7, 9), np.uint8), np.zeros((7, 9, 3)), np.zeros((0, 9, 3), np.uint8), 7])
def test_an_item_that_is_no_image_is_refused_by_name(backend, pixels):
    source = Numbers(3)
    source.item = lambda index: pixels if index == 2 else np.zeros((7, 9, 3), np.uint8)
    source.name = lambda index: f"picture {index}"
    with (
        DataLoader(source, 1, recipe=FIXED, backend=backend) as loader,
        pytest.raises(SourceError, match="sample 'picture 2': must be a path, bytes or a uint8 array"),
    ):
        list(loader)


# Bad files


def spoil(folder, *indices):
    """Make some files of a folder undecodable, each in its own way; return their paths."""
    paths = [FolderSource(folder).item(index) for index in indices]
    for number, path in enumerate(paths):
        with open(path, "r+b") as file:  # noqa: PTH123 - as the source gives it
            file.write(b"no image") if number % 2 else file.truncate(0)
    return paths


@pytest.mark.parametrize("backend", CPU_BACKENDS)
def test_an_error_names_every_bad_file_of_the_batch_after_the_good_batches(folder, backend):
    bad = spoil(folder, 5, 7, 11)
    with DataLoader(folder, 4, recipe=RANDOM, backend=backend, num_threads=2) as loader:
        batches = iter(loader)
        assert len(next(batches)[0]) == 4
        with pytest.raises(DecodeError) as caught:
            next(batches)
        message = str(caught.value)
        assert message.startswith("2 files can't be used: ")
        assert all(f"{path!r} (" in message for path in bad[:2])
        assert bad[2] not in message
        assert "the file is empty" in message or backend == "torchvision"
        assert "\n" not in message
        assert next(batches, None) is None
        # The loader goes on: the next epoch delivers its good batches again.
        assert len(next(iter(loader))[0]) == 4


@pytest.mark.parametrize("backend", CPU_BACKENDS)
def test_an_image_too_small_for_its_window_is_named(folder, backend):
    recipe = Recipe(name="test", ops=(ops.RandomCrop(size=(17, 11)),))
    small = [path for path, _ in FolderSource(folder).samples[4:5]]
    with (
        DataLoader(folder, 12, recipe=recipe, backend=backend, num_threads=2) as loader,
        pytest.raises(DecodeError, match=r"smaller than the window of RandomCrop") as caught,
    ):
        list(loader)
    assert small[0] in str(caught.value)


@pytest.mark.parametrize("backend", CPU_BACKENDS)
def test_a_file_that_is_gone_is_named(folder, backend):
    gone = FolderSource(folder).item(3)
    with DataLoader(folder, 6, recipe=FIXED, backend=backend) as loader:
        os.remove(gone)  # noqa: PTH107
        with pytest.raises(DecodeError, match=rf"1 file can't be used: {re.escape(repr(gone))} \(no such file"):
            list(loader)


# DALI's own iterator


@pytest.mark.parametrize("backend", DALI_BACKENDS)
def test_dalis_own_iterator_has_the_loaders_images(folder, backend):
    from nvidia.dali.plugin.pytorch import DALIGenericIterator

    with DataLoader(folder, 5, True, recipe=RANDOM, backend=backend, num_threads=2, seed=1) as loader:
        loader.set_epoch(3)
        expected = list(loader)
        iterator = dali_iterator(loader, epoch=3)
        assert isinstance(iterator, DALIGenericIterator)
        batches = [batch[0] for batch in iterator]
        assert len(batches) == 3
        for batch, (images, labels) in zip(batches, expected, strict=True):
            assert torch.equal(batch["images"], images)
            assert torch.equal(batch["labels"].flatten(), labels)
            assert not batch["status"].any()
        assert Counter(epoch_of(loader).shape) == Counter((12, 3, 11, 13))


def test_dalis_own_iterator_needs_dali(folder):
    with (
        DataLoader(folder, recipe=FIXED, backend="torchvision") as loader,
        pytest.raises(BackendError, match="must be one of DALI's"),
    ):
        dali_iterator(loader)
