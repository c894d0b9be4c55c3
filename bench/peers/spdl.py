"""SPDL: one pipeline of threads in the process that trains.

The threads run torchvision's decoder and its transforms on tensors, as SPDL's guide to moving over from PyTorch has
it. SPDL's own decoder with FFmpeg's filters for the crop, the resize and the flip took a third more CPU time.
"""

# /// script
# requires-python = "==3.11.*"
# dependencies = ["spdl==0.8.0", "torch==2.14.1", "torchvision==0.29.1", "psutil"]
# ///

from __future__ import annotations

from collections.abc import Iterable, Iterator
from contextlib import contextmanager

import torch
from spdl.pipeline import Pipeline, PipelineBuilder
from torchvision.io import ImageReadMode, decode_jpeg, read_file
from torchvision.transforms import v2

from bench.peers.protocol import MEAN, SIZE_PX, STD, Batch, Task, main

File = tuple[str, int]

TRANSFORM = v2.Compose(
    [
        v2.RandomResizedCrop(SIZE_PX),
        v2.RandomHorizontalFlip(),
        v2.ToDtype(torch.float32, scale=True),
        v2.Normalize((MEAN / 255).tolist(), (STD / 255).tolist()),
    ]
)


def load(file: File) -> tuple[torch.Tensor, int]:
    return TRANSFORM(decode_jpeg(read_file(file[0]), mode=ImageReadMode.RGB)), file[1]


def stack(samples: list[tuple[torch.Tensor, int]]) -> Batch:
    images, labels = zip(*samples, strict=True)
    return torch.stack(images), torch.tensor(labels)


class Spdl:
    def __init__(self, task: Task) -> None:
        self._task = task
        torch.set_num_threads(1)  # the pipeline's threads are the parallelism, as its documentation advises

    def _build(self, order: Iterable[int]) -> Pipeline:
        return (
            PipelineBuilder()
            .add_source([self._task.files[index] for index in order])
            .pipe(load, concurrency=self._task.threads, output_order="input")
            .aggregate(self._task.batch_size)
            .pipe(stack)
            .add_sink(2)
            .build(num_threads=self._task.threads)
        )

    def first(self, count: int) -> Iterator[Batch]:
        with self.passes(list(range(count))) as batches:
            yield from batches

    @contextmanager
    def passes(self, order: list[int]) -> Iterator[Iterable[Batch]]:
        pipeline = self._build(order)
        with pipeline.auto_stop():
            yield pipeline


if __name__ == "__main__":
    main(Spdl, "spdl", "torch", "torchvision")
