"""What a training script relies on: one suite, run against torch's DataLoader and against ours.

It follows PyTorch's own test_dataloader.py in spirit. Covered from there: sequential and shuffled order, batches of
one and of many, partial last batch, drop_last, len, samplers and batch samplers, SubsetRandomSampler and
WeightedRandomSampler, generators that repeat an order, batch_size=None, iterators that live side by side, early ends,
invalid arguments, an empty data set, exceptions from a data set. Without meaning here, for there are no worker
processes: worker seeds and worker_info, worker death and time-outs, multiprocessing contexts, shared memory,
worker_init_fn, IterableDataset, pinning of custom types. Containers and collate functions are in tests/asking.
"""

import itertools

import numpy as np
import pytest
import torch
from PIL import Image
from torch.utils.data import (
    BatchSampler,
    Dataset,
    RandomSampler,
    SequentialSampler,
    SubsetRandomSampler,
    WeightedRandomSampler,
)
from torchvision.datasets import ImageFolder
from torchvision.transforms import v2

import dalipipe

COUNT = 11
TRANSFORM = v2.Compose([v2.CenterCrop(4), v2.ToImage(), v2.ToDtype(torch.float32, scale=True)])


@pytest.fixture(scope="module")
def root(tmp_path_factory):
    """A folder of images whose level is 10 times their index."""
    folder = tmp_path_factory.mktemp("contract")
    for index in range(COUNT):
        path = folder / ("a" if index < 6 else "b") / f"{index:02}.png"
        path.parent.mkdir(exist_ok=True)
        Image.fromarray(np.full((7, 5, 3), 10 * index, np.uint8)).save(path)
    return folder


class Own(Dataset):
    """A data set of the user's own, which is asked for its samples."""

    def __init__(self, folder):
        self.folder, self.targets = folder, folder.targets

    def __len__(self):
        return len(self.folder)

    def __getitem__(self, index):
        path, label = self.folder.samples[index]
        return TRANSFORM(Image.open(path).convert("RGB")), label


@pytest.fixture(params=["ImageFolder", "own"])
def dataset(root, request):
    folder = ImageFolder(root, transform=TRANSFORM)
    return folder if request.param == "ImageFolder" else Own(folder)


def ours(dataset, *args, **kwargs):
    return dalipipe.DataLoader(dataset, *args, num_threads=1, **kwargs)


@pytest.fixture(params=["torch", "dali-cpu", "dali-cpu-stock", "torchvision"])
def make(request):
    if request.param == "torch":
        return torch.utils.data.DataLoader
    return lambda *args, **kwargs: ours(*args, backend=request.param, **kwargs)


def indices(images: torch.Tensor) -> list[int]:
    """Return which samples these are, from their levels."""
    return (images.reshape(-1, 3 * 16)[:, 0] * 255 / 10).round().int().tolist()


def order(loader) -> list[list[int]]:
    return [indices(images) for images, _ in loader]


def test_batches_are_what_training_expects(make, dataset):
    batches = list(make(dataset, batch_size=4))
    assert len(batches) == len(make(dataset, batch_size=4)) == 3
    images, labels = batches[0]
    assert images.shape == (4, 3, 4, 4) and images.dtype == torch.float32
    assert labels.shape == (4,) and labels.dtype == torch.int64
    assert torch.cat([labels for _, labels in batches]).tolist() == dataset.targets
    assert [indices(images) for images, _ in batches] == [[0, 1, 2, 3], [4, 5, 6, 7], [8, 9, 10]]
    torch.testing.assert_close(images[3], dataset[3][0])


def test_default_batch_size_is_one(make, dataset):
    loader = make(dataset)
    assert len(loader) == COUNT
    assert order(loader) == [[index] for index in range(COUNT)]


def test_drop_last(make, dataset):
    loader = make(dataset, batch_size=4, drop_last=True)
    assert len(loader) == 2 and order(loader) == [[0, 1, 2, 3], [4, 5, 6, 7]]


def test_a_batch_larger_than_the_data(make, dataset):
    assert order(make(dataset, batch_size=64)) == [list(range(COUNT))]
    assert order(make(dataset, batch_size=64, drop_last=True)) == []


def test_shuffle_gives_every_sample_once_and_another_order_each_epoch(make, dataset):
    loader = make(dataset, batch_size=4, shuffle=True)
    epochs = [list(itertools.chain(*order(loader))) for _ in range(4)]
    assert all(sorted(epoch) == list(range(COUNT)) for epoch in epochs)
    assert len({tuple(epoch) for epoch in epochs}) > 1


def test_without_shuffle_epochs_repeat(make, dataset):
    loader = make(dataset, batch_size=4)
    assert order(loader) == order(loader)


def test_a_generator_repeats_the_order(make, dataset):
    orders = [
        order(make(dataset, batch_size=4, shuffle=True, generator=torch.Generator().manual_seed(5))) for _ in range(2)
    ]
    assert orders[0] == orders[1]


def test_manual_seed_repeats_the_order(make, dataset):
    orders = []
    for _ in range(2):
        torch.manual_seed(3)
        orders.append(order(make(dataset, batch_size=4, shuffle=True)))
    assert orders[0] == orders[1]


SAMPLERS = {
    "list": lambda: [3, 3, 0, 10],
    "sequential": lambda: SequentialSampler(range(COUNT)),
    "random": lambda: RandomSampler(range(COUNT), generator=torch.Generator().manual_seed(1)),
    "subset": lambda: SubsetRandomSampler([1, 5, 9, 2], generator=torch.Generator().manual_seed(1)),
    "weighted": lambda: WeightedRandomSampler([1.0] * COUNT, 20, generator=torch.Generator().manual_seed(1)),
}


@pytest.mark.parametrize("kind", SAMPLERS)
def test_a_sampler_decides(make, dataset, kind):
    wanted = list(SAMPLERS[kind]())
    loader = make(dataset, batch_size=3, sampler=SAMPLERS[kind]())
    assert len(loader) == -(-len(wanted) // 3)
    assert list(itertools.chain(*order(loader))) == wanted


def test_a_batch_sampler_decides(make, dataset):
    lists = [[1, 2], [3], [4, 5, 6, 6]]
    assert order(make(dataset, batch_sampler=lists)) == lists
    batches = BatchSampler(SequentialSampler(range(COUNT)), 5, drop_last=False)
    loader = make(dataset, batch_sampler=batches)
    assert len(loader) == 3 and order(loader) == list(batches)


def test_single_samples(make, dataset):
    loader = make(dataset, batch_size=None)
    assert len(loader) == COUNT
    samples = list(loader)
    assert [indices(image[None])[0] for image, _ in samples] == list(range(COUNT))
    assert all(image.shape == (3, 4, 4) and isinstance(label, int) for image, label in samples)
    assert [label for _, label in samples] == dataset.targets


def test_two_iterators_side_by_side(make, dataset):
    loader = make(dataset, batch_size=4)
    pairs = list(zip(loader, loader, strict=True))
    assert (
        [indices(a[0]) for a, _ in pairs]
        == [indices(b[0]) for _, b in pairs]
        == [[0, 1, 2, 3], [4, 5, 6, 7], [8, 9, 10]]
    )


def test_nested_iteration(make, dataset):
    loader = make(dataset, batch_size=6)
    assert [[len(images) for images, _ in loader] for _ in loader] == [[6, 5], [6, 5]]


def test_leaving_early_loses_nothing(make, dataset):
    loader = make(dataset, batch_size=2)
    for images, _ in loader:
        assert indices(images) == [0, 1]
        break
    assert [indices(images) for images, _ in itertools.islice(loader, 2)] == [[0, 1], [2, 3]]
    assert list(itertools.chain(*order(loader))) == list(range(COUNT))


def test_an_iterator_that_ended_stays_ended(make, dataset):
    iterator = iter(make(dataset, batch_size=64))
    next(iterator)
    for _ in range(2):
        with pytest.raises(StopIteration):
            next(iterator)


def test_a_bad_file_reaches_the_caller(make, root, tmp_path):
    (tmp_path / "a").mkdir()
    (tmp_path / "a" / "good.png").write_bytes((root / "a" / "00.png").read_bytes())
    (tmp_path / "a" / "bad.png").write_bytes(b"no image")
    with pytest.raises(Exception, match=r"bad\.png"):
        list(make(ImageFolder(tmp_path, transform=TRANSFORM), batch_size=2))


def test_an_empty_data_set(make, dataset):
    empty = torch.utils.data.Subset(dataset, [])
    loader = make(empty, batch_size=4)
    assert len(loader) == 0 and list(loader) == []


def test_attributes_that_libraries_read(make, dataset):
    sampler = SequentialSampler(dataset)
    loader = make(dataset, batch_size=4, sampler=sampler, drop_last=True, num_workers=0, pin_memory=False)
    assert loader.dataset is dataset and loader.sampler is sampler
    assert (loader.batch_size, loader.drop_last, loader.num_workers, loader.pin_memory) == (4, True, 0, False)
    assert loader.timeout == 0 and loader.persistent_workers is False and loader.in_order is True
    for name in (
        "batch_sampler",
        "generator",
        "prefetch_factor",
        "multiprocessing_context",
        "worker_init_fn",
        "collate_fn",
    ):
        assert hasattr(loader, name)
    assert make(dataset, batch_sampler=[[1]]).batch_size is None


@pytest.mark.parametrize(
    "arguments",
    [
        {"sampler": [1], "shuffle": True},
        {"batch_sampler": [[1]], "batch_size": 2},
        {"batch_sampler": [[1]], "shuffle": True},
        {"batch_size": None, "drop_last": True},
        {"batch_size": 0},
        {"num_workers": -1},
    ],
)
def test_arguments_that_exclude_one_another(make, dataset, arguments):
    with pytest.raises(ValueError):
        make(dataset, **arguments)


def test_a_collate_function_gets_the_samples(make, dataset):
    def collate(samples):
        assert type(samples) is list and all(type(label) is int for _, label in samples)
        return torch.stack([image for image, _ in samples]), len(samples)

    assert [(indices(images), count) for images, count in make(dataset, 4, collate_fn=collate)] == [
        ([0, 1, 2, 3], 4), ([4, 5, 6, 7], 4), ([8, 9, 10], 3)
    ]  # fmt: skip
    assert [label for label in make(dataset, None, collate_fn=lambda sample: sample[1])] == [0] * 6 + [1] * 5


def test_arguments_without_a_meaning_are_accepted(dataset):
    loader = ours(
        dataset, 4, timeout=3, persistent_workers=True, pin_memory_device="cuda", in_order=False, pin_memory=False
    )
    assert list(itertools.chain(*order(loader))) == list(range(COUNT))
    assert loader.job.num_threads == 1 and ours(dataset, 4, prefetch_factor=3).job.prefetch == 3
    assert dalipipe.DataLoader(dataset, 4, num_workers=3).job.num_threads == 3
