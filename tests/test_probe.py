"""A data set with a `__getitem__` of its own is taken only where it does what reading its files or arrays would."""

import random

import numpy as np
import pytest
import torch
import torchvision.datasets as tv
from PIL import Image, ImageOps
from torch.utils.data import ConcatDataset, Dataset, Subset
from torchvision import transforms as T

from dalipipe.errors import SourceError
from dalipipe.sources.torch_datasets import as_source

CHAIN = T.Compose([T.RandomCrop(4), T.ToTensor()])


class Listed(Dataset):
    """Files and labels as torchvision names them, read as everyone reads them."""

    def __init__(self, folder, transform=CHAIN):
        self.samples, self.transform, self.asked = tv.ImageFolder(folder).samples, transform, []

    def __len__(self):
        return len(self.samples)

    def picture(self, index):
        return Image.open(self.samples[index][0]).convert("RGB")

    def __getitem__(self, index):
        self.asked.append(index)
        return self.transform(self.picture(index)), self.samples[index][1]


def variant(name, **methods):
    return type(name, (Listed,), methods)


def _item(image=None, label=None, result=None):
    """Return a __getitem__ that changes the image before the transform, the label, or the sample."""

    def get(self, index):
        picture = self.picture(index)
        picture = image(picture) if image else picture
        found = label(self.samples[index][1]) if label else self.samples[index][1]
        made = self.transform(picture)
        return result(self, made, found, index) if result else (made, found)

    return get


CHANGES = {
    "Crop": (_item(image=lambda picture: picture.crop((0, 0, 3, 3))), "changes the size of sample 0"),
    "Grey": (_item(image=lambda picture: picture.convert("L").convert("RGB")), "changes the pixels of sample 0"),
    "OneChannel": (_item(image=lambda picture: picture.convert("L")), "makes an image of mode 'L'"),
    "Pixels": (_item(image=np.asarray), "makes a ndarray of sample 0, not a PIL image"),
    "Turned": (_item(label=lambda label: 1 - label), "gives 1 as the label of sample 0, where 0 is listed"),
    "Float": (_item(label=float), "gives 0.0 as the label"),
    "Boolean": (_item(label=bool), "gives False as the label"),
    "Narrow": (_item(label=np.uint8), r"gives np.uint8\(0\) as the label"),
    "Index": (
        _item(result=lambda self, image, label, index: (image, label, index)),
        r"a tuple of 3, not \(image, label",
    ),
    "Record": (_item(result=lambda self, image, label, index: {"x": image, "y": label}), "gives a dict"),
    "Alone": (_item(result=lambda self, image, label, index: image), "not \\(image, label\\)"),
    "Scaled": (_item(result=lambda self, image, label, index: (image * 2 - 1, label)), "does more to sample 0"),
    "Twice": (
        _item(result=lambda self, image, label, index: (self.transform(self.picture(index)), label)),
        "calls its transform 2 times",
    ),
    "Past": (
        _item(result=lambda self, image, label, index: (self.picture(index), label)),
        "didn't come from its trans",
    ),
    "Mixed": (_item(image=lambda picture: ImageOps.mirror(picture) if random.random() < 1e-9 else picture), "draws"),
    "Upright": (_item(image=lambda picture: ImageOps.exif_transpose(picture)), ""),
}


@pytest.fixture
def folder(make_image_folder):
    return make_image_folder()


@pytest.mark.parametrize("name", [name for name in CHANGES if name != "Upright"])
def test_what_would_be_lost_is_refused_by_name(folder, name):
    get, message = CHANGES[name]
    with pytest.raises(SourceError, match=message) as caught:
        as_source(variant(name, __getitem__=get)(folder))
    assert str(caught.value).startswith(f"{name}: its __getitem__ must give (image, label)")
    assert "make it a Source" in str(caught.value)


def test_a_photo_that_is_turned_is_found_though_none_of_those_asked_for_is(folder):
    def picture(self, index):
        return ImageOps.exif_transpose(Image.open(self.samples[index][0])).convert("RGB")

    with pytest.raises(SourceError, match="turns photos by their Exif orientation"):
        as_source(variant("Upright", picture=picture)(folder))


def test_one_that_does_what_reading_would_is_taken_and_left_as_it_is(folder):
    dataset = Listed(folder)
    state = random.getstate(), torch.get_rng_state(), np.random.get_state()[1].copy()
    source, transform = as_source(dataset)
    assert transform is CHAIN
    assert dataset.transform is CHAIN
    assert [source.labels[index] for index in (0, len(source) - 1)] == [
        label for _, label in dataset.samples[:: len(source) - 1]
    ]
    assert random.getstate() == state[0]
    assert torch.equal(torch.get_rng_state(), state[1])
    assert np.array_equal(np.random.get_state()[1], state[2])
    assert len(as_source(Subset(dataset, [3, 1]))[0]) == 2
    tensors = variant("Tensors", __getitem__=_item(label=torch.tensor))
    assert len(as_source(tensors(folder))[0]) == len(dataset)


def test_a_length_or_a_way_of_its_own_is_refused(folder):
    short = variant("Short", __len__=lambda self: 2)
    with pytest.raises(SourceError, match=r"Short: must be as long as its list of samples, got 2 .* and 12"):
        as_source(short(folder))
    many = variant("Many", __getitems__=lambda self, indices: [self[index] for index in indices])
    with pytest.raises(SourceError, match="Many: must give samples one by one, got a __getitems__"):
        as_source(many(folder))
    whole = tv.ImageFolder(folder)
    for base, made in ((Subset, [whole, [0, 1]]), (ConcatDataset, [[whole]])):
        for name in ("__getitem__", "__getitems__", "__len__"):
            kind = type("Own", (base,), {name: lambda self, *index: 1, "__getitems__": lambda self, indices: indices})
            with pytest.raises(SourceError, match=f"Own: must read samples as {base.__name__} does, got a __"):
                as_source(kind(*made))


def test_a_function_that_only_looks_like_the_loader_is_refused(folder):
    from functools import wraps

    @wraps(tv.folder.default_loader)
    def grey(path):
        return Image.open(path).convert("L").convert("RGB")

    with pytest.raises(SourceError, match="ImageFolder: loader must be"):
        as_source(tv.ImageFolder(folder, loader=grey))


def test_arrays_that_are_changed_on_their_way_are_refused():
    class Inverted(Dataset):
        data, targets, transform = np.arange(96, dtype=np.uint8).reshape(2, 4, 4, 3), [0, 1], CHAIN

        def __len__(self):
            return 2

        def __getitem__(self, index):
            return self.transform(Image.fromarray(self.show(self.data[index]))), self.targets[index]

        def show(self, pixels):
            return 255 - pixels

    with pytest.raises(SourceError, match="changes the pixels of sample 0"):
        as_source(Inverted())
    plain = type("Plain", (Inverted,), {"show": lambda self, pixels: pixels})
    assert len(as_source(plain())[0]) == 2
