"""What can go wrong in the middle of a run, told so that one can act on it."""

from __future__ import annotations

import math
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

import torch

from dalipipe.errors import DivergedError, ResourceError
from dalipipe.sources import list_names, name_of
from dalipipe.training.config import TrainConfig

_CPU_MEMORY = ("DefaultCPUAllocator", "not enough memory", "can't allocate memory")
_MOST_NAMES = 256
_HIGH_START = 1.5  # nats above ln(classes); a fresh last layer on features of a usual size begins below 0.5


def files_of(loader: Any) -> str:
    """Return the names of the files in the batch that a loader has handed out last; empty where it doesn't know."""
    indices, source = getattr(loader, "last_indices", None), getattr(loader, "source", None)
    if indices is None or source is None:
        return ""
    return list_names([name_of(source, int(index)) for index in indices], _MOST_NAMES)


def high_start(loss: float, classes: int) -> str:
    """Return what is wrong where a run's first loss is far above that of a network that knows nothing; empty if not.

    Args:
        loss: Mean cross-entropy of the first batch, in nats.
        classes: How many there are.
    """
    blind = math.log(classes)
    if loss <= blind + max(_HIGH_START, blind / 2):
        return ""
    return (
        f"the loss should begin near ln({classes}) = {blind:.2f}, where all classes are as likely, got {loss:.2f}. The "
        "images or the last layer don't fit the weights: use --recipe auto, or other --weights."
    )


def check_finite(where: str, loss: float, loader: Any = None) -> None:
    """Stop a run whose loss is no number.

    Raises:
        DivergedError: it is NaN or infinite; the message names the files of the batch.
    """
    if math.isfinite(loss):
        return
    files = files_of(loader)
    raise DivergedError(
        f"{where}: the loss must be a finite number, got {loss}. "
        + (f"The images of the batch: {files}. " if files else "")
        + "Lower --lr, or add --clip-norm 1; the checkpoints from before are kept."
    )


@contextmanager
def memory_explained(where: str, cfg: TrainConfig) -> Iterator[None]:
    """Say what to lower where memory does not suffice.

    Raises:
        ResourceError: it doesn't.
    """
    try:
        yield
    except (torch.OutOfMemoryError, MemoryError, RuntimeError) as error:
        is_memory = isinstance(error, torch.OutOfMemoryError | MemoryError)
        if not is_memory and not any(words in str(error) for words in _CPU_MEMORY):
            raise
        batch = f"--batch-size (now {cfg.batch_size}; with --accumulate 2 half of it learns the same)"
        precision = ", use --precision bf16" if cfg.precision == "fp32" else ""
        raise ResourceError(
            f"{where}: needs more memory than there is. Lower {batch}{precision}, "
            f"take a recipe with smaller images or a smaller --model than {cfg.model}."
        ) from error
