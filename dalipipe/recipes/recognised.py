"""Transforms of a script's own that do what an op does: found out by calling them, with their random numbers in hand.

Many scripts carry a class that blurs by `PIL.ImageFilter.GaussianBlur` with a random radius, or solarises now and then.
What such a class does is a function of the numbers that it draws. It is called with numbers that are chosen, on an
image that only notes what is asked of it; where what it does is fully told by a chance and a range, it becomes an op.

    the class's own code ─ with another `random`, `numpy.random` and `torch` ─► an image that notes ─► chance, range

Nothing global is changed meanwhile: a copy of its function gets modules of its own.
"""

from __future__ import annotations

import math
import random as random_module
import types
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from functools import partial
from typing import Any

import numpy as np
from PIL import ImageFilter

from dalipipe.recipes.ops import GaussianBlur, Op, RandomApply, RandomInvert, RandomSolarize

_TRIALS = 24  # of numbers drawn, on which what was found has to hold
_MOST_DRAWS = 4
_EDGE = 1e-9

Effect = tuple[str, float] | None


class _UnknownError(Exception):
    """Something is done that no op does, or that can't be followed."""


class _Draws:
    """Stands for Python's `random`, and gives chosen numbers, each from 0 to 1."""

    def __init__(self, numbers: Sequence[float]) -> None:
        self._numbers, self.count = numbers, 0

    def random(self, *size: Any) -> float:
        """Return the next number."""
        if any(one not in (None, 1) for one in size) or self.count >= len(self._numbers):
            raise _UnknownError
        self.count += 1
        return self._numbers[self.count - 1]

    def uniform(self, low: float = 0.0, high: float = 1.0, *size: Any) -> float:
        """Return the next number, between two."""
        return low + (high - low) * self.random(*size)

    def __getattr__(self, name: str) -> Any:
        raise _UnknownError(name)


class _Tensor(float):
    """A number that torch drew."""

    def item(self) -> float:
        """Return it."""
        return float(self)

    def __getitem__(self, _index: Any) -> _Tensor:
        return self


class _Module:
    """Stands for a module, and has nothing but some functions."""

    def __init__(self, **known: Any) -> None:
        vars(self).update(known)

    def __getattr__(self, name: str) -> Any:
        raise _UnknownError(name)


class _Noting:
    """An image that notes what is done to it, and knows nothing else."""

    mode = "RGB"

    def __init__(self, done: tuple[tuple[str, float], ...] = ()) -> None:
        self.done = done

    def filter(self, kind: Any) -> _Noting:
        """Note a Gaussian blur."""
        radius = getattr(kind, "radius", None)
        if type(kind) is not ImageFilter.GaussianBlur or not isinstance(radius, int | float):
            raise _UnknownError
        return _Noting((*self.done, ("blur", float(radius))))

    def point(self, table: Any, mode: str | None = None) -> _Noting:
        """Note what a table of levels does."""
        if mode is not None or not isinstance(table, list) or len(table) != 3 * 256 or table != table[:256] * 3:
            raise _UnknownError
        changed = [level for level in range(256) if table[level] != level]
        if not changed or any(table[level] != 255 - level for level in range(changed[0], 256)):
            raise _UnknownError
        return _Noting((*self.done, ("solarize", float(changed[0]))))

    def copy(self) -> _Noting:
        """Return one that has noted the same."""
        return _Noting(self.done)

    def __getattr__(self, name: str) -> Any:
        raise _UnknownError(name)


@dataclass(frozen=True)
class _Found:
    """What a transform does: with a chance of `p` something by a number that lies between two."""

    kind: str
    p: float
    low: float
    high: float

    def op(self) -> Op | None:
        """Return the op that does the same; None for none."""
        if self.kind == "blur":
            if not 0 < self.low < self.high or self.high > 32:
                return None  # with one radius it can be had as it is
            reach = math.ceil(4 * self.high)  # what lies beyond weighs less than 0.0001
            blur = GaussianBlur(kernel_size=(2 * reach + 1, 2 * reach + 1), sigma=(self.low, self.high))
            return blur if self.p == 1 else RandomApply(ops=(blur,), p=self.p)
        if self.low != self.high or self.p == 1:
            return None
        return RandomInvert(p=self.p) if self.low == 0 else RandomSolarize(threshold=self.low, p=self.p)


def recognised(transform: object) -> Op | None:
    """Return the op that does what a transform of a script's own does; None where there is none, or that can't be told.

    These become ops: a blur by `PIL.ImageFilter.GaussianBlur` with a radius drawn evenly between two numbers, with any
    chance (`GaussianBlur` of such a sigma, cut off at four of it), and with a chance below 1 `PIL.ImageOps.solarize`
    and `invert` (`RandomSolarize`, `RandomInvert`). Pillow's blur is made of box blurs: for sigmas up to 2 it is 0.1 to
    0.5 levels off torchvision's in the mean over photos, and up to 34 at single pixels.
    """
    try:
        found = _found(_follower(transform))
        return None if found is None else found.op()
    except Exception:  # whatever the code of a stranger does with what is no image
        return None


def _follower(transform: object) -> Callable[[Sequence[float]], tuple[Effect, int]]:
    """Return what a transform does, and how many numbers it draws, as a function of these."""
    import torch  # seconds to import, and in memory already where there are transforms

    name = "forward" if isinstance(transform, torch.nn.Module) else "__call__"
    call = getattr(type(transform), name, None)
    if not isinstance(call, types.FunctionType) or call.__closure__ is not None:
        raise _UnknownError
    home = type(transform).__module__
    if home.startswith(("torch.", "torchvision.", "timm.")):
        raise _UnknownError
    names = set(call.__code__.co_names)
    if any(callable(getattr(type(transform), name, None)) for name in names):
        raise _UnknownError  # a method of its own, which draws for itself

    def follow(numbers: Sequence[float]) -> tuple[Effect, int]:
        draws = _Draws(numbers)
        drawn = {"rand": draws.random, "random": draws.random, "uniform": draws.uniform}

        def rand(*size: Any) -> _Tensor:
            return _Tensor(draws.random(*size))

        instead: dict[int, Any] = {
            id(random_module): draws,
            id(random_module.random): draws.random,
            id(random_module.uniform): draws.uniform,
            id(np): _Module(random=_Module(**drawn)),
            id(np.random): _Module(**drawn),
            id(torch): _Module(rand=rand),
        }
        own = {name: instead.get(id(value), value) for name, value in call.__globals__.items() if name in names}
        if any(isinstance(value, types.FunctionType) and not _is_pillows(value) for value in own.values()):
            raise _UnknownError  # which may draw for itself
        own["__builtins__"] = __builtins__
        copy = types.FunctionType(call.__code__, own, call.__name__, call.__defaults__)
        copy.__kwdefaults__ = call.__kwdefaults__
        before = dict(vars(transform))
        given = copy(transform, _Noting())
        if vars(transform) != before or type(given) is not _Noting or len(given.done) > 1:
            raise _UnknownError
        return (given.done[0] if given.done else None), draws.count

    return follow


def _is_pillows(function: types.FunctionType) -> bool:
    return function.__module__.startswith("PIL.")


def _found(follow: Callable[[Sequence[float]], tuple[Effect, int]]) -> _Found | None:
    """Return what is done as a function of the numbers drawn; None where nothing this simple tells it."""
    middle = [0.5] * _MOST_DRAWS
    number = max(follow([value] * _MOST_DRAWS)[1] for value in (_EDGE, 0.5, 1 - _EDGE))

    def at(place: int, value: float, base: Sequence[float] = middle) -> Effect:
        return follow([*base[:place], value, *base[place + 1 :]])[0]

    def does_as(place: int, below: bool, value: float) -> bool:
        return (at(place, value) is not None) == below

    gate, chance, low_side = None, 1.0, True
    base = middle
    for place in range(number):
        ends = [at(place, value) for value in (_EDGE, 1 - _EDGE)]
        if (ends[0] is None) == (ends[1] is None):
            continue
        if gate is not None:
            return None
        gate, low_side = place, ends[1] is None
        threshold = _threshold(partial(does_as, place, low_side))
        chance = threshold if low_side else round(1 - threshold, 9)
        base = [*middle]
        base[place] = _EDGE if low_side else 1 - _EDGE
    effect = follow(base)[0]
    if effect is None or number > 2:
        return None
    low = high = effect[1]
    drawn = None
    for place in range(number):
        if place == gate:
            continue
        ends = [at(place, value, base) for value in (0.0, 1.0)]
        if ends[0] is None or ends[1] is None:
            return None
        drawn, low, high = place, round(ends[0][1], 9), round(ends[1][1], 9)
    found = _Found(effect[0], chance, min(low, high), max(low, high))
    rng = np.random.default_rng(0)
    for _ in range(_TRIALS):
        numbers = rng.random(_MOST_DRAWS).tolist()
        wanted: Effect = (found.kind, low if drawn is None else low + (high - low) * numbers[drawn])
        if gate is not None and (numbers[gate] < chance if low_side else numbers[gate] >= 1 - chance) is False:
            wanted = None
        given = follow(numbers)[0]
        if (given is None) != (wanted is None):
            return None
        if given is not None and wanted is not None and (given[0] != wanted[0] or abs(given[1] - wanted[1]) > 1e-6):
            return None
    return found


def _threshold(holds: Callable[[float], bool]) -> float:
    """Return up to which number something holds that holds from 0 on, to nine digits."""
    low, high = 0.0, 1.0
    while high - low > 1e-11:
        middle = (low + high) / 2
        low, high = (middle, high) if holds(middle) else (low, middle)
    return round(high, 9)
