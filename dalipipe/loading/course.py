"""Which samples come next: the order of each epoch, cut into this rank's batches, and how far a loader has come."""

from __future__ import annotations

import copy
from collections.abc import Iterator
from dataclasses import dataclass, replace
from typing import Any, Literal

import torch

from dalipipe.sampling import Batch, Cut, Order, Pass, Shard, decoded, encoded, listed, together

Unit = Literal["batch", "list", "sample"]
"""What a loader hands out: batches that it cuts, batches as a batch sampler lists them, or single samples."""

TOGETHER = 16
"""Single samples that travel together."""
_RANKS_SEED = 0  # of the order that ranks share where no seed is given, as DistributedSampler's


@dataclass
class Seeds:
    """Where the seed of each epoch comes from.

    Attributes:
        fixed: The seed of all epochs; None where each draws its own.
        generator: What they are drawn from; None for torch's global generator.
        shuffle: Whether the loader shuffles.
    """

    fixed: int | None
    generator: torch.Generator | None
    shuffle: bool

    def next(self) -> int:
        """Return the seed of an epoch that is about to begin.

        As many numbers are drawn from torch's global generator as its own loader draws when it is iterated, so that
        whatever else is random in a script, dropout say, is as it is with that loader.
        """
        if self.fixed is not None:
            return self.fixed
        seed = self._drawn()
        if self.shuffle and self.generator is None:
            self._drawn()
        return seed

    def _drawn(self) -> int:
        device = "cpu" if self.generator is None else self.generator.device
        return int(torch.empty((), dtype=torch.int64, device=device).random_(generator=self.generator).item())


@dataclass(frozen=True)
class Place:
    """How far a loader has come: the end of what it handed out last.

    Attributes:
        epoch: Number of the pass.
        position: In its order: how many samples (or lists of a batch sampler) lie behind.
        seed: Of the epoch; None where it is yet to be drawn.
        order: The pass itself.
    """

    epoch: int
    position: int
    seed: int | None
    order: Pass


class Course:
    """The way of a loader through its epochs, in indices.

    Args:
        order: Of the samples.
        cut: How it becomes batches.
        seeds: Of the epochs.
        unit: What is handed out.

    Attributes:
        epoch: Number of the epoch that begins next.
        place: The end of what was handed out last.
    """

    def __init__(self, order: Order, cut: Cut, seeds: Seeds, unit: Unit = "batch") -> None:
        self.order, self.cut, self.seeds, self.unit = order, cut, seeds, unit
        self.epoch = 0
        self.place = Place(0, 0, None, Pass(()))
        self._resumes = False  # whether the next epoch goes on at `place`
        self._drawn: int | None = None  # the seed of an iterator that has not begun

    @property
    def seed(self) -> int | None:
        """The seed of all epochs, or else of the one that began last; None before the first."""
        return self.seeds.fixed if self.seeds.fixed is not None else self.place.seed

    def reshard(self, shard: Shard) -> None:
        """Go on as another part of every global batch."""
        self.cut = replace(self.cut, shard=shard)

    def set_epoch(self, epoch: int) -> None:
        """Set the number of the next epoch; what is left of that one, if it is to be resumed, still comes."""
        if self._resumes and epoch == self.epoch:
            return
        self.epoch, self._resumes = epoch, False
        self.place = Place(epoch, 0, None, self.place.order)

    def batches(self, epoch: int, skip: int = 0) -> Iterator[Batch]:
        """Yield this rank's batches of an epoch, without beginning it.

        Args:
            epoch: Number of the pass.
            skip: Position in the epoch's order to begin at.
        """
        seed = self.seed if self.seed is not None else self.seeds.next()
        order = copy.copy(self.order).begin(epoch, self._order_seed(seed))
        return self.behind(Place(epoch, skip, seed, order))

    def draw(self) -> int | None:
        """Return the seed for an iterator that is made now; None where it is to resume an epoch, which has one."""
        if not self._resumes:
            self._drawn = self.seeds.next()
        return self._drawn

    def begin(self, drawn: int | None) -> Place:
        """Begin the next epoch, or go on with what is left of one, and return where.

        Args:
            drawn: What `draw` gave when the iterator was made.
        """
        skip, seed = (self.place.position, self.place.seed) if self._resumes else (0, drawn)
        if seed is None:
            seed = self.seeds.next()
        if seed == self._drawn:
            self._drawn = None
        order = self.order.begin(self.epoch, self._order_seed(seed))
        self.place = Place(self.epoch, skip, seed, order)
        self.epoch, self._resumes = self.epoch + 1, False
        return self.place

    def end(self, place: Place) -> None:
        """Note that all of an epoch was handed out, which a place is in."""
        self.place = Place(place.epoch + 1, 0, None, place.order)

    def behind(self, place: Place) -> Iterator[Batch]:
        """Yield this rank's batches of what lies behind a place."""
        if self.unit == "list":
            return listed(place.order, place.epoch, place.position, place.seed)
        batches = self.cut.batches(place.order, place.epoch, place.position, place.seed)
        return batches if self.unit == "batch" else together(batches, TOGETHER)

    def _order_seed(self, seed: int) -> int:
        # Each rank draws a seed of its own, and may not wait for the others to agree on an order.
        return seed if self.seeds.fixed is not None or self.cut.shard.world_size == 1 else _RANKS_SEED

    def state(self) -> dict[str, Any]:
        """Return what `load` takes, as JSON."""
        state: dict[str, Any] = {
            "epoch": self.place.epoch,
            "position": self.place.position,
            "seed": self._drawn if self.seed is None else self.seed,
            "drawn": self.seeds.fixed is None,
            "order": self.place.order.state(self.place.position),
        }
        if self.seeds.fixed is None and self.seeds.generator is not None:
            state["generator"] = encoded(self.seeds.generator.get_state())
        return state

    def load(self, state: dict[str, Any]) -> None:
        """Have the next epoch be what was left of one when `state` was taken; its order must have let that pass."""
        if not state.get("drawn", False):
            self.seeds.fixed = state["seed"]
        elif self.seeds.generator is not None and "generator" in state:
            self.seeds.generator.set_state(decoded(state["generator"]))
        self.order.restore(state["order"], state["position"])
        self.place = Place(state["epoch"], state["position"], state["seed"], Pass((), state["order"]))
        self.epoch, self._resumes, self._drawn = state["epoch"], True, None
