"""Data sets as people write them, and what the tests of asked data sets do with them."""

from pathlib import Path

import torch
from PIL import Image, UnidentifiedImageError
from torch.utils.data import Dataset
from torchvision import transforms as v1

import dalipipe

BACKENDS = ["torchvision", "dali-cpu", "dali-cpu-stock"]
RANDOM = v1.Compose([v1.RandomResizedCrop(16), v1.RandomHorizontalFlip(), v1.ToTensor()])
OTHER = v1.Compose([v1.RandomResizedCrop(8, scale=(0.1, 0.4)), v1.ToTensor()])
COUNT = 12


class Own(Dataset):
    def __init__(self, files, *transforms):
        self.files, self.transforms = list(files), transforms or (RANDOM,)

    def __len__(self):
        return len(self.files)

    def __getitem__(self, index):
        image = Image.open(self.files[index]).convert("RGB")
        return [transform(image) for transform in self.transforms], index


class Patient(Own):
    """Has another image where one can't be read, as many scripts do."""

    def __getitem__(self, index):
        try:
            return super().__getitem__(index)
        except (OSError, UnidentifiedImageError):
            return super().__getitem__((index + 1) % len(self.files))


def ours(dataset, *args, **kwargs):
    return dalipipe.DataLoader(dataset, *args, **{"num_threads": 1, "seed": 3, "backend": "torchvision", **kwargs})


def whole(loader):
    """Return the views of an epoch, and the indices."""
    batches = list(loader)
    return [torch.cat(view) for view in zip(*(views for views, _ in batches), strict=True)], [
        index for _, indices in batches for index in indices.tolist()
    ]


def close(one, other):
    return float((one - other).abs().max()) <= 2 / 255


def damage(files):
    """Spoil some files in different ways, and return their positions."""
    Path(files[1]).write_bytes(b"no image")
    data = Path(files[4]).read_bytes()
    Path(files[4]).write_bytes(data[: len(data) // 3])
    Path(files[7]).unlink()
    return [1, 4, 7]
