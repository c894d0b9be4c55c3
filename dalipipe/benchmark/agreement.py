"""Whether a subject gives the pictures that the recipe means. What does not is not ranked."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from dalipipe.parity import DRIFT_LEVELS, MEAN_LEVELS, WORST_LEVELS
from dalipipe.recipes import Recipe


@dataclass(frozen=True)
class Agreement:
    """How far a subject is from the reference, on the same images.

    Attributes:
        ok: Whether it may be ranked.
        mean_abs: Mean absolute difference in levels of 255.
        max_abs: Largest absolute difference in levels of 255.
        because: What differs too much; empty where nothing does.
    """

    ok: bool
    mean_abs: float
    max_abs: float
    because: str = ""


@dataclass(frozen=True)
class Sample:
    """Some images as they leave a recipe, (n, 3, H, W), and their labels, (n,)."""

    images: NDArray[np.generic]
    labels: NDArray[np.int64]


def levels_of(sample: Sample, recipe: Recipe) -> NDArray[np.float64]:
    """Return the images in levels of 0 to 255, the recipe's rescaling and normalisation undone."""
    images: NDArray[np.float64] = sample.images.astype(np.float64)
    if recipe.levels is None:
        return images
    mean, std = (np.array(part).reshape(3, 1, 1) for part in recipe.levels)
    return np.asarray(images * std + mean)


def _mismatch(ours: Sample, reference: Sample) -> str:
    if not np.array_equal(ours.labels, reference.labels):
        return "the labels differ"
    got, wanted = (f"{sample.images.shape} {sample.images.dtype}" for sample in (ours, reference))
    return "" if got == wanted else f"batches are {got}, wanted {wanted}"


def compare(ours: Sample, reference: Sample, recipe: Recipe) -> Agreement:
    """Compare pixel by pixel what must be nearly the same."""
    if problem := _mismatch(ours, reference):
        return Agreement(False, float("inf"), float("inf"), problem)
    gap = np.abs(levels_of(ours, recipe) - levels_of(reference, recipe))
    mean, worst, largest = float(gap.mean()), float(gap.mean(axis=(1, 2, 3)).max()), float(gap.max())
    if not mean <= MEAN_LEVELS:  # not a number is no agreement either
        return Agreement(False, mean, largest, f"pixels differ by {mean:.1f} levels on average")
    if worst > WORST_LEVELS:
        return Agreement(False, mean, largest, f"one image differs by {worst:.1f} levels on average")
    return Agreement(True, mean, largest)


def compare_loosely(ours: Sample, reference: Sample, recipe: Recipe) -> str:
    """Return what is wrong with images whose random decisions are not the reference's; "" for nothing found.

    Labels, shape and type must be the same, mean and standard deviation of each channel the same but for chance.
    """
    if problem := _mismatch(ours, reference):
        return problem
    mine, other = levels_of(ours, recipe), levels_of(reference, recipe)
    for name, of in (("mean", np.mean), ("spread", np.std)):
        gaps = of(mine, axis=(2, 3)) - of(other, axis=(2, 3))  # of each image and channel
        error = gaps.std(axis=0, ddof=1) / np.sqrt(len(gaps)) if len(gaps) > 1 else np.full(3, np.inf)
        gap = np.abs(gaps.mean(axis=0))
        if not (gap <= DRIFT_LEVELS + 4 * error).all():
            return f"the {name} of a channel differs by {gap.max():.0f} levels"
    return ""
