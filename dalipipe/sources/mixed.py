"""Several sources in one epoch, each as often as its weight says."""

from __future__ import annotations

import hashlib
import math
import os
from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np
from numpy.typing import NDArray

from dalipipe.decisions import randomness
from dalipipe.decisions.permutation import permutation
from dalipipe.errors import SourceError, shown
from dalipipe.sources.base import Source, fingerprint, list_names
from dalipipe.sources.derived import ConcatSource, LabelledSource
from dalipipe.sources.folder import FolderSource


class MixedSource(ConcatSource):
    """Several sources, of which each place of an epoch takes one by weight.

    An epoch has as many samples as the sources have together. Which source a place takes is drawn by the seed, the
    epoch and the place; of each source the samples come in their order, or shuffled, and from the beginning again
    (shuffled anew) where they are used up. A sample that comes again within an epoch is augmented anew.

        MixedSource({"photos": "photos/train", "drawings": "drawings/train"}, weights={"photos": 3, "drawings": 1})

    Args:
        sources: Name -> a folder or a `Source`. All have the same classes.
        weights: Name -> how often it comes in proportion to the others, > 0; by default each is as likely as the
            others.

    Attributes:
        names: The names of the sources, in order.
        weights: The share of each, summing to 1.
        classes: The class names, as the sources have them.

    Raises:
        SourceError: No sources, an empty one, sources of other classes, or weights that are none.
    """

    def __init__(
        self, sources: Mapping[str, Source | str | os.PathLike[str]], weights: Mapping[str, float] | None = None
    ) -> None:
        parts = {str(name): _source(name, part) for name, part in sources.items()}
        if not parts:
            raise SourceError("MixedSource: needs at least one source, got none. Name some.")
        self.names = tuple(parts)
        self.weights = _shares(self.names, weights)
        for name, part in parts.items():
            if not len(part):
                raise SourceError(f"MixedSource: every source must have samples, got none in {name!r}. Leave it out.")
            first = parts[self.names[0]]
            if tuple(part.classes) != tuple(first.classes):
                raise SourceError(
                    f"MixedSource: all sources must have the same classes, got {list_names(part.classes)} in {name!r}"
                    f" and {list_names(first.classes)} in {self.names[0]!r}. Make the folders alike."
                )
        super().__init__(list(parts.values()))

    def __repr__(self) -> str:
        shares = ", ".join(f"{name} {share:.3g}" for name, share in zip(self.names, self.weights, strict=True))
        return f"MixedSource({len(self)} samples of {shares})"

    def order(self, seed: int, epoch: int, shuffle: bool) -> NDArray[np.int64]:
        """Return the samples of an epoch, (N,) positions: a pure function of its arguments.

        Args:
            seed: 0 to 2**64 - 1.
            epoch: 0 to 2**32 - 1.
            shuffle: Whether the samples of each source come in random order.
        """
        drawn = randomness.fractions(len(self), seed, epoch, randomness.SOURCE_POSITION)
        chosen = np.searchsorted(np.cumsum(self.weights)[:-1], drawn, side="right")
        order = np.empty(len(self), np.int64)
        begins = self.ends - [len(source) for source in self.sources]
        for number, source in enumerate(self.sources):
            places = np.flatnonzero(chosen == number)
            order[places] = begins[number] + _again_and_again(len(source), len(places), number, seed, epoch, shuffle)
        return order

    def fingerprint(self) -> str:
        """Return 16 hex digits that change with the samples or the weights."""
        text = " ".join([*map(fingerprint, self.sources), *(share.hex() for share in self.weights)])
        return hashlib.sha256(text.encode()).hexdigest()[:16]


def _again_and_again(length: int, count: int, number: int, seed: int, epoch: int, shuffle: bool) -> NDArray[np.int64]:
    """Return so many samples of a source, each once before any comes again."""
    rounds = -(-count // length)
    if not shuffle:
        return np.tile(np.arange(length), rounds)[:count]
    keys = randomness.words(seed, epoch, [number] * rounds, list(range(rounds)), randomness.SOURCE_POSITION, 1)
    orders = [permutation(length, high << 32 | low, epoch) for high, low, _, _ in keys]
    return np.concatenate([np.empty(0, np.int64), *orders])[:count]


def _source(name: str, part: Any) -> Source:
    if isinstance(part, str | os.PathLike):
        return FolderSource(part)
    if not (callable(getattr(part, "item", None)) and hasattr(part, "labels") and hasattr(part, "__len__")):
        raise SourceError(
            f"MixedSource: every source must be a folder or a Source, got {shown(part)} as {name!r}. Of data sets of"
            " torch's make a ConcatDataset, and give the loader a WeightedRandomSampler."
        )
    whole = isinstance(part.labels, np.ndarray) and hasattr(part, "classes")
    source: Source = part if whole else LabelledSource(part)
    return source


def _shares(names: Sequence[str], weights: Mapping[str, float] | None) -> tuple[float, ...]:
    if weights is None:
        return (1 / len(names),) * len(names)
    if set(weights) != set(names):
        raise SourceError(
            f"MixedSource: weights must be of the sources, {list_names(names)}, got those of"
            f" {list_names(list(weights))}. Give each one."
        )
    for name, weight in weights.items():
        if isinstance(weight, bool) or not hasattr(weight, "__float__") or not 0 < float(weight) < math.inf:
            raise SourceError(
                f"MixedSource: every weight must be a number above 0, got {shown(weight)} for {name!r}. Leave out what"
                " is not wanted."
            )
    total = sum(float(weights[name]) for name in names)
    return tuple(float(weights[name]) / total for name in names)
