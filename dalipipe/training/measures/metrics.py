"""What is measured in an epoch: loss, accuracy, and where the time went."""

from __future__ import annotations

import time
from collections.abc import Callable, Iterable, Iterator, Sized
from dataclasses import asdict, dataclass
from typing import TYPE_CHECKING, Final, Protocol, TypeAlias

if TYPE_CHECKING:
    from torch import Tensor

Batch: TypeAlias = "tuple[Tensor, Tensor]"
"""Images, float32 NCHW, and their labels, int64 (N,)."""

TIMES: Final = ("img_per_s", "data_wait_fraction")
"""What of an epoch is never the same twice."""


class Batches(Sized, Protocol):
    """A known number of batches: a loader, or a list."""

    def __iter__(self) -> Iterator[Batch]: ...


@dataclass(frozen=True)
class EpochMetrics:
    """What is known of an epoch: its line of metrics.jsonl and, of its time, that of timing.jsonl.

    Attributes:
        epoch: Counted from 1.
        train_loss: Mean loss over the epoch's training images, each as the network was when it saw it; with label
            smoothing, MixUp, CutMix and class weights, as these have it.
        train_acc: Share of them whose most likely class was right.
        val_loss: Mean cross-entropy of the validation images, at the end of the epoch.
        val_acc: Share of them whose most likely class was right.
        val_top5: Share of them whose class was among the five most likely.
        val_macro_f1: Mean of the F1 of the classes.
        val_calibration_error: Expected calibration error, see `evaluation.Evaluation`.
        lr: Learning rate of the head in the epoch's last step.
        img_per_s: Training images over the seconds of the training pass, the wait for the first batch included.
        data_wait_fraction: Share of those seconds in which the network waited for images.
    """

    epoch: int
    train_loss: float
    train_acc: float
    val_loss: float
    val_acc: float
    val_top5: float
    val_macro_f1: float
    val_calibration_error: float
    lr: float
    img_per_s: float
    data_wait_fraction: float

    def measures(self) -> dict[str, float]:
        """Return all but the times: two runs that do the same have the same."""
        return {name: value for name, value in asdict(self).items() if name not in TIMES}

    def timing(self) -> dict[str, float]:
        """Return the epoch and its times. Of an epoch that was broken off they are those of what came after."""
        return {"epoch": self.epoch, **{name: getattr(self, name) for name in TIMES}}


@dataclass
class Tally:
    """Loss and accuracy over the images seen so far; batches count by their size."""

    images: int = 0
    loss_sum: float = 0.0
    correct: int = 0

    def add(self, loss: float, logits: Tensor, labels: Tensor) -> None:
        """Count one batch.

        Args:
            loss: Mean loss of the batch.
            logits: Shape (N, classes).
            labels: Shape (N,).
        """
        self.count(loss, len(labels), int((logits.argmax(dim=1) == labels).sum()))

    def count(self, loss: float, images: int, correct: int) -> None:
        """Count a batch of so many images with a mean loss, of which so many were classified right."""
        self.images += images
        self.loss_sum += loss * images
        self.correct += correct

    @property
    def loss(self) -> float:
        """Mean loss per image."""
        return self.loss_sum / self.images

    @property
    def accuracy(self) -> float:
        """Share of images classified right."""
        return self.correct / self.images


class Meter:
    """Times one pass over batches as the network feels it: the wait for the first batch counts.

    What does not count is the time in which kernels are compiled, since that is spent once per version.

    Args:
        clock: Seconds; replaced in tests.
        compiling: Seconds that this process has compiled so far; replaced in tests.
    """

    def __init__(
        self, clock: Callable[[], float] = time.perf_counter, compiling: Callable[[], float] | None = None
    ) -> None:
        from dalipipe.compilation import seconds  # here, since it loads Numba

        compiled = compiling or seconds
        before_s = compiled()
        self._clock: Callable[[], float] = lambda: clock() - (compiled() - before_s)
        self._start: float | None = None
        self._end: float | None = None
        self._waited_s = 0.0
        self._images = 0

    def watch(self, batches: Iterable[Batch]) -> Iterator[Batch]:
        """Yield the batches. What happens between two of them is the network's time, the rest is waiting."""
        self._start = asked = self._clock()
        iterator = iter(batches)
        while True:
            batch = next(iterator, None)
            now = self._clock()
            self._waited_s += now - asked
            if batch is None:
                self._end = now
                return
            self._images += len(batch[1])
            yield batch
            asked = self._clock()

    @property
    def elapsed_s(self) -> float:
        """Seconds from asking for the first batch until now, or until the end of the pass."""
        if self._start is None:
            return 0.0
        return (self._clock() if self._end is None else self._end) - self._start

    @property
    def img_per_s(self) -> float:
        """Images per second so far; right where the network is done with the batch that it was given last."""
        elapsed_s = self.elapsed_s
        return self._images / elapsed_s if elapsed_s else 0.0

    @property
    def data_wait_fraction(self) -> float:
        """Share of the time so far that was spent waiting for batches."""
        elapsed_s = self.elapsed_s
        return self._waited_s / elapsed_s if elapsed_s else 0.0
