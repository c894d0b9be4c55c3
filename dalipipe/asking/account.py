"""What ran where, and what it cost: measured while a data set is asked, and told by `DataLoader.explain`."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass, field
from typing import Any

from dalipipe.asking.plans import Plan, Plans
from dalipipe.recipes.translation import notes_of, why_not_translated

STANDARD = {
    "Cutout": "RandomErasing",
    "GaussianBlur": "GaussianBlur",
    "RandomResizedCropAndInterpolation": "RandomResizedCrop",
    "Solarization": "RandomSolarize",
    "Solarize": "RandomSolarize",
}
"""What many scripts have a class of their own for, and the transform of torchvision's that does about the same."""


@dataclass
class Cost:
    """How often something was done, and how long it took in all."""

    count: int = 0
    seconds: float = 0.0

    def add(self, seconds: float) -> None:
        """Count once more."""
        self.count += 1
        self.seconds += seconds

    @property
    def each(self) -> str:
        """The time of one, in words."""
        return f"{1000 * self.seconds / max(1, self.count):.2f} ms"


@dataclass
class Account:
    """What was done in Python.

    Attributes:
        asking: Samples that were asked for, all that the data set itself does included.
        looked: Images that were decoded because somebody looked at their pixels, by what looked.
        at_once: Views that were made at once, because somebody looked at them.
        steps: What transforms did in Python, by their names.
    """

    asking: Cost = field(default_factory=Cost)
    looked: dict[str, Cost] = field(default_factory=dict)
    at_once: Cost = field(default_factory=Cost)
    steps: dict[str, Cost] = field(default_factory=dict)

    def look(self, what: str, seconds: float) -> None:
        """Count an image that was decoded."""
        self.looked.setdefault(what, Cost()).add(seconds)

    def step(self, step: Any, seconds: float) -> None:
        """Count a transform that ran in Python."""
        self.steps.setdefault(_name(step), Cost()).add(seconds)

    def took(self, steps: tuple[Any, ...]) -> str:
        """Return how long some transforms take together, in words; nothing where that isn't known."""
        costs = [self.steps[_name(step)] for step in steps if _name(step) in self.steps]
        took_ms = 1000 * sum(cost.seconds / cost.count for cost in costs)
        return f", {took_ms:.2f} ms an image" if costs else ""


def explained(name: str, backend: str, plans: Plans, account: Account) -> Iterator[str]:
    """Yield, line by line, which steps run on the backend, which in Python and why, and what that costs here.

    Args:
        name: Of the data set.
        backend: Of the loader.
        plans: What becomes of its transforms.
        account: What was measured.
    """
    yield f"{name} is asked for each sample, which takes {account.asking.each} (measured on {account.asking.count})."
    told: set[tuple[str, ...]] = set()
    for plan in plans:
        names = tuple(map(_name, plan.steps))
        if names and names not in told and (plan.recipe is not None or plan.unsized):
            told.add(names)
            yield from _of_plan(plan, backend, account)
    for what, cost in account.looked.items():
        yield (
            f"Decoded in Python, since {what} looks at the pixels before a transform does: {cost.count} images,"
            f" {cost.each} each. A transform that gets the file's own image lets {backend} decode it."
        )
    if account.at_once.count:
        yield (
            f"Made at once, since the data set goes on with what a transform made: {account.at_once.count} images,"
            f" {account.at_once.each} each. On the batch, in the loop, it would cost less."
        )


def _of_plan(plan: Plan, backend: str, account: Account) -> Iterator[str]:
    done = plan.steps[: len(plan.steps) - len(plan.rest)]
    if done:
        notes = "" if plan.recipe is None else notes_of(plan.recipe)
        yield " ".join(filter(None, [f"On {backend}: {', '.join(map(_name, done))}.", notes]))
    if plan.unsized:
        names, took = ", ".join(map(_name, plan.rest)), account.took(plan.rest)
        yield (
            f"In Python: {names}{took}, for the size of what comes out is not fixed. With a CenterCrop behind, or a"
            f" Resize to (height, width), {backend} would do it."
        )
        return
    for number, step in enumerate(plan.rest):
        why = why_not_translated(step) or ("it stands behind that" if number else plan.stopped)
        known = STANDARD.get(type(step).__name__)
        instead = f"; torchvision's {known} would run on {backend}" if known and why else ""
        yield f"In Python: {_name(step)}{account.took((step,))}: {why}{instead}."


def _name(step: Any) -> str:
    name: str = getattr(step, "__qualname__", type(step).__name__)
    return name
