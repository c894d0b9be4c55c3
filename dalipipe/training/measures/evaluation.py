"""How good a network is on labelled images: every prediction, and the measures that torchmetrics makes of them."""

from __future__ import annotations

import math
from collections.abc import Iterator
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, NamedTuple

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor, nn
from torch.nn.functional import cross_entropy

from dalipipe.sources import name_of
from dalipipe.training.measures.metrics import Batches

if TYPE_CHECKING:
    from dalipipe.sources import Source

_CALIBRATION_BINS = 15  # as Guo et al., 2017, have it


@dataclass(frozen=True)
class Predictions:
    """What a network says of images, in the order in which they came.

    Attributes:
        indices: (N,) int64, positions of the images in their source.
        labels: (N,) int64.
        probabilities: (N, classes) float32, on the CPU; means over the flips with test-time augmentation.
        losses: (N,) float32, cross-entropy of each image.
    """

    indices: NDArray[np.int64]
    labels: Tensor
    probabilities: Tensor
    losses: Tensor

    def __len__(self) -> int:
        """Return the number of images."""
        return len(self.labels)

    @staticmethod
    def concatenate(parts: list[Predictions]) -> Predictions:
        """Return the parts as one: of several batches, or of several ranks."""
        return Predictions(
            np.concatenate([part.indices for part in parts]),
            torch.cat([part.labels for part in parts]),
            torch.cat([part.probabilities for part in parts]),
            torch.cat([part.losses for part in parts]),
        )

    def sorted(self) -> Predictions:
        """Return them in the order of the source."""
        order = np.argsort(self.indices, kind="stable")
        rows = torch.from_numpy(order)
        return Predictions(self.indices[order], self.labels[rows], self.probabilities[rows], self.losses[rows])


@dataclass(frozen=True)
class ClassScores:
    """How a network does on one class.

    Attributes:
        name: Of the class.
        images: How many there are of it.
        precision: Share of right ones among those taken for it; 0 where none was.
        recall: Share of those of it that were recognised.
        f1: Harmonic mean of the two.
    """

    name: str
    images: int
    precision: float
    recall: float
    f1: float


@dataclass(frozen=True)
class Mistake:
    """An image that was taken for another class.

    Attributes:
        index: Position of the image in the source.
        label: Its class.
        prediction: The class that it was taken for.
        confidence: Probability of that class.
        loss: Cross-entropy.
    """

    index: int
    label: int
    prediction: int
    confidence: float
    loss: float


class Baseline(NamedTuple):
    """What an accuracy is to be held against: that of always naming one class.

    Attributes:
        name: Of the commonest class among the images.
        acc: Its share of them.
    """

    name: str
    acc: float


@dataclass(frozen=True)
class Evaluation:
    """How good a network is on N labelled images of K classes.

    Attributes:
        classes: The K class names.
        indices: (N,) int64, positions of the images in their source; `name` says which file that is.
        labels: (N,) int64.
        predictions: (N,) int64, the most likely class.
        confidences: (N,) float32, its probability.
        losses: (N,) float32, cross-entropy.
        confusion: (K, K) int64, images of the row's class taken for the column's.
        per_class: One entry for each class.
        loss: Mean of the losses.
        top1: Share of images whose most likely class is right.
        top5: Share of images whose class is among the five most likely (among all, where K < 5).
        macro_f1: Mean of the F1 of the classes.
        calibration_error: Expected calibration error, 15 bins: how far confidence and accuracy are apart.
    """

    classes: tuple[str, ...]
    indices: NDArray[np.int64]
    labels: NDArray[np.int64]
    predictions: NDArray[np.int64]
    confidences: NDArray[np.float32]
    losses: NDArray[np.float32]
    confusion: NDArray[np.int64]
    per_class: tuple[ClassScores, ...]
    loss: float
    top1: float
    top5: float
    macro_f1: float
    calibration_error: float

    def __len__(self) -> int:
        """Return the number of images."""
        return len(self.labels)

    @property
    def baseline(self) -> Baseline:
        """What always naming the commonest class would come to on these images."""
        images = self.confusion.sum(axis=1)
        commonest = int(images.argmax())
        return Baseline(self.classes[commonest], float(images[commonest] / max(1, len(self))))

    def name(self, source: Source, position: int) -> str:
        """Return the name of the image at a position of the arrays, as its source has it: the path of a file."""
        return name_of(source, int(self.indices[position]))

    def mistakes(self, most: int | None = None) -> list[Mistake]:
        """Return the images taken for another class, the most confident mistakes first."""
        wrong = np.flatnonzero(self.predictions != self.labels)
        ordered = wrong[np.argsort(-self.confidences[wrong], kind="stable")][:most]
        return [
            Mistake(
                int(self.indices[i]),
                int(self.labels[i]),
                int(self.predictions[i]),
                float(self.confidences[i]),
                float(self.losses[i]),
            )
            for i in ordered
        ]

    def scores(self) -> dict[str, float]:
        """Return the measures of the whole, by name, as plain numbers."""
        return {
            "loss": self.loss,
            "acc": self.top1,
            "top5": self.top5,
            "macro_f1": self.macro_f1,
            "calibration_error": self.calibration_error,
        }

    def plain(self) -> dict[str, Any]:
        """Return the measures, those of the classes and the confusion matrix, for JSON."""
        return {
            "images": len(self),
            **self.scores(),
            "baseline": {"class": self.baseline.name, "acc": self.baseline.acc},
            "per_class": [vars(scores) for scores in self.per_class],
            "confusion": self.confusion.tolist(),
        }


def evaluate(model: nn.Module, loader: Batches, classes: tuple[str, ...], *, tta: bool = False) -> Evaluation:
    """Return how good a network is on all images of a loader.

    Args:
        model: On the device where it is to run; is in evaluation mode afterwards.
        loader: Of images and labels; a `DataLoader`, or any sized iterable of batches.
        classes: Class names; the index is the label.
        tta: Whether the mean over each image and its mirror image decides.
    """
    return score(predict(model, loader, tta=tta), classes)


@torch.inference_mode()
def predict(model: nn.Module, loader: Batches, *, tta: bool = False) -> Predictions:
    """Return what a network says of all images of a loader; under several ranks, of this rank's. See `evaluate`."""
    model.eval()
    device = next(model.parameters()).device
    parts = []
    for indices, images, labels in _numbered(loader):
        logits = classify(model, images.to(device, non_blocking=True), tta=tta)
        losses = cross_entropy(logits, labels.to(device), reduction="none")
        parts.append(Predictions(indices, labels.cpu(), logits.softmax(dim=1).cpu(), losses.cpu()))
    if parts:
        return Predictions.concatenate(parts)
    return Predictions(np.zeros(0, np.int64), torch.zeros(0, dtype=torch.int64), torch.zeros(0, 0), torch.zeros(0))


def classify(model: nn.Module, images: Tensor, *, tta: bool) -> Tensor:
    """Return float32 logits; with `tta` the logarithm of the mean probability over the image and its mirror image.

    Shapes: (N, 3, H, W) -> (N, classes).
    """
    logits: Tensor = model(images).float()
    if not tta:
        return logits
    mirrored: Tensor = model(images.flip(-1)).float()
    both = torch.stack([logits.log_softmax(dim=1), mirrored.log_softmax(dim=1)])
    return both.logsumexp(dim=0) - math.log(2)


def _numbered(loader: Batches) -> Iterator[tuple[NDArray[np.int64], Tensor, Tensor]]:
    """Yield batches with the source's indices: those the loader tells, or else as they come."""
    count = 0
    for images, labels in loader:
        told = getattr(loader, "last_indices", None)
        yield np.arange(count, count + len(labels)) if told is None else told, images, labels
        count += len(labels)


def score(predictions: Predictions, classes: tuple[str, ...]) -> Evaluation:
    """Return the measures of predictions, by torchmetrics.

    Args:
        predictions: Of all images; under several ranks the parts of all of them.
        classes: Class names; the index is the label.
    """
    from torchmetrics.functional import classification as measure  # it takes seconds to import

    probabilities, labels, number = predictions.probabilities, predictions.labels, len(classes)
    confidences, best = probabilities.max(dim=1)
    recall = measure.multiclass_recall(best, labels, number, average="none").tolist()
    precision = measure.multiclass_precision(best, labels, number, average="none").tolist()
    f1 = measure.multiclass_f1_score(best, labels, number, average="none").tolist()
    images = torch.bincount(labels, minlength=number).tolist()
    rows = zip(classes, images, precision, recall, f1, strict=True)
    return Evaluation(
        classes=classes,
        indices=predictions.indices,
        labels=labels.numpy(),
        predictions=best.numpy(),
        confidences=confidences.numpy(),
        losses=predictions.losses.numpy(),
        confusion=measure.multiclass_confusion_matrix(best, labels, number).numpy(),
        per_class=tuple(ClassScores(*row) for row in rows),
        loss=float(predictions.losses.double().mean()),
        top1=float(measure.multiclass_accuracy(best, labels, number, average="micro")),
        top5=float(measure.multiclass_accuracy(probabilities, labels, number, average="micro", top_k=min(5, number))),
        macro_f1=float(measure.multiclass_f1_score(best, labels, number, average="macro")),
        calibration_error=float(
            measure.multiclass_calibration_error(probabilities, labels, number, n_bins=_CALIBRATION_BINS, norm="l1")
        ),
    )
