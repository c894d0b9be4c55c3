"""MixUp and CutMix: mixing the images of a batch with one another, after the loader and on the batch's device.

    mix = dalipipe.CutMix(num_classes=10)
    for images, labels in mix.over(loader):      # one epoch; labels are now (N, 10) float32
        loss = torch.nn.functional.cross_entropy(model(images), labels)

Each image is mixed with the one before it in the batch, so a training set must be shuffled. How much and where is a
pure function of (seed, epoch, batch, rank): torch's random state is neither read nor changed, so a resumed epoch mixes
as the whole one did.
"""

from __future__ import annotations

import math
from abc import ABC, abstractmethod
from bisect import bisect
from collections.abc import Iterator, Sequence
from itertools import accumulate
from typing import TYPE_CHECKING

import torch
from torch.nn.functional import one_hot

from dalipipe.decisions import randomness
from dalipipe.errors import ConfigError
from dalipipe.loading.arguments import whole

if TYPE_CHECKING:
    from dalipipe.loading.loader import DataLoader

Mixed = tuple[torch.Tensor, torch.Tensor]

_ATTEMPTS = 16  # a gamma is accepted with a probability above 0.95: all fail once in 10**20 batches
_CHOICE, _CORNER, _BETA = 0, 1, 4  # where in a batch's draws the choice, the box's centre and lambda begin
_DRAWS = _BETA + 2 * (1 + 3 * _ATTEMPTS)


class BatchMix(ABC):
    """What MixUp, CutMix and RandomChoice have in common.

    Args:
        alpha: Both parameters of the Beta distribution of lambda, > 0; 1.0 is uniform.
        num_classes: Number of classes; None where labels come as (N, classes) already.
        seed: Of every decision, 0 to 2**64 - 1; by default torch's (torch.manual_seed).

    Raises:
        ConfigError: an argument outside its range.
    """

    def __init__(self, *, alpha: float = 1.0, num_classes: int | None = None, seed: int | None = None) -> None:
        name = type(self).__name__
        if isinstance(alpha, bool) or not isinstance(alpha, int | float) or not 0 < alpha < math.inf:
            raise ConfigError(f"{name}: alpha must be a number > 0, got {alpha!r}. 0.2 and 1.0 are usual.")
        if num_classes is not None and (not whole(num_classes) or num_classes < 1):
            raise ConfigError(f"{name}: num_classes must be a whole number >= 1, got {num_classes!r}. Correct it.")
        if seed is not None and (not whole(seed) or not 0 <= seed < 2**64):
            raise ConfigError(f"{name}: seed must be 0 to 2**64 - 1, got {seed!r}. Choose another.")
        self.alpha, self.num_classes = float(alpha), num_classes
        self.seed = torch.initial_seed() % 2**64 if seed is None else int(seed)

    def __call__(self, images: torch.Tensor, labels: torch.Tensor, *, epoch: int, batch: int, rank: int = 0) -> Mixed:
        """Return a mixed batch; what was given stays as it is.

        Args:
            images: (N, C, H, W); floats for MixUp, any type for CutMix.
            labels: (N,) int64, or (N, classes) probabilities.
            epoch: Number of the pass over the data, 0 to 2**32 - 1.
            batch: What tells this batch from the others of the epoch: its number, or its place in the order.
            rank: This process's rank, so that each mixes in its own way.

        Returns:
            images, shape, dtype, device and memory format kept, and labels, (N, classes) float.

        Raises:
            ConfigError: tensors of another shape or type, or labels outside the classes.
        """
        labels = self._probabilities(images, labels)
        draws = randomness.streams([_DRAWS], self.seed, epoch, randomness.MIX_POSITION, [batch], [rank])[0]
        return self.mix(images, labels, draws)

    @abstractmethod
    def mix(self, images: torch.Tensor, labels: torch.Tensor, draws: Sequence[float]) -> Mixed:
        """Return the mixed batch that some uniform numbers decide on; labels are probabilities."""

    def over(self, loader: DataLoader) -> Iterator[Mixed]:
        """Yield the mixed batches of the loader's next epoch, or of what is left of one that it went back to.

        Raises:
            ConfigError: a loader of single samples, or one whose batches are no images and labels.
            RecipeError: a loader of several views.
        """
        loader.recipe.require_one_view(type(self).__name__)
        if loader.batch_size is None and loader.batch_sampler is None:
            raise ConfigError(f"{type(self).__name__}: needs batches, got a loader with batch_size=None. Give it one.")
        for images, labels in loader:
            epoch, position = loader.place
            yield self(images, labels, epoch=epoch, batch=position, rank=loader.shard.rank)

    def _probabilities(self, images: torch.Tensor, labels: torch.Tensor) -> torch.Tensor:
        name, classes = type(self).__name__, self.num_classes
        if not (isinstance(images, torch.Tensor) and isinstance(labels, torch.Tensor)):
            raise ConfigError(
                f"{name}: needs tensors, got {type(images).__name__} and {type(labels).__name__}. Give it one view at a"
                " time where there are several."
            )
        if images.ndim != 4 or len(images) != len(labels) or labels.ndim not in (1, 2):
            raise ConfigError(
                f"{name}: needs images (N, C, H, W) and labels (N,) or (N, classes), got {tuple(images.shape)} and "
                f"{tuple(labels.shape)}. Give it whole batches."
            )
        if labels.ndim == 2:
            if classes is not None and labels.shape[1] != classes:
                raise ConfigError(
                    f"{name}: labels must be (N, {classes}), got {tuple(labels.shape)}. Leave num_classes out."
                )
            return labels if labels.dtype.is_floating_point else labels.float()
        if classes is None:
            raise ConfigError(f"{name}: num_classes is missing, and labels are whole numbers. Give it.")
        if labels.device.type == "cpu" and len(labels) and not 0 <= int(labels.min()) <= int(labels.max()) < classes:
            raise ConfigError(f"{name}: labels must be below num_classes {classes}, got {int(labels.max())}. Raise it.")
        return one_hot(labels, num_classes=classes).float()


def _blend(values: torch.Tensor, own: float) -> torch.Tensor:
    """Return own * values + (1 - own) * those of the sample before, in torchvision's order of operations."""
    return values.roll(1, 0).mul_(1.0 - own).add_(values.mul(own))


class MixUp(BatchMix):
    """Blends each image and label of a batch with those before it: lambda * own + (1 - lambda) * other.

    Args:
        alpha: Both parameters of the Beta distribution of lambda, > 0; 1.0 is uniform.
        num_classes: Number of classes; None where labels come as (N, classes) already.
        seed: Of every decision, 0 to 2**64 - 1; by default torch's (torch.manual_seed).

    Source: torchvision.transforms.v2.MixUp; Zhang et al., "mixup: Beyond Empirical Risk Minimization" (ICLR 2018).
    """

    def mix(self, images: torch.Tensor, labels: torch.Tensor, draws: Sequence[float]) -> Mixed:
        """Return the blended batch.

        Raises:
            ConfigError: images of whole levels, whose blend would have to be rounded.
        """
        if not images.dtype.is_floating_point:
            raise ConfigError(f"MixUp: images must be floats, got {images.dtype}. Apply loader.finish to them first.")
        own = beta(self.alpha, draws[_BETA:])
        return _blend(images, own), _blend(labels, own)


class CutMix(BatchMix):
    """Puts a rectangle of the image before it into each image of a batch; labels mix by area.

    Args:
        alpha: Both parameters of the Beta distribution of lambda, > 0; 1.0 is uniform.
        num_classes: Number of classes; None where labels come as (N, classes) already.
        seed: Of every decision, 0 to 2**64 - 1; by default torch's (torch.manual_seed).

    Source: torchvision.transforms.v2.CutMix; Yun et al., "CutMix" (ICCV 2019).
    """

    def mix(self, images: torch.Tensor, labels: torch.Tensor, draws: Sequence[float]) -> Mixed:
        """Return the batch with a rectangle exchanged."""
        height, width = images.shape[-2:]
        left, top, right, bottom = cutmix_box(beta(self.alpha, draws[_BETA:]), draws[_CORNER:], height, width)
        mixed = images.clone()
        mixed[..., top:bottom, left:right] = images.roll(1, 0)[..., top:bottom, left:right]
        return mixed, _blend(labels, 1.0 - (right - left) * (bottom - top) / (width * height))


class RandomChoice(BatchMix):
    """Takes one of several mixes for each batch.

    Args:
        mixes: What to choose from, MixUp and CutMix say.
        p: Weight of each; by default all the same.
        seed: Of every decision, those of the mixes included; by default torch's (torch.manual_seed).

    Raises:
        ConfigError: no mix, or weights that don't fit.

    Source: torchvision.transforms.v2.RandomChoice around MixUp and CutMix.
    """

    def __init__(self, mixes: Sequence[BatchMix], p: Sequence[float] | None = None, *, seed: int | None = None) -> None:
        super().__init__(seed=seed)
        weights = [1.0] * len(mixes) if p is None else list(p)
        if not mixes or len(weights) != len(mixes) or min(weights) < 0 or sum(weights) <= 0:
            raise ConfigError(
                f"RandomChoice: needs mixes and a weight >= 0 for each, got {len(mixes)} and {weights}. Correct p."
            )
        self.mixes, self.p = list(mixes), [weight / sum(weights) for weight in weights]
        self.num_classes = mixes[0].num_classes

    def mix(self, images: torch.Tensor, labels: torch.Tensor, draws: Sequence[float]) -> Mixed:
        """Return what the chosen mix makes of the batch."""
        chosen = bisect(list(accumulate(self.p)), draws[_CHOICE])
        return self.mixes[min(chosen, len(self.mixes) - 1)].mix(images, labels, draws)


def cutmix_box(own: float, u: Sequence[float], height: int, width: int) -> tuple[int, int, int, int]:
    """Return (left, top, right, bottom) in px of the rectangle that comes from the other image.

    Args:
        own: Fraction of the area that stays, before the box is cut off at the border.
        u: Two uniforms: centre x, centre y.
        height: Of the images, px.
        width: Of the images, px.

    Source: torchvision.transforms.v2.CutMix.make_params.
    """
    x, y = int(u[0] * width), int(u[1] * height)
    half = 0.5 * math.sqrt(1.0 - own)
    half_w, half_h = int(half * width), int(half * height)
    return max(x - half_w, 0), max(y - half_h, 0), min(x + half_w, width), min(y + half_h, height)


def beta(alpha: float, u: Sequence[float]) -> float:
    """Return a number of the Beta(alpha, alpha) distribution, made of 2 + 6 * 16 uniforms."""
    half = 1 + 3 * _ATTEMPTS
    difference = _log_gamma(alpha, u[half:]) - _log_gamma(alpha, u[:half])
    if difference > 0:  # neither branch's exponential can overflow
        return math.exp(-difference) / (1.0 + math.exp(-difference))
    return 1.0 / (1.0 + math.exp(difference))


def _log_gamma(alpha: float, u: Sequence[float]) -> float:
    """Return the logarithm of a number of the Gamma(alpha, 1) distribution: a small alpha's may be too near 0 itself.

    Source: Marsaglia and Tsang, "A simple method for generating gamma variables" (2000): Gamma(alpha + 1), times
    u**(1 / alpha).
    """
    d = alpha + 2.0 / 3.0
    log_value = math.log(d)
    for at in range(1, 1 + 3 * _ATTEMPTS, 3):
        normal = math.sqrt(-2.0 * math.log(1.0 - u[at])) * math.cos(2.0 * math.pi * u[at + 1])
        cube = (1.0 + normal / math.sqrt(9.0 * d)) ** 3
        if cube > 0 and math.log(1.0 - u[at + 2]) < 0.5 * normal**2 + d * (1.0 - cube + math.log(cube)):
            log_value = math.log(d * cube)
            break
    return log_value + math.log(1.0 - u[0]) / alpha
