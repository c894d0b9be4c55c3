"""What scripts do around their images, and what a loader must not take from them."""

import collections
import io
import random
import tarfile
import types
from pathlib import Path

import numpy as np
import pytest
import torch
import torchvision
from PIL import Image, ImageFont
from torch.utils.data import DataLoader as TorchLoader
from torch.utils.data import Dataset
from torchvision import transforms as v1
from torchvision import tv_tensors
from torchvision.transforms import v2

import dalipipe

RANDOM = v1.Compose([v1.RandomResizedCrop(12), v1.RandomHorizontalFlip(), v1.ToTensor()])
FIXED = v1.Compose([v1.Resize((12, 12)), v1.ToTensor()])
COUNT = 12


@pytest.fixture
def files(make_image_folder):
    return sorted(str(path) for path in make_image_folder().glob("*/*"))


class Own(Dataset):
    def __init__(self, files, sample):
        self.files, self.sample = files, sample

    def __len__(self):
        return len(self.files)

    def __getitem__(self, index):
        return self.sample(self, index)

    def picture(self, index):
        return Image.open(self.files[index]).convert("RGB")


def ours(dataset, *args, **kwargs):
    return dalipipe.DataLoader(dataset, *args, **{"num_threads": 1, "seed": 3, "backend": "torchvision", **kwargs})


def whole(loader):
    return [torch.cat(parts) for parts in zip(*loader, strict=True)]


def test_image_and_mask_go_the_same_way_where_the_data_set_seeds_them_alike(files):
    def sample(data, index):
        seed = int(torch.randint(2**31, ()))
        torch.manual_seed(seed)
        image = RANDOM(data.picture(index))
        torch.manual_seed(seed)
        return image, RANDOM(data.picture(index))

    one, other = whole(ours(Own(files, sample), 5))
    assert torch.equal(one, other)

    def restored(data, index):
        state = torch.get_rng_state()
        image = RANDOM(data.picture(index))
        torch.set_rng_state(state)
        return image, RANDOM(data.picture(index))

    again = v1.Compose([v1.RandomRotation(90), *RANDOM.transforms])

    def fixed(data, index):
        torch.manual_seed(index)
        return again(data.picture(index)), index

    loader = ours(Own(files, fixed), 5)
    assert torch.equal(whole(loader)[0], whole(loader)[0])
    assert whole(ours(Own(files, restored), 5))[0].shape == (COUNT, 3, 12, 12)


class Turn:
    """Notes what it did, for a label."""

    turned = 0

    def __call__(self, image):
        self.turned = random.randrange(4)
        return torch.rot90(image, self.turned, (1, 2))


def test_a_step_that_notes_what_it_did_tells_it_to_its_own_sample(files):
    turn = Turn()
    chain = v1.Compose([v1.Resize((12, 12)), v1.ToTensor(), turn])

    def sample(data, index):
        return chain(data.picture(index)), turn.turned, FIXED(data.picture(index))

    turned, labels, upright = whole(ours(Own(files, sample), 5))
    assert len(set(labels.tolist())) > 1
    for image, label, expected in zip(turned, labels.tolist(), upright, strict=True):
        assert torch.allclose(image, torch.rot90(expected, label, (1, 2)), atol=2 / 255)


def test_a_function_sees_what_the_data_set_has_set_for_its_sample(files):
    def sample(data, index):
        data.factor = index / COUNT
        return v1.Compose([*FIXED.transforms, v1.Lambda(lambda image: image * 0 + data.factor)])(data.picture(index))

    images = torch.cat(list(ours(Own(files, sample), 5)))
    assert torch.allclose(images[:, 0, 0, 0], torch.arange(COUNT) / COUNT)


def test_a_transform_that_changes_within_an_epoch_counts_at_once(files):
    resize, normalize = v1.Resize((12, 12)), v1.Normalize((0.0,) * 3, (1.0,) * 3)
    chain = v1.Compose([resize, v1.ToTensor(), normalize])

    def sample(data, index):
        resize.size = (12, 12 + 4 * (index // 6))
        normalize.mean = (float(index),) * 3
        if index == 6:
            chain.transforms.append(v1.Pad(2))
        return chain(data.picture(index))

    seen = list(ours(Own(files, sample), 6))
    assert [batch.shape[2:] for batch in seen] == [(12, 12), (16, 20)]
    assert [round(float(image.max())) for image in seen[0]] == [1 - index for index in range(6)]


def spoil(files):
    Path(files[2]).write_bytes(b"no image")
    Path(files[9]).write_bytes(Path(files[9]).read_bytes()[:200])


@pytest.mark.parametrize("look", [np.array, lambda image: image.resize((9, 9)), lambda image: image.size, FIXED])
def test_an_answer_to_what_opening_raises_counts_wherever_the_pixels_are_looked_at(files, look):
    spoil(files)

    def sample(data, index):
        try:
            image = Image.open(data.files[index]).convert("RGB")
            answered = 0
        except OSError:
            image, answered = Image.new("RGB", (20, 20)), 1
        look(image)
        return FIXED(image), answered

    theirs, mine = whole(TorchLoader(Own(files, sample), 5)), whole(ours(Own(files, sample), 5))
    assert torch.equal(theirs[1], mine[1]) and float((theirs[0] - mine[0]).abs().max()) <= 2 / 255


def test_images_that_go_to_a_function_are_decoded_where_the_data_set_can_answer(files):
    spoil(files)

    def sample(data, index):
        try:
            return data.picture(index)
        except OSError:
            return None

    def sizes(batch):
        return [image if image is None else image.size for image in batch]

    loader = ours(Own(files, sample), 5, collate_fn=sizes)
    assert [size for batch in loader for size in batch] == [
        size for batch in TorchLoader(Own(files, sample), 5, collate_fn=sizes) for size in batch
    ]
    strict = ours(Own(files, lambda data, index: data.picture(index)), 5, collate_fn=len, on_error="skip")
    assert list(strict) == [4, 4, 2] and [bad.index for bad in strict.bad_files] == [2, 9]


def test_what_a_step_raises_is_the_data_sets_to_catch(files):
    def odd(image):
        if round(float(image[0, 0, 0]) * 255) % 2:
            raise ValueError("too odd")
        return image

    chain = v1.Compose([v1.CenterCrop(4), v1.ToTensor(), odd])

    def sample(data, index):
        try:
            return chain(data.picture(index)), 0
        except ValueError:
            return torch.zeros(3, 4, 4), 1

    theirs, mine = whole(TorchLoader(Own(files, sample), 5)), whole(ours(Own(files, sample), 5))
    assert torch.equal(theirs[1], mine[1]) and 0 < int(mine[1].sum()) < COUNT
    with pytest.raises(ValueError, match="too odd"):
        list(ours(Own(files, lambda data, index: chain(data.picture(index))), 5))


def test_a_missing_file_is_bad_however_it_is_opened_and_a_missing_font_is_not(files):
    Path(files[4]).unlink()

    def opened(data, index):
        with open(data.files[index], "rb") as file:  # noqa: PTH123 (as people write it)
            return FIXED(Image.open(file).convert("RGB"))

    for sample in (opened, lambda data, index: FIXED(data.picture(index))):
        loader = ours(Own(files, sample), 5, on_error="skip")
        assert sum(map(len, loader)) == COUNT - 1 and [bad.path for bad in loader.bad_files] == [files[4]]

    def font(data, index):
        ImageFont.truetype("no such font")
        return FIXED(data.picture(index))

    with pytest.raises(OSError, match="cannot open resource"):
        list(ours(Own(files, font), 5, on_error="skip"))


def test_members_of_an_archive_are_not_the_archive(files, tmp_path):
    with tarfile.open(tmp_path / "all.tar", "w") as archive:
        for file in files:
            archive.add(file)
    with tarfile.open(tmp_path / "all.tar") as archive:

        def sample(data, index):
            return FIXED(Image.open(archive.extractfile(data.files[index].lstrip("/"))).convert("RGB"))

        theirs = torch.cat(list(TorchLoader(Own(files, sample), 5)))
        assert float((theirs - torch.cat(list(ours(Own(files, sample), 5)))).abs().max()) <= 2 / 255


def test_what_torch_asks_for_in_batches_is_asked_for_in_batches(files):
    class Padded(Own):
        def __getitems__(self, indices):
            longest = max(indices) + 1
            return [(FIXED(self.picture(index)), torch.zeros(longest)) for index in indices]

    for dataset in (Padded(files, None),):
        theirs, mine = list(TorchLoader(dataset, 5)), list(ours(dataset, 5, backend="dali-cpu"))
        for (images, lengths), (expected, others) in zip(mine, theirs, strict=True):
            assert lengths.shape == others.shape and float((images - expected).abs().max()) <= 2 / 255
    spoil(files)
    assert sum(len(batch[0]) for batch in ours(Padded(files, None), 1, on_error="skip")) == COUNT - 2


def test_an_image_folder_without_a_transform_goes_to_a_collate_function(files):
    folder = torchvision.datasets.ImageFolder(str(Path(files[0]).parents[1]))
    sizes = [[image.size for image, _ in batch] for batch in TorchLoader(folder, 5, collate_fn=list)]
    assert [[image.size for image, _ in batch] for batch in ours(folder, 5, collate_fn=list)] == sizes


def test_arrays_go_through_transforms_of_v2_as_they_do_there(files):
    chain = v2.Compose([v2.Resize((5, 5)), v2.ToImage(), v2.CenterCrop(4), v2.ToDtype(torch.float32, scale=True)])

    def sample(data, index):
        return chain(np.array(data.picture(index).resize((20, 20))))

    theirs, mine = (
        torch.cat(list(loader)) for loader in (TorchLoader(Own(files, sample), 5), ours(Own(files, sample), 5))
    )
    assert torch.allclose(theirs, mine, atol=1 / 255)


def test_steps_that_go_by_the_type_of_an_image_find_it(files):
    scaled = v2.ToDtype({tv_tensors.Image: torch.float32, "others": None}, scale=True)
    chain = v2.Compose([v2.ToImage(), v2.Resize((12, 12)), scaled])
    dataset = Own(files, lambda data, index: chain(data.picture(index)))
    theirs, mine = torch.cat(list(TorchLoader(dataset, 5))), torch.cat(list(ours(dataset, 5)))
    assert mine.dtype == theirs.dtype and float((theirs - mine).abs().max()) <= 2 / 255


def test_a_transform_that_works_in_place_does(files):
    def sample(data, index):
        image = FIXED(data.picture(index))
        v1.Normalize((1.0,) * 3, (1.0,) * 3, inplace=True)(image)
        return image

    assert float(torch.cat(list(ours(Own(files, sample), 5))).max()) <= 0


@pytest.mark.filterwarnings("ignore:To copy construct from a tensor")
@pytest.mark.parametrize("function", [torch.Tensor, torch.tensor, torch.FloatTensor, torch.nn.Parameter, torch.clone])
def test_what_copies_a_tensor_past_torchs_protocol_gets_no_empty_one(files, function):
    dataset = Own(files, lambda data, index: function(FIXED(data.picture(index))))
    theirs, mine = torch.cat(list(TorchLoader(dataset, 5))), torch.cat(list(ours(dataset, 5)))
    assert float((theirs - mine).detach().abs().max()) <= 2 / 255


class Named(collections.namedtuple("Named", "image label")):
    def __new__(cls, image):
        return super().__new__(cls, image, 7)


def test_containers_with_constructors_of_their_own(files):
    dataset = Own(files, lambda data, index: Named(FIXED(data.picture(index))))
    (first, *_) = ours(dataset, 5, collate_fn=lambda batch: batch)
    assert all(type(sample) is Named and sample.label == 7 for sample in first)
    simple = Own(files, lambda data, index: types.SimpleNamespace(image=FIXED(data.picture(index))))
    (first, *_) = ours(simple, 5, collate_fn=lambda batch: torch.stack([sample.image for sample in batch]))
    assert first.shape == (5, 3, 12, 12)


def test_verify_is_called_on_a_file_that_was_just_opened(files):
    def sample(data, index):
        Image.open(data.files[index]).verify()
        image = data.picture(index)
        cut = v1.Compose([v1.Resize(12), v1.ToTensor()])(image)
        image.close()
        return cut

    assert len(list(ours(Own(files, sample), 1))) == COUNT


def test_a_data_set_that_has_grown_is_refused(files):
    dataset = Own(list(files), lambda data, index: FIXED(data.picture(index)))
    loader = ours(dataset, 5)
    list(loader)
    dataset.files.append(files[0])
    with pytest.raises(dalipipe.ConfigError, match="had 12 samples when the loader was made, got 13 now"):
        list(loader)


def test_what_others_put_in_pillows_place_meanwhile_stays(files):
    before = Image.open
    batches = iter(ours(Own(files, lambda data, index: FIXED(data.picture(index))), 5))
    next(batches)
    inner = Image.open

    def other(*args, **kwargs):
        return inner(*args, **kwargs)

    Image.open = other
    try:
        list(batches)
        assert Image.open is other
        assert other(io.BytesIO(Path(files[0]).read_bytes())).size
    finally:
        Image.open = before


def test_what_is_left_for_later_is_as_it_was_when_it_was_left(files):
    normalize = v1.Normalize((0.0,) * 3, (1.0,) * 3)

    def sample(data, index):
        normalize.mean = [0.1 * index] * 3
        return normalize(v1.ToTensor()(data.picture(index).resize((9, 9))))

    class Sometimes:
        def __call__(self, image):
            return image if float(image[0, 0, 0]) < 0.4 else None

    chain = v1.Compose([v1.CenterCrop(4), v1.ToTensor(), Sometimes()])

    def missing(data, index):
        image = chain(data.picture(index))
        return (torch.zeros(3, 4, 4), 1) if image is None else (image, 0)

    for dataset in (Own(files, sample), Own(files, missing)):
        theirs, mine = list(TorchLoader(dataset, 5)), list(ours(dataset, 5))
        for one, other in zip(theirs, mine, strict=True):
            for first, second in zip(*((one, other) if isinstance(one, list) else ([one], [other])), strict=True):
                assert float((first - second).abs().max()) <= 2 / 255


@pytest.mark.parametrize("backend", ["torchvision", "dali-cpu"])
def test_a_transform_that_no_recipe_does_may_be_set_later(files, backend):
    folder = torchvision.datasets.ImageFolder(str(Path(files[0]).parents[1]), FIXED)
    loader = ours(folder, 5, backend=backend, shuffle=True, on_error="skip")
    before = [labels.tolist() for _, labels in loader]
    state = loader.state_dict()
    folder.transform = lambda image: v1.functional.to_tensor(image.resize((6, 6)))
    loader.set_epoch(0)
    batches = list(loader)
    assert [images.shape for images, _ in batches] == [(5, 3, 6, 6), (5, 3, 6, 6), (2, 3, 6, 6)]
    assert [labels.tolist() for _, labels in batches] == before
    with pytest.raises(dalipipe.StateError):
        loader.load_state_dict(state)
    cached = ours(torchvision.datasets.ImageFolder(folder.root, FIXED), 5, backend=backend, cache="ram")
    cached.dataset.transform = folder.transform
    with pytest.raises(dalipipe.RecipeError):
        list(cached)


def test_a_data_set_that_seeds_and_sets_back_is_asked_in_one_thread():
    class Fake(torchvision.datasets.FakeData):
        max_requests = 4

    dataset = Fake(64, (3, 9, 9), 50, v1.ToTensor())
    for _ in range(3):
        labels = [label for _, batch in ours(dataset, 16) for label in batch.tolist()]
        assert labels == [dataset[index][1] for index in range(64)]
