"""DALI's own iterator over what a loader loads, for who wants nothing around it."""

from __future__ import annotations

import math
from dataclasses import replace
from typing import TYPE_CHECKING

from dalipipe.backends import compile_recipe
from dalipipe.errors import BackendError
from dalipipe.loading.loader import DataLoader

if TYPE_CHECKING:
    from nvidia.dali.plugin.pytorch import DALIGenericIterator


def dali_iterator(loader: DataLoader, epoch: int = 0) -> DALIGenericIterator:
    """Return the DALIGenericIterator itself, over one epoch of a loader with a DALI backend.

    Each step yields a list with one dict: "images" and "labels" as the loader has them, and "status", (n, 1) int32, 0
    for a sample that could be processed (`dalipipe.decisions.Status`). A bad file raises DALI's own RuntimeError.

    Args:
        loader: Its source, recipe, backend and batches are used; it stays usable.
        epoch: Number of the epoch, for the order and the random decisions.

    Raises:
        BackendError: the loader's backend is not one of DALI's.
    """
    if loader.backend == "torchvision":
        raise BackendError(
            'dali_iterator: the backend must be one of DALI\'s, got "torchvision". Use "dali-cpu-stock".'
        )
    from dalipipe.backends.dali_executor import DaliExecutor

    batches = list(loader.batches(epoch))  # a batch sampler may give larger ones than it says
    largest = max([loader.job.batch_size, *map(len, batches)])
    job = replace(loader.job, batch_size=largest, decoded_bytes=math.inf)  # nobody would run again what is put off
    executor = compile_recipe(job, loader.backend)
    assert isinstance(executor, DaliExecutor)
    return executor.iterator(batches)
