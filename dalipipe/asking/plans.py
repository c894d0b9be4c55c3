"""What becomes of a chain of transforms: as much of it as a recipe can do, and the steps that remain Python's."""

from __future__ import annotations

import operator
from collections import OrderedDict
from collections.abc import Iterable, Iterator
from dataclasses import dataclass
from types import ModuleType
from typing import Any, Literal

from dalipipe.recipes import Recipe
from dalipipe.recipes.ops.base import Channels
from dalipipe.recipes.translation import Form, beginning, flatten

MOST_PLANS = 256
"""Chains that are kept: a data set may make its transforms anew for each sample."""

Kind = Literal["tensor", "image", "other"]


@dataclass(eq=False)
class Plan:
    """What becomes of one chain of transforms.

    Attributes:
        steps: The whole chain.
        recipe: What does the first of them; None where no recipe can.
        form: What these hand on: a PIL image, or a tensor.
        rest: The steps behind, which run in Python.
        gives: What comes out of all of it; None as long as that is not known, which only steps of the user's tell.
        unsized: Whether a recipe could do all of the steps, but for the size of what comes out, which they don't fix.
        sized: Whether the recipe is for images of one size.
        stopped: Why the rest is the rest.
        fingerprint: Of the recipe.
        held: The attributes of the transforms and of their parts, and what they held when it was made.
    """

    steps: tuple[Any, ...]
    recipe: Recipe | None
    form: Form
    rest: tuple[Any, ...]
    gives: Kind | None
    unsized: bool = False
    sized: bool = False
    stopped: str = ""
    fingerprint: str = ""
    held: tuple[tuple[dict[str, Any], tuple[Any, ...]], ...] = ()

    @property
    def changed(self) -> bool:
        """Whether a transform holds something else than when the plan was made."""
        for holder, values in self.held:
            if len(holder) != len(values) or not all(map(operator.is_, holder.values(), values)):
                return True
        return False

    @property
    def wrapped(self) -> bool:
        """Whether torchvision would hand on a `tv_tensors.Image` where the recipe ends."""
        names = [type(step).__name__ for step in self.steps[: len(self.steps) - len(self.rest)]]
        return "ToImage" in names and "ToPureTensor" not in names


class Plans:
    """The plans that have been made, by the transforms themselves."""

    def __init__(self) -> None:
        self._known: OrderedDict[tuple[Any, ...], Plan] = OrderedDict()
        self._last: dict[tuple[Any, ...], Plan] = {}
        self._noting: dict[int, Any] = {}
        self._steps: OrderedDict[int, tuple[Any, tuple[Any, ...], tuple[Any, ...]]] = OrderedDict()

    def clear(self) -> None:
        """Forget all: a transform may have been changed."""
        self._known.clear()
        self._last.clear()
        self._steps.clear()

    def note(self, step: Any) -> None:
        """Remember of a step that it keeps something of what it did, which its data set may ask it for."""
        self._noting[id(step)] = step
        for plan in self._known.values():
            if step in plan.rest:
                plan.gives = "other"

    def notes(self, steps: tuple[Any, ...]) -> bool:
        """Return whether one of some steps is known to keep something of what it did."""
        return bool(self._noting) and any(id(step) in self._noting for step in steps)

    def __iter__(self) -> Any:
        """Return an iterator over the plans."""
        return iter(self._known.values())

    def steps_of(self, transform: Any) -> tuple[Any, ...]:
        """Return the single transforms that a transform holds."""
        known, parts = self._steps.get(id(transform)), getattr(transform, "transforms", None)
        held = tuple(parts) if isinstance(parts, list) else ()
        if known is None or not (len(held) == len(known[1]) and all(map(operator.is_, held, known[1]))):
            steps = tuple(step for _, step in flatten(transform, "transforms"))
            known = self._steps[id(transform)] = transform, held, steps
            if len(self._steps) > MOST_PLANS:
                self._steps.popitem(last=False)
        return known[2]

    def of(self, steps: tuple[Any, ...], form: Form, channels: Channels, size: tuple[int, int] | None) -> Plan:
        """Return the plan of a chain.

        Args:
            steps: The single transforms.
            form: What the first of them gets.
            channels: Of that image.
            size: (height, width) where it is known without opening a file.
        """
        # The number of an object is its own for as long as the plan holds it; so with what a transform holds.
        last = (*map(id, steps), form, channels, size)
        plan = self._last.get(last)
        if plan is not None and not plan.changed:
            return plan
        key = (*map(state_of, steps), form, channels, size)
        plan = self._known.get(key)
        if plan is None:
            plan = self._known[key] = _planned(steps, form, channels, size)
            if self.notes(plan.rest):
                plan.gives = "other"
            plan.held = tuple(_held(steps))
            if len(self._known) > MOST_PLANS:
                self._known.popitem(last=False)
                self._last.clear()
        self._last[last] = plan
        return plan


def _held(steps: Iterable[Any]) -> Iterator[tuple[dict[str, Any], tuple[Any, ...]]]:
    for step in steps:
        holder = getattr(step, "__dict__", None)
        if holder is not None:
            yield holder, tuple(holder.values())
            parts = holder.get("transforms")
            if isinstance(parts, list | tuple):
                yield from _held(parts)


def state_of(step: Any) -> tuple[Any, ...]:
    """Return what a transform is known by: itself, and all that it and its parts hold."""
    held = getattr(step, "__dict__", None)
    if not held:
        return (id(step),)
    parts = held.get("transforms")
    inner = tuple(map(state_of, parts)) if isinstance(parts, list | tuple) else ()
    return (id(step), *map(id, held.values()), *inner)


def _looks_elsewhere(step: Any) -> bool:
    """Return whether a step is a function that sees more than its argument, which may be the data set's for one sample.

    Such a one is called while the sample is asked for; others wait until the batch is there.
    """
    function = getattr(step, "lambd", step)
    owner = getattr(function, "__self__", None)
    return bool(getattr(function, "__closure__", None)) or (owner is not None and not isinstance(owner, ModuleType))


def _planned(steps: tuple[Any, ...], form: Form, channels: Channels, size: tuple[int, int] | None) -> Plan:
    found, sized = beginning(steps, form, channels, None), False
    if size is not None and found.count < len(steps):
        other = beginning(steps, form, channels, size)
        sized = other.count > found.count
        found = other if sized else found
    rest = steps[found.count :]
    unsized = found.recipe is None and found.understood == len(steps)
    gives: Kind | None = None if rest and not unsized else "image" if found.form == "pil" else "tensor"
    if any(map(_looks_elsewhere, rest)):
        gives = "other"
    digest = "" if found.recipe is None else found.recipe.fingerprint()
    return Plan(steps, found.recipe, found.form, rest, gives, unsized, sized, found.stopped, digest)
