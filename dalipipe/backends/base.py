"""What every backend is: something that turns batches of indices into batches of pixels, in order, losing none."""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping
from dataclasses import dataclass, field
from typing import Protocol

import torch

from dalipipe.geometry import Program, program
from dalipipe.recipe import Recipe
from dalipipe.sampling import Batch
from dalipipe.sources import Source


@dataclass(frozen=True)
class Job:
    """What a backend is to run, as one value.

    Attributes:
        source: Where the images come from.
        recipe: What is done to them.
        seed: Of every random decision.
        batch_size: Largest batch.
        num_threads: Threads that decode and augment.
        prefetch: Batches prepared ahead.
        device_id: CUDA device; only dali-gpu looks at it.
    """

    source: Source
    recipe: Recipe
    seed: int = 0
    batch_size: int = 1
    num_threads: int = 1
    prefetch: int = 2
    device_id: int = 0

    @property
    def program(self) -> Program:
        """The recipe's pixel ops as numbers."""
        return program(self.recipe)


@dataclass(frozen=True)
class Result:
    """What became of one batch.

    Attributes:
        batch: The samples asked for.
        images: (n, C, H, W) of the samples that could be processed, in order.
        labels: (n,) int64 of the same samples.
        failures: Reason for each position of `batch` that could not be processed.
    """

    batch: Batch
    images: torch.Tensor
    labels: torch.Tensor
    failures: Mapping[int, str] = field(default_factory=dict)


class Executor(Protocol):
    """A compiled recipe, ready to run one epoch at a time."""

    @property
    def device(self) -> torch.device:
        """Where the images end up."""
        ...

    def run(self, batches: Iterable[Batch]) -> Iterator[Result]:
        """Yield one result for each batch, in order.

        A bad file is reported in its batch's result and costs nothing else. Closing the iterator early gives up what
        was prepared ahead; the executor can then run again.
        """
        ...

    def close(self) -> None:
        """Release threads and memory."""
        ...
