"""WebDataset: tar files read in sequence by worker processes, Pillow, torchvision's transforms.

The tar files hold the images as they are, and are written before anything is timed.
"""

# /// script
# requires-python = "==3.11.*"
# dependencies = ["webdataset==1.0.2", "torch==2.14.1", "torchvision==0.29.1", "psutil"]
# ///

from __future__ import annotations

import tempfile
from collections.abc import Iterable, Iterator
from contextlib import contextmanager
from pathlib import Path

import torch
import webdataset
from torchvision.transforms import v2

from bench.peers.protocol import MEAN, SIZE_PX, STD, Batch, Task, main

SHARDS_A_WORKER = 2

TRANSFORM = v2.Compose(
    [
        v2.RandomResizedCrop(SIZE_PX),
        v2.RandomHorizontalFlip(),
        v2.PILToTensor(),
        v2.ToDtype(torch.float32, scale=True),
        v2.Normalize((MEAN / 255).tolist(), (STD / 255).tolist()),
    ]
)


def keep(label: int) -> int:
    return label


class WebDataset:
    def __init__(self, task: Task) -> None:
        self._task = task
        self._folder = tempfile.TemporaryDirectory()
        shards = SHARDS_A_WORKER * task.threads
        self._shards = [str(Path(self._folder.name, f"{number:03d}.tar")) for number in range(shards)]
        per_shard = -(-len(task.files) // shards)
        for number, name in enumerate(self._shards):
            with webdataset.TarWriter(name) as tar:
                for position, (path, label) in enumerate(task.files[number * per_shard : (number + 1) * per_shard]):
                    key = f"{number * per_shard + position:06d}"
                    tar.write({"__key__": key, "jpg": Path(path).read_bytes(), "cls": label})

    def _loader(self, shards: list[str], *, shuffle: bool) -> webdataset.WebLoader:
        dataset = webdataset.WebDataset(shards, shardshuffle=len(shards) if shuffle else False, empty_check=False)
        if shuffle:
            dataset = dataset.shuffle(1000, initial=self._task.batch_size)
        dataset = dataset.decode("pil").to_tuple("jpg", "cls").map_tuple(TRANSFORM, keep)
        workers = self._task.threads if shuffle else 0
        return webdataset.WebLoader(dataset.batched(self._task.batch_size), batch_size=None, num_workers=workers)

    def first(self, count: int) -> Iterable[Batch]:
        left = count
        for images, labels in self._loader(self._shards, shuffle=False):
            yield images, labels
            left -= len(labels)
            if left <= 0:
                return

    @contextmanager
    def passes(self, order: list[int]) -> Iterator[Iterable[Batch]]:
        yield self._loader(self._shards * (len(order) // len(self._task.files)), shuffle=True)


if __name__ == "__main__":
    main(WebDataset, "webdataset", "torch", "torchvision", "pillow")
