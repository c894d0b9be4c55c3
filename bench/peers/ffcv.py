"""FFCV: images in one file of its own, compiled pipelines, threads.

The file is written before anything is timed, as its users do once for a data set: with JPEG images (FFCV encodes them
again, at its default quality of 90) or with raw pixels. A loader compiles its pipeline when it is made, which takes
seconds; so it is made once, and a fresh epoch of it is timed each time. Batches are channels_last, FFCV's default.
"""

# /// script
# requires-python = "==3.11.*"
# dependencies = ["ffcv==1.0.2", "torch==2.14.1", "torchvision==0.29.1", "psutil"]
# ///
# Debian packages: g++ pkg-config libopencv-dev libturbojpeg0-dev

from __future__ import annotations

import tempfile
from collections.abc import Iterable, Iterator
from contextlib import contextmanager

import numpy as np
from ffcv.fields import IntField, RGBImageField
from ffcv.fields.basics import IntDecoder
from ffcv.fields.rgb_image import RandomResizedCropRGBImageDecoder
from ffcv.loader import Loader, OrderOption
from ffcv.transforms import NormalizeImage, RandomHorizontalFlip, Squeeze, ToTensor, ToTorchImage
from ffcv.writer import DatasetWriter
from PIL import Image

from bench.peers.protocol import MEAN, SIZE_PX, STD, Batch, Task, main


class Files:
    def __init__(self, task: Task) -> None:
        self._files = task.files

    def __len__(self) -> int:
        return len(self._files)

    def __getitem__(self, index: int) -> tuple[Image.Image, int]:
        path, label = self._files[index]
        with Image.open(path) as image:
            return image.convert("RGB"), label


class Ffcv:
    def __init__(self, task: Task) -> None:
        self._task = task
        self._folder = tempfile.TemporaryDirectory()
        self._file = f"{self._folder.name}/images.beton"
        mode = "raw" if task.name.endswith("raw") else "jpg"
        fields = {"image": RGBImageField(write_mode=mode), "label": IntField()}
        DatasetWriter(self._file, fields, num_workers=task.threads).from_indexed_dataset(Files(task))
        self._loader = self._make()

    def _make(self) -> Loader:
        return Loader(
            self._file,
            batch_size=self._task.batch_size,
            num_workers=self._task.threads,
            order=OrderOption.SEQUENTIAL,
            os_cache=True,
            drop_last=False,
            pipelines={
                "image": [
                    RandomResizedCropRGBImageDecoder((SIZE_PX, SIZE_PX)),
                    RandomHorizontalFlip(),
                    NormalizeImage(MEAN, STD, np.float32),
                    ToTensor(),
                    ToTorchImage(),
                ],
                "label": [IntDecoder(), ToTensor(), Squeeze()],
            },
        )

    def _epoch(self, order: list[int]) -> Iterable[Batch]:
        loader, indices = self._loader, np.array(order, dtype=np.uint64)
        loader.traversal_order.indices = loader.first_traversal_order = indices
        return loader

    def first(self, count: int) -> Iterable[Batch]:
        return ((images.clone(), labels.clone()) for images, labels in self._epoch(list(range(count))))

    @contextmanager
    def passes(self, order: list[int]) -> Iterator[Iterable[Batch]]:
        yield self._epoch(order)


if __name__ == "__main__":
    main(Ffcv, "ffcv", "torch", "numba", "numpy", "opencv-python")
