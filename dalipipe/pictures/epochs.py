"""What a recipe makes of images in several epochs, as levels that people can look at."""

from __future__ import annotations

import numpy as np
import torch
from numpy.typing import NDArray

from dalipipe.backends import Job, compile_recipe
from dalipipe.recipes import Recipe
from dalipipe.sampling import Batch


def augmented(
    job: Job, backend: str, epochs: range, indices: NDArray[np.int64]
) -> tuple[list[NDArray[np.uint8]], dict[int, str]]:
    """Return what training on some images gets in some epochs, and why those at some places can't be used in one.

    Args:
        job: The recipe, its seed and where the images come from; batches as large as `indices`.
        backend: What makes the images.
        epochs: Which.
        indices: (n,) int64, positions in the source.

    Shapes: -> for each view in each epoch (m, H, W, 3) uint8, of the m images that can be used in all epochs, in order.

    Raises:
        BackendError: the backend lacks an op of the recipe, or can't run here.
    """
    batches = [Batch(number, indices, np.zeros_like(indices)) for number in epochs]
    made: list[dict[int, NDArray[np.uint8]]] = []
    bad: dict[int, str] = {}
    executor = compile_recipe(job, backend)
    try:
        for result in executor.run(batches):
            for images, view in zip(result.views, job.views, strict=True):
                good = iter(_pixels(images, view.recipe))
                made.append({place: next(good) for place in range(len(indices)) if place not in result.failures})
            bad |= result.failures
    finally:
        executor.close()
    kept = [place for place in range(len(indices)) if place not in bad]
    return [np.stack([images[place] for place in kept]) if kept else np.empty(0, np.uint8) for images in made], bad


def _pixels(images: torch.Tensor, recipe: Recipe) -> NDArray[np.uint8]:
    """Return images as a network gets them as levels that people can look at, (n, H, W, 3)."""
    levels = images.expand(-1, 3, -1, -1).permute(0, 2, 3, 1).cpu().double().numpy()
    if recipe.levels is not None:
        mean, std = recipe.levels
        levels = levels * std + mean
    pixels: NDArray[np.uint8] = np.clip(np.rint(levels), 0, 255).astype(np.uint8)
    return pixels
