"""The ceiling: DALI decodes what the recipe needs decoded, and nothing else is done."""

from __future__ import annotations

import os
from collections.abc import Callable, Iterable, Iterator
from contextlib import contextmanager
from typing import Any

import numpy as np
from numpy.typing import NDArray
from nvidia.dali import fn, types
from nvidia.dali.pipeline import Pipeline

from dalipipe.backends import Job, dali, dali_input
from dalipipe.benchmark.meter import Batch
from dalipipe.benchmark.work import Work
from dalipipe.decisions import randomness
from dalipipe.recipes import Recipe, ops
from dalipipe.recipes.primitives import ARGS
from dalipipe.sampling import Batch as Sampled
from dalipipe.sampling import batched
from dalipipe.sources import FolderSource, SubsetSource


class DecodeOnly:
    """A DALI pipeline that ends with the decoder.

    Where the recipe starts with a random crop, only the crop's window is decoded, as dalipipe's DALI backends do it.

    Args:
        work: What to load.
    """

    def __init__(self, work: Work) -> None:
        self._work = work
        self._source = FolderSource(work.root)

    @contextmanager
    def open(self, recipe: Recipe, indices: NDArray[np.int64]) -> Iterator[Iterable[Batch]]:
        """Open a loader over some images, in that order."""
        work = self._work
        job = Job(SubsetSource(self._source, indices), recipe, work.seed, work.batch_size, work.threads)
        yield self._batches(job)

    def _batches(self, job: Job) -> Iterator[Batch]:
        batches = batched(range(len(job.source)), job.batch_size, epoch=0, drop_last=False)
        pipeline = _build(job, lambda: _inputs(job, next(batches)))
        left = len(job.source)
        while left > 0:
            images, labels = pipeline.run()
            left -= len(labels)
            yield images, labels


def _inputs(job: Job, batch: Sampled) -> tuple[Any, Any, Any]:
    """Return paths, uniforms and labels of a batch as DALI takes them."""
    paths = [np.frombuffer(os.fsencode(str(job.source.item(at))), dtype=np.uint8) for at in batch.indices.tolist()]
    uniforms = randomness.uniforms(job.program.counts, job.seed, batch.epoch, batch.indices, batch.occurrences)
    return paths, uniforms, job.source.labels[batch.indices]


def _build(job: Job, feed: Callable[[], tuple[Any, Any, Any]]) -> Pipeline:
    """Return a pipeline with outputs images (HWC uint8, each its own size) and labels."""
    windowed = bool(job.recipe.ops) and isinstance(job.recipe.ops[0], ops.RandomResizedCrop)
    pipeline = Pipeline(
        batch_size=job.batch_size,
        num_threads=job.num_threads,
        device_id=None,
        prefetch_queue_depth=job.prefetch,
        exec_dynamic=True,
    )
    with pipeline:
        if windowed:
            item, uniforms, label = fn.external_source(
                source=feed, num_outputs=3, dtype=[types.UINT8, types.FLOAT64, types.INT64], ndim=[1, 1, 0]
            )
            loaded = dali_input.load(item, "path", turned=False)
            records, _ = dali.resolve_node(job.program, uniforms, loaded.shape)
            box = fn.cast(records[0, ARGS : ARGS + 4], dtype=types.INT32)
            images, _ = loaded.decode("cpu", {"start": box[0:2], "shape": box[2:4]})
        else:  # DALI warns of an output that nobody uses
            item, label = fn.external_source(
                source=lambda: feed()[::2], num_outputs=2, dtype=[types.UINT8, types.INT64], ndim=[1, 0]
            )
            images, _ = dali_input.load(item, "path", turned=False).decode("cpu")
        pipeline.set_outputs(images, label)
    return pipeline
