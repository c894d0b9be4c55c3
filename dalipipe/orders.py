"""Orders of an epoch: dalipipe's own, a function of seed and epoch, and those of torch's samplers, made repeatable."""

from __future__ import annotations

import base64
from collections import deque
from collections.abc import Callable, Iterable
from typing import Any, Protocol

import torch

from dalipipe import plan
from dalipipe.errors import StateError, shown

_ADVICE = "Use what state_dict() gave, with the same sampler."


class Order(Protocol):
    """Where the samples of an epoch come from, and what it takes to have the same ones again."""

    def begin(self, epoch: int) -> Iterable[Any]:
        """Return the samples (or the batches) of an epoch, in order."""
        ...

    def state(self) -> dict[str, Any]:
        """Return what `begin` needs to repeat the epoch that began last, as JSON."""
        ...

    def check(self, state: dict[str, Any], position: int) -> None:
        """Refuse a `state`, or a position in its epoch, that `restore` and `begin` could not go back to.

        Raises:
            StateError: it is not one that `state` gave, or is another order's.
        """
        ...

    def restore(self, state: dict[str, Any]) -> None:
        """Make the next `begin` repeat the epoch whose `state` this is, one that `check` let pass."""
        ...


class OwnOrder:
    """0 to length - 1, or shuffled by the plan: nothing to keep.

    Args:
        length: Number of samples.
        seed: Of the shuffling.
        shuffle: Whether each epoch has an order of its own.
    """

    def __init__(self, length: int, seed: int, shuffle: bool) -> None:
        self.length, self.seed, self.shuffle = length, seed, shuffle

    def begin(self, epoch: int) -> Iterable[int]:
        """Return the samples of an epoch."""
        if not self.shuffle:
            return range(self.length)
        order: list[int] = plan.permutation(self.length, self.seed, epoch).tolist()
        return order

    def state(self) -> dict[str, Any]:
        """Return nothing: seed and epoch say it all."""
        return {}

    def check(self, state: dict[str, Any], position: int) -> None:
        """Refuse a sampler's state, and a position behind the end of an epoch."""
        if state:
            raise StateError(f"loader state: order must be empty without a sampler, got {shown(state)}. {_ADVICE}")
        if position > self.length:
            raise StateError(
                f"loader state: position must be at most the {self.length} samples of an epoch, got {position}. "
                f"{_ADVICE}"
            )

    def restore(self, state: dict[str, Any]) -> None:
        """Do nothing."""


def _encode(state: torch.Tensor) -> str:
    return base64.b64encode(state.numpy().tobytes()).decode("ascii")


def _decode(text: str) -> torch.Tensor:
    return torch.frombuffer(bytearray(base64.b64decode(text)), dtype=torch.uint8)


def _is_rng_state(value: object) -> bool:
    """Return whether a value is what `_encode` made of a generator's state."""
    try:
        torch.Generator().set_state(_decode(value))  # type: ignore[arg-type]
    except (RuntimeError, TypeError, ValueError):
        return False
    return True


def _is_epoch(value: object) -> bool:
    return isinstance(value, int) and not isinstance(value, bool) and 0 <= value < 2**32


_KINDS: dict[str, Callable[[object], bool]] = {
    "sampler": lambda value: True,  # its own load_state_dict will tell
    "epoch": _is_epoch,
    "of": _is_epoch,
    "global": _is_rng_state,
    "generator": _is_rng_state,
}
"""What a sampler's state may hold, and whether a value can be that."""


class SamplerOrder:
    """The order of a torch sampler, or the batches of a batch sampler.

    To repeat an epoch in another process it keeps what the sampler's order depends on: its own state_dict if it has
    one, its epoch (DistributedSampler), its generator's state, or that of torch's global generator for a random
    sampler without one. A sampler of yours that has none of these must give the same order when it is iterated anew.
    A state also says of which epoch it is: the next epoch goes on from where that one leaves the sampler.

    Args:
        sampler: An iterable of sample indices, or of lists of them.
    """

    def __init__(self, sampler: Any) -> None:
        self.sampler = sampler
        inner = getattr(sampler, "sampler", sampler)  # a BatchSampler has the one that decides inside
        self._inner: Any = inner if isinstance(inner, torch.utils.data.Sampler) else sampler
        self._state: dict[str, Any] = {}
        self._repeat: dict[str, Any] | None = None

    def begin(self, epoch: int) -> Iterable[Any]:
        """Return the samples (or batches) of the next epoch."""
        repeat, self._repeat = self._repeat, None
        if repeat is not None and repeat.get("of", epoch) == epoch:
            self._state = repeat
            return self._again(repeat)
        if repeat is not None and not {"global", "epoch"} & set(repeat):
            deque(self._again(repeat), maxlen=0)  # draws what the epoch before drew
        self._state = self._snapshot()
        if self._state:
            self._state["of"] = epoch
        # A sampler that draws from torch's global generator draws now, whatever else draws from it later.
        return list(self.sampler) if "global" in self._state else self.sampler

    def _snapshot(self) -> dict[str, Any]:
        inner = self._inner
        if hasattr(inner, "state_dict"):
            return {"sampler": inner.state_dict()}
        if isinstance(getattr(inner, "epoch", None), int) and hasattr(inner, "set_epoch"):
            return {"epoch": inner.epoch}
        if not hasattr(inner, "generator"):
            return {}
        if inner.generator is None:
            return {"global": _encode(torch.get_rng_state())}
        return {"generator": _encode(inner.generator.get_state())}

    def _again(self, state: dict[str, Any]) -> Iterable[Any]:
        inner = self._inner
        if "sampler" in state:
            inner.load_state_dict(state["sampler"])
        elif "epoch" in state:
            inner.set_epoch(state["epoch"])
        elif "generator" in state:
            inner.generator.set_state(_decode(state["generator"]))
        elif "global" in state:
            with torch.random.fork_rng(devices=[]):
                torch.set_rng_state(_decode(state["global"]))
                return list(self.sampler)
        samples: Iterable[Any] = self.sampler
        return samples

    def state(self) -> dict[str, Any]:
        """Return what the order of the epoch that began last depends on."""
        return dict(self._repeat if self._repeat is not None else self._state)

    def check(self, state: dict[str, Any], position: int) -> None:
        """Refuse what is neither empty, as before the first epoch, nor of the same kind as this sampler's."""
        mine = self._snapshot()
        kept = {kind: value for kind, value in state.items() if kind != "of"}
        if not state:
            return
        if kept.keys() != mine.keys():
            kinds = ", ".join(mine) or "nothing"
            raise StateError(f"loader state: order must hold {kinds}, got {shown(list(state))}. {_ADVICE}")
        for kind, value in state.items():
            if not _KINDS[kind](value):
                raise StateError(f"loader state: order must hold the sampler's {kind}, got {shown(value)}. {_ADVICE}")

    def restore(self, state: dict[str, Any]) -> None:
        """Make the next epoch repeat the one whose `state` this is."""
        self._repeat = dict(state)
