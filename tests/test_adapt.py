"""Every data set that is taken has the images and labels that it hands out itself."""

import pickle
import subprocess
import sys

import numpy as np
import pytest
import torch
import torchvision.datasets as tv
from PIL import Image
from torch.utils.data import ConcatDataset, Dataset, IterableDataset, Subset, TensorDataset, random_split
from torchvision import transforms as v1

from dalipipe.errors import SourceError
from dalipipe.sources import ArraySource, FolderSource, SubsetSource, fingerprint, name_of
from dalipipe.sources.base import key_of
from dalipipe.sources.derived import ConcatSource, LabelledSource
from dalipipe.sources.torch_datasets import as_source, known_size


def pixels_of(item) -> np.ndarray:
    if isinstance(item, np.ndarray):
        return np.broadcast_to(item, (*item.shape[:2], 3))
    with Image.open(item) as image:
        return np.array(image.convert("RGB"))


def assert_same_samples(dataset, source) -> None:
    """Compare a source with what the data set itself hands out, sample by sample."""
    assert len(source) == len(dataset) > 0
    assert source.labels.dtype == np.int64
    for index in range(len(dataset)):
        image, label = dataset[index]
        assert np.array_equal(pixels_of(source.item(index)), np.array(image.convert("RGB")))
        assert source.labels[index] == label
        assert name_of(source, index)


@pytest.fixture
def folder(make_image_folder):
    return make_image_folder()


class Bare:
    """A map-style data set of which nothing but its samples is known."""

    def __init__(self, samples, **attributes):
        self.samples = samples
        vars(self).update(attributes)

    def __len__(self):
        return len(self.samples)


class Arrays(Dataset):
    """What torchvision's small data sets look like."""

    def __init__(self, data, targets, **attributes):
        self.data, self.targets = data, targets
        vars(self).update(attributes)

    def __len__(self):
        return len(self.data)


def test_a_path_is_a_folder(folder):
    for root in (folder, str(folder)):
        source, transform = as_source(root)
        assert isinstance(source, FolderSource)
        assert transform is None


def test_a_source_is_returned_as_it_is(folder):
    for source in (FolderSource(folder), ArraySource(np.zeros((2, 3, 5, 3), np.uint8), [0, 1])):
        assert as_source(source) == (source, None)
        subset = SubsetSource(source, [1])
        assert as_source(subset)[0] is subset


def test_three_things_make_a_source(folder):
    class Own:
        labels = (2, 0)

        def __len__(self):
            return 2

        def item(self, index):
            return ("a.png", "b.png")[index]

    source, transform = as_source(Own())
    assert isinstance(source, LabelledSource)
    assert transform is None
    assert source.labels.dtype == np.int64
    assert source.labels.tolist() == [2, 0]
    assert source.classes == ("0", "1", "2")
    assert [source.item(0), name_of(source, 1), key_of(source, 0), len(source)] == ["a.png", "b.png", "0", 2]


def test_image_folder(folder):
    transform = v1.ToTensor()
    dataset = tv.ImageFolder(folder)
    source, found = as_source(dataset)
    assert found is None
    assert_same_samples(dataset, source)
    assert source.classes == tuple(dataset.classes)
    assert fingerprint(source) == fingerprint(FolderSource(folder))
    assert as_source(tv.ImageFolder(folder, transform=transform))[1] is transform
    assert as_source(tv.ImageFolder(folder, transform=transform), with_transform=False)[1] is None


def test_dataset_folder_of_images(folder):
    dataset = tv.DatasetFolder(str(folder), loader=tv.folder.pil_loader, extensions=(".png",))
    source, _ = as_source(dataset)
    assert_same_samples(dataset, source)
    assert all(path.endswith(".png") for path in source.paths)


def test_samples_in_any_object(folder):
    files = sorted(folder.rglob("*.*"))
    source, transform = as_source(Bare([(path, np.int32(index % 2)) for index, path in enumerate(files)]))
    assert source.paths == tuple(map(str, files))
    assert source.labels.tolist() == [index % 2 for index in range(len(files))]
    assert source.classes == ("0", "1")
    assert transform is None
    named = Bare([("x/a.png", 0)], classes=[("tench", "Tinca tinca")])
    assert as_source(named)[0].classes == ("tench, Tinca tinca",)
    assert len(as_source(Bare([]))[0]) == 0


def test_subsets(folder):
    transform = v1.ToTensor()
    whole = tv.ImageFolder(folder)
    one, other = random_split(whole, [5, 7], generator=torch.Generator().manual_seed(3))
    nested = Subset(Subset(whole, [7, 3, 3, 11, -1]), torch.tensor([4, 0, 2]))
    for dataset in (Subset(whole, range(2, 9, 3)), one, other, nested):
        source, found = as_source(dataset)
        assert found is None
        assert_same_samples(dataset, source)
        assert tuple(source.classes) == tuple(whole.classes)
    whole.transform = transform
    assert as_source(nested)[1] is transform
    assert len(as_source(Subset(whole, []))[0]) == 0


def test_concatenations(folder, make_image_folder):
    first, second = tv.ImageFolder(folder), tv.ImageFolder(make_image_folder("more", per_class=2, seed=5))
    dataset = ConcatDataset([first, Subset(second, [4, 0]), ConcatDataset([second])])
    source, _ = as_source(dataset)
    assert_same_samples(dataset, source)
    assert source.item(-1) == source.item(len(source) - 1)
    assert source.classes == ("ant", "bee", "cat")
    assert_same_samples(part := Subset(dataset, [12, 0, 14, 19]), as_source(part)[0])
    two = tv.ImageFolder(make_image_folder("two", classes=("dog", "emu")))
    source, _ = as_source(ConcatDataset([first, two]))
    assert_same_samples(ConcatDataset([first, two]), source)
    assert source.classes == ("0", "1", "2")


def test_parts_must_agree_on_the_transform(folder):
    def part(transform):
        return tv.ImageFolder(folder, transform=transform)

    flip = v1.Compose([v1.RandomHorizontalFlip(), v1.ToTensor()])
    again = v1.Compose([v1.RandomHorizontalFlip(), v1.ToTensor()])
    assert as_source(ConcatDataset([part(flip), part(again)]))[1] is flip
    lambdas = [v1.Lambda(np.array), v1.Lambda(np.array)]
    assert as_source(ConcatDataset([part(lambdas[0]), part(lambdas[0])]))[1] is lambdas[0]
    for other in (None, v1.ToTensor(), lambdas[0]):
        dataset = ConcatDataset([part(flip), part(flip), part(other)])
        with pytest.raises(SourceError, match=r"same transform, got another in datasets\[2\] than in datasets\[0\]"):
            as_source(dataset)
        assert as_source(dataset, with_transform=False)[1] is None
    with pytest.raises(SourceError, match="same transform"):
        as_source(ConcatDataset([part(lambdas[0]), part(lambdas[1])]))


def test_parts_must_be_of_one_kind(folder):
    arrays = ArraySource(np.zeros((2, 3, 5, 3), np.uint8), [0, 1])
    with pytest.raises(SourceError, match="all parts must hold the same, got paths and pixels"):
        ConcatSource([FolderSource(folder), arrays])
    both = ConcatSource([arrays, SubsetSource(arrays, [1])])
    assert known_size(both) == (3, 5)
    assert known_size(ConcatSource([arrays, ArraySource(np.zeros((1, 3, 7, 3), np.uint8), [0])])) is None
    assert known_size(FolderSource(folder)) is None


def test_target_transform_is_applied_once_to_each_label(folder):
    calls = []

    def flip(label):
        calls.append(label)
        return 2 - label

    dataset = tv.ImageFolder(folder, target_transform=flip)
    source, _ = as_source(Subset(dataset, [0, 5]))
    assert calls == dataset.targets
    assert source.labels.tolist() == [2, 1]
    assert source.classes == ("0", "1", "2")
    same, _ = as_source(tv.ImageFolder(folder, target_transform=torch.tensor))
    assert same.classes == ("ant", "bee", "cat")
    for result in ("bee", 0.5, None, torch.zeros(3)):
        dataset.target_transform = {0: 0, 1: result}.get
        with pytest.raises(SourceError, match="ImageFolder: every label must be an int, got 1 before target_transform"):
            as_source(dataset)


@pytest.fixture
def cifar(tmp_path, monkeypatch, make_image):
    """A function that writes 5 x 2 images in CIFAR's format and opens them with torchvision's class."""
    monkeypatch.setattr(tv.cifar, "check_integrity", lambda *_: True)

    def make(kind=tv.CIFAR10, **arguments):
        folder = tmp_path / kind.base_folder
        folder.mkdir(exist_ok=True)
        key = "labels" if kind is tv.CIFAR10 else "fine_labels"
        for position, (name, _) in enumerate(kind.train_list):
            images = [make_image(32, 32, seed=position * 2 + offset) for offset in range(2)]
            data = np.stack([image.transpose(2, 0, 1).reshape(-1) for image in images])
            (folder / name).write_bytes(pickle.dumps({"data": data, key: [position, 9 - position]}))
        meta = {kind.meta["key"]: [f"class {number}" for number in range(10)]}
        (folder / kind.meta["filename"]).write_bytes(pickle.dumps(meta))
        return kind(tmp_path, download=False, **arguments)

    return make


@pytest.mark.parametrize("kind", [tv.CIFAR10, tv.CIFAR100])
def test_cifar(cifar, kind):
    transform = v1.ToTensor()
    dataset = cifar(kind)
    source, _ = as_source(dataset)
    assert isinstance(source, ArraySource)
    assert_same_samples(dataset, source)
    assert source.classes == tuple(dataset.classes)
    assert source.item(1).flags["C_CONTIGUOUS"]
    assert known_size(source) == known_size(as_source(Subset(dataset, [1]))[0]) == (32, 32)
    assert as_source(cifar(kind, transform=transform))[1] is transform
    half = cifar(kind, target_transform=lambda label: label // 5)
    assert_same_samples(half, as_source(half)[0])


def opened(kind, data, targets):
    """Return an instance of torchvision's class with these images, which no file holds."""
    dataset = kind.__new__(kind)
    dataset.data, dataset.targets, dataset.labels = data, targets, targets
    dataset.transform = dataset.target_transform = dataset.transforms = None
    return dataset


@pytest.mark.parametrize("kind", [tv.MNIST, tv.FashionMNIST])
def test_grey_images_stay_grey(kind):
    rng = np.random.default_rng(0)
    dataset = opened(kind, torch.from_numpy(rng.integers(0, 256, (4, 28, 28), np.uint8)), torch.tensor([3, 0, 9, 3]))
    source, _ = as_source(dataset)
    assert_same_samples(dataset, source)
    assert source.item(0).shape == (28, 28, 1)
    assert len(source.classes) == 10
    assert source.classes[3] == dataset.classes[3]


def test_svhn_has_its_channels_first():
    rng = np.random.default_rng(0)
    data = rng.integers(0, 256, (32, 32, 3, 4), np.uint8).transpose(3, 2, 0, 1)
    dataset = opened(tv.SVHN, data, np.array([3, 0, 9, 3]))
    del dataset.targets
    source, _ = as_source(dataset)
    assert_same_samples(dataset, source)
    assert source.item(2).flags["C_CONTIGUOUS"]


@pytest.mark.parametrize("shape", [(2, 5, 7), (2, 5, 7, 1), (2, 1, 5, 7), (2, 5, 7, 3), (2, 3, 5, 7)])
@pytest.mark.parametrize("wrap", [np.asarray, torch.from_numpy])
def test_layouts_of_arrays(shape, wrap):
    source, _ = as_source(Arrays(wrap(np.arange(np.prod(shape), dtype=np.uint8).reshape(shape)), [1, 0]))
    assert source.item(1).shape == (5, 7, 3 if 3 in shape else 1)
    assert known_size(source) == (5, 7)
    assert source.labels.tolist() == [1, 0]


class Views(tv.ImageFolder):
    def __getitem__(self, index):
        image, label = super().__getitem__(index)
        return (image, image), label


class MyCifar(tv.CIFAR10):
    def __getitem__(self, index):
        return super().__getitem__(index)[0]


class Transformed(Subset):
    def __getitem__(self, index):
        return super().__getitem__(index)

    def __getitems__(self, indices):
        return [self[index] for index in indices]


class Stream(IterableDataset):
    def __iter__(self):
        return iter(())


def opener(path):
    return Image.open(path)


def test_what_changes_samples_is_refused(folder):
    assert len(as_source(type("Renamed", (tv.ImageFolder,), {})(folder))[0]) == 12
    whole = tv.ImageFolder(folder)
    cifar = opened(MyCifar, np.zeros((1, 32, 32, 3), np.uint8), [0])
    cases = (
        (Views(folder), "Views: must give .* got a __getitem__ of its own"),
        (cifar, "MyCifar: must give .* got a __getitem__ of its own"),
        (Transformed(whole, [0]), "Transformed: must read samples as Subset does, got a __getitem__"),
    )
    for dataset, message in cases:
        with pytest.raises(SourceError, match=message) as caught:
            as_source(dataset)
        assert "item(index)" in str(caught.value)
    with pytest.raises(SourceError, match=r"ImageFolder: loader must be .*pil_loader, got opener"):
        as_source(tv.ImageFolder(folder, loader=opener))
    whole.transforms = lambda image, label: (image, label)
    with pytest.raises(SourceError, match="ImageFolder: transforms=, which gets image and label together"):
        as_source(whole)
    assert as_source(whole, with_transform=False)[1] is None


@pytest.mark.parametrize(
    ("dataset", "message"),
    [
        (TensorDataset(torch.zeros(2, 3)), "got a TensorDataset"),
        (Stream(), "got a Stream"),
        (tv.FakeData(2), "got a FakeData"),
        (tv.ImageFolder, "got the class ImageFolder itself"),
        ([("a.png", 0)], "got a list"),
        (None, "got a NoneType"),
        (Subset(TensorDataset(torch.zeros(2, 3)), [0]), "got a TensorDataset"),
    ],
)
def test_an_unknown_data_set_is_told_what_would_do(dataset, message):
    with pytest.raises(SourceError, match=message) as caught:
        as_source(dataset)
    for word in ("ImageFolder", "CIFAR10", "random_split", "__len__()", "labels", "item(index)", "path", "bytes"):
        assert word in str(caught.value)


@pytest.mark.parametrize(
    ("dataset", "message"),
    [
        (Bare(["a.png"]), r"samples must be \(path, label\) pairs, got 'a.png' as samples\[0\]"),
        (Bare([("a.png", 0), (3, 0)]), r"got \(3, 0\) as samples\[1\]"),
        (Bare([("a.png", "cat")]), "every label must be an int, got 'cat' for sample 0"),
        (Arrays(np.zeros((1, 3, 3), np.float32), [0]), r"data must be uint8 images .*got float32 \(1, 3, 3\)"),
        (Arrays(np.zeros((1, 9), np.uint8), [0]), r"got uint8 \(1, 9\)"),
        (Arrays(np.zeros((1, 4, 5, 6), np.uint8), [0]), r"data must be uint8 images .*got uint8 \(1, 4, 5, 6\)"),
        (Arrays(np.zeros((1, 4, 5), np.uint8), [[0, 1]]), r"every label must be an int, got \[0, 1\]"),
        (Arrays(np.zeros((2, 4, 5), np.uint8), [0]), "got 2 images and 1 labels"),
    ],
)
def test_a_data_set_that_is_almost_right_is_told_what_is_wrong(dataset, message):
    with pytest.raises(SourceError, match=message):
        as_source(dataset)


def test_torchvision_is_not_imported_for_a_folder(folder):
    code = (
        "import sys, numpy as np; from dalipipe.sources import ArraySource;"
        "from dalipipe.sources.torch_datasets import as_source;"
        f"as_source({str(folder)!r}); as_source(ArraySource(np.zeros((1, 2, 2, 3), np.uint8), [0]));"
        "print([name for name in ('torch', 'torchvision') if name in sys.modules])"
    )
    result = subprocess.run([sys.executable, "-W", "error", "-c", code], capture_output=True, text=True, timeout=240)
    assert result.stdout.strip() == "[]", result.stderr
