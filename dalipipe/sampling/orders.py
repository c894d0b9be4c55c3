"""Orders of an epoch: dalipipe's own, a function of seed and epoch, and those of torch's samplers, made repeatable."""

from __future__ import annotations

import base64
import operator
import struct
import zlib
from array import array
from collections import deque
from collections.abc import Callable, Iterable, Iterator
from typing import Any, Protocol

import numpy as np
import torch
from numpy.typing import NDArray

from dalipipe.decisions.permutation import Permutation
from dalipipe.errors import SamplerError, StateError, shown

_ADVICE = "Use what state_dict() gave, with the same sampler."
_AT_ONCE = 8192  # samples
_DEEPEST = 8  # samplers within samplers that are looked into


class Pass:
    """One pass through an order, and what it takes to have the same one again.

    Args:
        items: The samples (or the batches), in order.
        kept: What the order depends on, as JSON.
    """

    def __init__(self, items: Iterable[Any], kept: dict[str, Any] | None = None) -> None:
        self._items, self._kept = items, kept or {}

    def __iter__(self) -> Iterator[Any]:
        """Yield the samples (or the batches)."""
        return iter(self._items)

    def state(self, position: int) -> dict[str, Any]:
        """Return what an order needs to begin this pass again and go on behind `position`, as JSON."""
        return dict(self._kept)


class Counted(Pass):
    """A pass in which no sample comes twice, and whose samples can be asked for by their places.

    Args:
        length: How many there are.
        at: Returns which stand at some places, (n,) int64 -> (n,) int64; None where each stands at its own.
        kept: See `Pass`.
    """

    def __init__(
        self,
        length: int,
        at: Callable[[NDArray[np.int64]], NDArray[np.int64]] | None = None,
        kept: dict[str, Any] | None = None,
    ) -> None:
        super().__init__((), kept)
        self._length, self._at = length, at

    def __len__(self) -> int:
        """Return how many samples there are."""
        return self._length

    def at(self, places: NDArray[np.int64]) -> NDArray[np.int64]:
        """Return which samples stand at some places, each from 0 to length - 1."""
        return places if self._at is None else self._at(places)

    def __iter__(self) -> Iterator[Any]:
        """Yield the samples."""
        for begin in range(0, self._length, _AT_ONCE):
            yield from self.at(np.arange(begin, min(self._length, begin + _AT_ONCE))).tolist()


class _SamplerPass(Pass):
    """A pass whose state holds a checksum of what the sampler gave, so that another process sees whether it repeats."""

    def __init__(self, items: Iterable[Any], kept: dict[str, Any], position: int = 0, seen: int | None = None) -> None:
        super().__init__(items, kept)
        self._position, self._wanted = position, seen
        self._sums = array("I", [0])  # of what came, after each item

    def __iter__(self) -> Iterator[Any]:
        """Yield what the sampler gives.

        Raises:
            StateError: it is not what came before the state was saved.
        """
        number = 0
        for number, item in enumerate(self._items, 1):
            numbers = item if isinstance(item, list) else (item,)
            packed = struct.pack(f"<{len(numbers) + 1}q", len(numbers), *numbers)
            self._sums.append(zlib.crc32(packed, self._sums[-1]))
            if number == self._position:
                self._compare()
            yield item
        if number < self._position:
            self._compare()

    def _compare(self) -> None:
        if self._wanted is not None and self._checksum(self._position) != self._wanted:
            raise StateError(
                "loader state: the sampler must give the order that it gave when the state was saved, got another. "
                "Give it a generator, a state_dict() or a set_epoch(), or an order that doesn't change."
            )

    def _checksum(self, position: int) -> int:
        return self._sums[min(position, len(self._sums) - 1)]

    def state(self, position: int) -> dict[str, Any]:
        """Return what an order needs to begin this pass again and go on behind `position`, as JSON."""
        return {**self._kept, "seen": self._checksum(position)} if position else dict(self._kept)


class Order(Protocol):
    """Where the samples of an epoch come from, and what it takes to have the same ones again."""

    def begin(self, epoch: int, seed: int) -> Pass:
        """Return the samples (or the batches) of an epoch, in order."""
        ...

    def check(self, state: dict[str, Any], position: int) -> None:
        """Refuse a `state`, or a position in its epoch, that `restore` and `begin` could not go back to.

        Raises:
            StateError: it is not one that a `Pass` gave, or is another order's.
        """
        ...

    def restore(self, state: dict[str, Any], position: int) -> None:
        """Make the next `begin` repeat the pass whose `state` this is, one that `check` let pass."""
        ...


class OwnOrder:
    """0 to length - 1, or shuffled by the seed and the epoch.

    Args:
        length: Number of samples.
        shuffle: Whether each epoch has an order of its own.
        drawn: Returns the order for a seed, an epoch and `shuffle`, where it isn't one of all: see `MixedSource`.
    """

    def __init__(self, length: int, shuffle: bool, drawn: Callable[[int, int, bool], Any] | None = None) -> None:
        self.length, self.shuffle, self._drawn = length, shuffle, drawn
        self._repeat: dict[str, Any] = {}

    def begin(self, epoch: int, seed: int) -> Pass:
        """Return the samples of an epoch; a pass that is repeated has the seed that it had."""
        repeat, self._repeat = self._repeat, {}
        if not self.shuffle and self._drawn is None:
            return Counted(self.length)
        if repeat.get("of") == epoch:
            seed = repeat["seed"]
        kept = {"seed": seed, "of": epoch}
        if self._drawn is not None:
            return Pass(self._drawn(seed, epoch, self.shuffle).tolist(), kept)
        return Counted(self.length, Permutation(self.length, seed, epoch).at, kept)

    def check(self, state: dict[str, Any], position: int) -> None:
        """Refuse a sampler's state, and a position behind the end of an epoch."""
        if state and (state.keys() != {"seed", "of"} or not _is_seed(state["seed"]) or not _is_epoch(state["of"])):
            raise StateError(
                f"loader state: order must hold a seed and an epoch without a sampler, got {shown(state)}. {_ADVICE}"
            )
        if position > self.length:
            raise StateError(
                f"loader state: position must be at most the {self.length} samples of an epoch, got {position}. "
                f"{_ADVICE}"
            )

    def restore(self, state: dict[str, Any], position: int) -> None:
        """Make the next pass have the seed that the state tells, if that is of the same epoch and some of it came."""
        self._repeat = dict(state) if position else {}


def encoded(state: torch.Tensor) -> str:
    """Return a generator's state as text."""
    return base64.b64encode(state.numpy().tobytes()).decode("ascii")


def decoded(text: str) -> torch.Tensor:
    """Return the generator's state that `encoded` made a text of."""
    return torch.frombuffer(bytearray(base64.b64decode(text)), dtype=torch.uint8)


def is_rng_state(value: object) -> bool:
    """Return whether a value is what `encoded` made of a generator's state."""
    try:
        torch.Generator().set_state(decoded(value))  # type: ignore[arg-type]
    except (RuntimeError, TypeError, ValueError):
        return False
    return True


def _is_epoch(value: object) -> bool:
    return type(value) is int and 0 <= value < 2**32


def _is_seed(value: object) -> bool:
    return type(value) is int and 0 <= value < 2**64


_KINDS: dict[str, Callable[[object], bool]] = {
    "sampler": lambda value: True,  # its own load_state_dict will tell
    "epoch": _is_epoch,
    "of": _is_epoch,
    "seen": lambda value: isinstance(value, int),
    "global": is_rng_state,
    "generator": is_rng_state,
}
"""What a sampler's state may hold, and whether a value can be that."""


class SamplerOrder:
    """The order of a torch sampler, or the batches of a batch sampler.

    To repeat an epoch in another process it keeps what the sampler's order depends on: its own state_dict if it has
    one, its epoch (DistributedSampler), its generator's state, or that of torch's global generator for a random
    sampler without one. A sampler of yours that has none of these must give the same order when it is iterated anew:
    a checksum of what came tells whether it does. A state also says of which epoch it is: the next epoch goes on from
    where that one leaves the sampler.

    Args:
        sampler: An iterable of sample indices, or of lists of them.
        length: Number of samples that there are.
        in_batches: Whether it gives lists.
    """

    def __init__(self, sampler: Any, length: int, *, in_batches: bool) -> None:
        self.sampler, self.length, self.in_batches = sampler, length, in_batches
        self._repeat: dict[str, Any] = {}
        self._position = 0

    def begin(self, epoch: int, seed: int = 0) -> Pass:
        """Return the samples (or batches) of the next epoch; `seed` has no say in them."""
        repeat, self._repeat = self._repeat, {}
        seen = repeat.pop("seen", None)
        if repeat and repeat.get("of", epoch) == epoch:
            return _SamplerPass(self._checked(self._again(repeat)), repeat, self._position, seen)
        if "sampler" in repeat or "generator" in repeat:
            deque(self._again(repeat), maxlen=0)  # draws what the epoch before drew
        kept = {**self._snapshot(), "of": epoch}
        # A sampler that draws from torch's global generator draws now, whatever else draws from it later.
        items = list(self.sampler) if "global" in kept else self.sampler
        return _SamplerPass(self._checked(items), kept)

    def _checked(self, items: Iterable[Any]) -> Iterator[Any]:
        """Yield what the sampler gives, each index a plain number from 0 to length - 1.

        Raises:
            SamplerError: an index that no sample has.
        """
        if not self.in_batches:
            for position, index in enumerate(items):
                yield self._plain(index, f"{position}")
            return
        for number, batch in enumerate(items):
            yield [self._plain(index, f"{position} of batch {number}") for position, index in enumerate(batch)]

    def _plain(self, index: Any, position: str) -> int:
        try:
            number = operator.index(index)
        except TypeError:
            number = self.length
        if 0 <= number < self.length:
            return number
        if -self.length <= number < 0:  # counted from the end, as a data set does
            return number + self.length
        name = type(self.sampler).__name__
        raise SamplerError(
            f"sampler ({name}): every index must be a whole number below {self.length}, the number of samples, got "
            f"{shown(index)} at position {position}. Make the sampler for this very data set."
        )

    def _decider(self) -> Any:
        """Return the sampler that decides on the order, which others may wrap; None where that can't be told."""
        inner: Any = self.sampler
        for _ in range(_DEEPEST):
            if _kept_of(inner) is not None:
                return inner
            inner = getattr(inner, "sampler", None) or getattr(inner, "batch_sampler", None)
        return None

    def _snapshot(self) -> dict[str, Any]:
        """Return what the order depends on."""
        kept = _kept_of(self._decider())
        return {} if kept is None else {kept[0]: kept[1]()}

    def _again(self, state: dict[str, Any]) -> Iterable[Any]:
        inner = self._decider()
        if "sampler" in state:
            inner.load_state_dict(state["sampler"])
        elif "epoch" in state:
            inner.set_epoch(state["epoch"])
        elif "generator" in state:
            inner.generator.set_state(decoded(state["generator"]))
        elif "global" in state:
            with torch.random.fork_rng(devices=[]):
                torch.set_rng_state(decoded(state["global"]))
                return list(self.sampler)
        samples: Iterable[Any] = self.sampler
        return samples

    def check(self, state: dict[str, Any], position: int) -> None:
        """Refuse what is neither empty, as before the first epoch, nor of the same kind as this sampler's."""
        if not state and not position:
            return
        mine = self._snapshot()
        if state.keys() - {"of", "seen"} != mine.keys():
            kinds = ", ".join(mine) or "nothing of the sampler"
            raise StateError(f"loader state: order must hold {kinds}, got {shown(list(state))}. {_ADVICE}")
        for kind, value in state.items():
            if not _KINDS[kind](value):
                raise StateError(f"loader state: order must hold the sampler's {kind}, got {shown(value)}. {_ADVICE}")

    def restore(self, state: dict[str, Any], position: int) -> None:
        """Make the next epoch repeat the one whose `state` this is."""
        self._repeat, self._position = dict(state), position


def _kept_of(sampler: Any) -> tuple[str, Callable[[], Any]] | None:
    """Return what a sampler's order depends on, its kind and how to ask for it; None where that can't be told."""
    if hasattr(sampler, "state_dict") and hasattr(sampler, "load_state_dict"):
        return "sampler", sampler.state_dict
    if isinstance(getattr(sampler, "epoch", None), int) and hasattr(sampler, "set_epoch"):
        return "epoch", lambda: sampler.epoch
    if not isinstance(sampler, torch.utils.data.Sampler) or not hasattr(sampler, "generator"):
        return None
    if sampler.generator is None:
        return "global", lambda: encoded(torch.get_rng_state())
    if isinstance(sampler.generator, torch.Generator):
        return "generator", lambda: encoded(sampler.generator.get_state())
    return None
