"""Data sets as people write them: a batch has the structure, types and values that torch's loader gives it."""

import collections
import dataclasses
import io
import random
import zipfile

import numpy as np
import pytest
import torch
import torchvision
from PIL import Image, ImageEnhance, ImageFilter, ImageOps
from torch.utils.data import ConcatDataset, Dataset, StackDataset, Subset, TensorDataset
from torch.utils.data import DataLoader as TorchLoader
from torchvision import transforms as v1
from torchvision import tv_tensors
from torchvision.transforms import functional, v2

import dalipipe

BACKENDS = ["torchvision", "dali-cpu", "dali-cpu-stock"]
FIXED = v1.Compose([v1.Resize((24, 20)), v1.ToTensor(), v1.Normalize((0.5,) * 3, (0.25,) * 3)])
RANDOM = v1.Compose([v1.RandomResizedCrop(16), v1.RandomHorizontalFlip(), v1.ToTensor()])
COUNT = 7


@pytest.fixture(scope="module")
def files(tmp_path_factory):
    folder = tmp_path_factory.mktemp("kinds")
    found = []
    for index in range(COUNT):
        height, width = 37 + 3 * index, 53 - 2 * index
        rows, columns = np.mgrid[0:height, 0:width]
        pixels = np.stack([rows * 3, columns * 2, (rows + columns) * 2 + 9 * index], axis=2).clip(0, 255)
        found.append(str(folder / f"{index}.jpg"))
        Image.fromarray(pixels.astype(np.uint8)).save(found[-1], quality=95)
    return found


class Own(Dataset):
    """Paths and a function that makes a sample of one: see `KINDS`."""

    def __init__(self, files, sample, transform=FIXED):
        self.files, self.sample, self.transform = files, sample, transform

    def __len__(self):
        return len(self.files)

    def picture(self, index):
        return Image.open(self.files[index]).convert("RGB")

    def __getitem__(self, index):
        return self.sample(self, index)


@dataclasses.dataclass
class Sample:
    image: torch.Tensor
    label: int


class Thing:
    def __init__(self, image):
        self.image = image


Pair = collections.namedtuple("Pair", "image label")


class Blur:
    def __call__(self, image):
        return image.filter(ImageFilter.GaussianBlur(1.5))


class Noise:
    def __call__(self, tensor):
        return tensor + 0.1 * torch.rand_like(tensor)


def in_block(data, index):
    with open(data.files[index], "rb") as file, Image.open(file) as image:  # noqa: PTH123 (as people write it)
        return data.transform(image.convert("RGB")), image.size[0]


def from_bytes(data, index):
    with open(data.files[index], "rb") as file:  # noqa: PTH123 (as people write it)
        return data.transform(Image.open(io.BytesIO(file.read())).convert("RGB")), index


def loaded(data, index):
    image = Image.open(data.files[index])
    image.load()
    image = image.copy()
    return data.transform(image if image.mode == "RGB" else image.convert("RGB")), image.getpixel((3, 2))


def thumbnail(data, index):
    image = Image.open(data.files[index])
    image.thumbnail((20, 20))
    return v1.ToTensor()(ImageEnhance.Color(ImageOps.pad(image, (24, 24))).enhance(1.5)), index


def turned(data, index):
    return data.transform(ImageOps.exif_transpose(Image.open(data.files[index])).convert("RGB")), index


def steps(data, index):
    image = v1.CenterCrop(20)(v1.Resize(24)(data.picture(index)))
    return v1.Normalize((0.5,) * 3, (0.25,) * 3)(v1.ToTensor()(image)), index


def functions(data, index):
    return functional.to_tensor(functional.center_crop(functional.resize(data.picture(index), 30), 20)), index


def chosen_size(data, index):
    image = data.picture(index)
    side = min(image.size)
    return v1.Compose([v1.CenterCrop(side), v1.Resize((18, 18)), v1.ToTensor()])(image), image.size


def joint(data, index):
    image = tv_tensors.Image(data.picture(index))
    mask = tv_tensors.Mask(torch.full((1, *image.shape[1:]), index, dtype=torch.uint8))
    return v2.Compose([v2.RandomHorizontalFlip(1.0), v2.Resize((20, 20))])(image, mask)


def levels(data, index):
    tensor = torchvision.io.read_image(data.files[index])
    return v2.Compose([v2.Resize((20, 20), antialias=True), v2.ToDtype(torch.float32, scale=True)])(tensor), index


def nested(data, index):
    image = data.transform(data.picture(index))
    return {"a": [image, ("x", index)], "b": {"c": 0.5 * index, "d": bool(index % 2), "e": np.arange(3) + index}}


def two(data, index):
    return [data.transform(data.picture(index)), data.transform(data.picture((index + 3) % COUNT))], index


def five(data, index):
    crops = v1.Compose([v1.Resize(30), v1.FiveCrop(16), v1.Lambda(lambda each: torch.stack(list(map(FIXED, each))))])
    return crops(data.picture(index)), index


def stacked(batch):
    return {"x": torch.stack([part.image for part in batch]), "n": len(batch)}


def decoded(batch):
    pixels = [torch.from_numpy(np.array(image.resize((20, 20)))) for image, _ in batch]
    return torch.stack(pixels).permute(0, 3, 1, 2).float() / 255, [label for _, label in batch]


plain = (lambda data, index: (data.transform(data.picture(index)), index), FIXED)

KINDS = {
    "pair": (*plain, {}),
    "image alone": (lambda data, index: data.transform(data.picture(index)), FIXED, {}),
    "dict": (lambda data, index: {"image": data.transform(data.picture(index)), "path": str(index)}, FIXED, {}),
    "named tuple": (lambda data, index: Pair(data.transform(data.picture(index)), index), FIXED, {}),
    "data class": (lambda data, index: Sample(data.transform(data.picture(index)), 1), FIXED, {"collate_fn": stacked}),
    "object": (lambda data, index: Thing(data.transform(data.picture(index))), FIXED, {"collate_fn": stacked}),
    "nested": (nested, FIXED, {}),
    "multi-hot": (lambda data, index: (data.transform(data.picture(index)), torch.eye(9)[index]), FIXED, {}),
    "two images": (two, FIXED, {}),
    "open file": (in_block, FIXED, {}),
    "bytes": (from_bytes, FIXED, {}),
    "loaded": (loaded, FIXED, {}),
    "thumbnail": (thumbnail, FIXED, {}),
    "turned": (turned, FIXED, {}),
    "grey": (lambda data, index: data.transform(data.picture(index).convert("L").convert("RGB")), FIXED, {}),
    "crop before": (lambda data, index: data.transform(data.picture(index).crop((3, 4, 30, 33))), FIXED, {}),
    "arithmetic behind": (lambda data, index: data.transform(data.picture(index)) * 2 - 1, FIXED, {}),
    "NumPy behind": (lambda data, index: data.transform(data.picture(index)).numpy(), FIXED, {}),
    "half behind": (lambda data, index: data.transform(data.picture(index)).half(), FIXED, {}),
    "single transforms": (steps, FIXED, {}),
    "functions": (functions, FIXED, {}),
    "transform of the size": (chosen_size, FIXED, {}),
    "image and mask": (joint, FIXED, {}),
    "torchvision.io": (levels, FIXED, {}),
    "array": (lambda data, index: data.transform(Image.fromarray(255 - np.asarray(data.picture(index)))), FIXED, {}),
    "five crops": (five, FIXED, {}),
    "one channel": (*plain[:1], v1.Compose([v1.Grayscale(), v1.Resize((20, 20)), v1.ToTensor()]), {}),
    "own step first": (*plain[:1], v1.Compose([Blur(), v1.Resize((20, 20)), v1.ToTensor()]), {}),
    "own step within": (*plain[:1], v1.Compose([v1.Resize((20, 20)), Blur(), v1.CenterCrop(16), v1.ToTensor()]), {}),
    "lambda last": (*plain[:1], v1.Compose([*FIXED.transforms, v1.Lambda(lambda image: image.flip(0))]), {}),
    "array last": (*plain[:1], v1.Compose([v1.Resize((20, 20)), np.array]), {}),
    "size of its own": (*plain[:1], v1.Compose([v1.Resize(20), v1.ToTensor()]), {"batch_size": 1}),
    "v2": (*plain[:1], v2.Compose([v2.ToImage(), v2.Resize((20, 20)), v2.ToDtype(torch.float32, scale=True)]), {}),
    "images to a function": (lambda data, index: (data.picture(index), index), None, {"collate_fn": decoded}),
    "list to a function": (*plain, {"collate_fn": list}),
    "single samples": (*plain, {"batch_size": None}),
    "no image": (lambda data, index: {"x": torch.arange(index, index + 3), "y": str(index)}, None, {}),
}


def alike(ours, theirs, levels):
    """Assert that two batches have one structure and the same values; images may be some levels of 255 apart."""
    assert type(ours) is type(theirs)
    if isinstance(theirs, dict):
        assert ours.keys() == theirs.keys()
        ours, theirs = list(ours.values()), list(theirs.values())
    if isinstance(theirs, list | tuple):
        assert len(ours) == len(theirs)
        for one, other in zip(ours, theirs, strict=True):
            alike(one, other, levels)
    elif isinstance(theirs, torch.Tensor):
        assert (ours.dtype, ours.shape) == (theirs.dtype, theirs.shape)
        allowed = levels / 255 / 0.25 if theirs.is_floating_point() else levels
        assert float((ours.float() - theirs.float()).abs().max()) <= (allowed + 1e-4 if theirs.ndim >= 3 else 0)
    elif isinstance(theirs, np.ndarray):
        alike(torch.from_numpy(ours), torch.from_numpy(theirs), levels)
    else:
        assert ours == theirs


def both(dataset, backend="torchvision", **arguments):
    """Return torch's batches and ours."""
    arguments = {"batch_size": 3, **arguments}
    with dalipipe.DataLoader(dataset, backend=backend, num_threads=1, seed=5, **arguments) as loader:
        return list(TorchLoader(dataset, **arguments)), list(loader)


@pytest.mark.parametrize("backend", BACKENDS)
@pytest.mark.parametrize("kind", KINDS)
@pytest.mark.filterwarnings("ignore:The image decoding and encoding capabilities of TorchVision are deprecated")
def test_a_batch_is_what_torch_makes_of_the_samples(files, kind, backend):
    sample, transform, arguments = KINDS[kind]
    theirs, ours = both(Own(files, sample, transform), backend, **arguments)
    assert len(ours) == len(theirs)
    alike(ours, theirs, 3)


def test_whatever_holds_data_sets_is_asked_too(files):
    own = Own(files, *plain)
    other = Own(files, lambda data, index: (data.transform(data.picture(index)), -index))
    wholes = (Subset(own, [4, 4, 1]), ConcatDataset([own, other]), StackDataset(image=own, number=range(COUNT)),
              Subset(ConcatDataset([other, own]), [9, 2]), [own[0], own[3]])  # fmt: skip
    for whole in wholes:
        theirs, ours = both(whole)
        alike(ours, theirs, 1)


def test_what_has_no_images_is_collated(files):
    for dataset in (TensorDataset(torch.rand(7, 3, 4), torch.arange(7)), list(range(5)), ["a", "b"]):
        theirs, ours = both(dataset)
        alike(ours, theirs, 0)


def test_torchvisions_own_are_asked_where_a_recipe_cant_do_their_transform(make_image_folder):
    folder = make_image_folder()
    for transform in (v1.Compose([*FIXED.transforms, Noise()]), v1.Compose([v1.Resize((8, 8)), Blur(), v1.ToTensor()])):
        theirs, ours = both(torchvision.datasets.ImageFolder(folder, transform))
        assert [len(batch[0]) for batch in ours] == [len(batch[0]) for batch in theirs]
        assert all(torch.equal(one[1], other[1]) for one, other in zip(ours, theirs, strict=True))
    multi = torchvision.datasets.ImageFolder(folder, FIXED, target_transform=lambda label: torch.eye(4)[label])
    theirs, ours = both(multi)
    alike(ours, theirs, 1)


def test_archives_and_arrays_are_asked(files, tmp_path):
    with zipfile.ZipFile(tmp_path / "all.zip", "w") as archive:
        for file in files:
            archive.write(file)
    archive = zipfile.ZipFile(tmp_path / "all.zip")

    def packed(data, index):
        with archive.open(data.files[index].lstrip("/")) as file:
            return data.transform(Image.open(file).convert("RGB")), index

    theirs, ours = both(Own(files, packed))
    alike(ours, theirs, 1)
    pixels = np.random.default_rng(0).integers(0, 256, (COUNT, 21, 19, 3), dtype=np.uint8)
    for transform in (FIXED, v1.ToTensor()):
        theirs, ours = both(Own(files, lambda data, index: (data.transform(pixels[index]), index), v1.Compose(
            [v1.ToPILImage(), transform])))  # fmt: skip
        alike(ours, theirs, 1)
    archive.close()


def test_images_of_any_mode_are_what_torch_makes_of_them(files, tmp_path):
    made = []
    for number, mode in enumerate(["RGB", "P", "RGBA", "L", "1", "LA", "CMYK"]):
        path = tmp_path / f"{number}.{'tiff' if mode == 'CMYK' else 'png'}"
        Image.open(files[number]).convert(mode).save(path)
        made.append(str(path))
    theirs, ours = both(Own(made, *plain))
    alike(ours, theirs, 1)
    grey = [made[3]] * 4
    as_they_are = Own(grey, lambda data, index: data.transform(Image.open(data.files[index])))
    as_they_are.transform = v1.Compose([v1.Resize((20, 20)), v1.ToTensor()])
    theirs, ours = both(as_they_are)
    assert ours[0].shape == (3, 1, 20, 20)
    alike(ours, theirs, 1)


def test_a_recipe_takes_the_place_of_the_transforms(files):
    recipe = dalipipe.Recipe.from_torchvision(v1.Compose([v1.Resize((12, 14)), v1.ToTensor()]))
    for sample in (plain[0], lambda data, index: (data.picture(index), index)):
        (images, labels), *_ = dalipipe.DataLoader(
            Own(files, sample), 4, recipe=recipe, backend="torchvision", num_threads=1
        )
        assert images.shape == (4, 3, 12, 14) and labels.tolist() == [0, 1, 2, 3]


def test_images_without_a_transform_are_refused_with_what_to_do(files):
    loader = dalipipe.DataLoader(Own(files, lambda data, index: (data.picture(index), index)), 4, num_threads=1)
    with pytest.raises(dalipipe.ConfigError, match=r"gives PIL images.* give recipe="):
        next(iter(loader))


def test_what_is_drawn_within_a_sample_is_repeatable_and_leaves_the_generators_alone(files):
    def drawn(data, index):
        return random.random(), np.random.rand(), torch.rand(2), data.transform(data.picture(random.randrange(COUNT)))

    def epochs(batch_size, **more):
        torch.manual_seed(1)
        with dalipipe.DataLoader(Own(files, drawn), batch_size, seed=9, num_threads=1, **more) as loader:
            return [[torch.cat(parts) if torch.is_tensor(parts[0]) else parts for parts in zip(*loader, strict=True)]
                    for _ in range(2)]  # fmt: skip

    before = random.getstate(), np.random.get_state()[1].tolist(), torch.get_rng_state()
    one, other = epochs(2, backend="torchvision"), epochs(5, backend="dali-cpu")
    torch.manual_seed(1)
    assert random.getstate() == before[0] and np.random.get_state()[1].tolist() == before[1]
    for first, second in zip(one, other, strict=True):
        for mine, its in zip(first[:3], second[:3], strict=True):
            assert torch.equal(mine, its)
        alike(first[3], second[3], 1)
    assert not torch.equal(one[0][0], one[1][0]) and len(set(one[0][0].tolist())) == COUNT
