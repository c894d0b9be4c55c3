"""What a backend is: a name, a sentence, whether it can run here, its table of primitives, and how it runs a job."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass
from typing import Any, NamedTuple

from dalipipe.backends.base import Job
from dalipipe.backends.results import Executor
from dalipipe.errors import BackendError
from dalipipe.recipes import Recipe, ops
from dalipipe.recipes.primitives import Primitive, on_channels


class Entry(NamedTuple):
    """How a backend does a primitive.

    Attributes:
        function: What does it; its parameters are the backend's own affair.
        label: How `dalipipe show` calls it; for a table in which that depends on the op, a function of it.
    """

    function: Callable[..., Any]
    label: str | Callable[[ops.Op], str]

    def label_for(self, op: ops.Op) -> str:
        """Return the label for an op that may become the primitive."""
        return self.label if isinstance(self.label, str) else self.label(op)


Table = Mapping[Primitive, Entry]


def decoded_window(op: ops.Op) -> str | None:
    """Return the label of a recipe's first op where DALI's own operators decode no more than its box."""
    return "decoders.image_slice + resize" if isinstance(op, ops.RandomResizedCrop) else None


@dataclass(frozen=True)
class Backend:
    """A backend. Importing this imports nothing that it runs on: the functions do, when they are called.

    Attributes:
        name: As users write it.
        sentence: What it is, in a phrase.
        available: Raises BackendError where it can't run here, and says what to do.
        table: Returns what does each primitive.
        last: How `dalipipe show` calls what rescales and normalises.
        run: Returns an executor for a job with only such primitives.
        prefix: Stands before each label.
        within: How `dalipipe show` tells of the ops within another, given theirs.
        first: The label of the recipe's first op where that is done while decoding; None where it isn't.
    """

    name: str
    sentence: str
    available: Callable[[], None]
    table: Callable[[], Table]
    last: str
    run: Callable[[Job], Executor]
    prefix: str = ""
    within: str = "{}"
    first: Callable[[ops.Op], str | None] = lambda _: None

    def lacks(self, op: ops.Op) -> list[Primitive]:
        """Return what an op, or one within it, may become that the backend has no entry for."""
        table = self.table()
        may = dict.fromkeys(one for leaf in ops.leaves(op) for count in (3, 1) for one in leaf.becomes(count))
        return [one for one in may if one not in table]

    def require(self, recipe: Recipe) -> None:
        """Refuse a recipe with an op that may become a primitive which the backend has no entry for.

        Raises:
            BackendError: names the op, the primitive, the backend and what the backend has.
        """
        every = (op for view in recipe.views for op in view.ops)
        for leaf in (leaf for op in every for leaf in ops.leaves(op)):
            if missing := self.lacks(leaf):
                known = ", ".join(name for name, model in ops.OPS.items() if self.has(model))
                raise BackendError(
                    f"{self.name}: can't do {leaf.op}: there is no {missing[0].name}. It has: {known}. "
                    'Use backend "dali-cpu" or "torchvision".'
                )

    def has(self, model: type[ops.Op]) -> bool:
        """Return whether the backend can do all that an op may become, whatever its arguments."""
        table = self.table()
        both = {on_channels(primitive, channels) for primitive in model.primitives for channels in (1, 3)}
        return both - {Primitive.NOTHING} <= table.keys()

    def compile(self, job: Job) -> Executor:
        """Return an executor for a job.

        Raises:
            BackendError: the backend can't run here, or lacks a primitive that the recipe may need.
        """
        self.available()
        self.require(job.recipe)
        return self.run(job)

    def describe(self, recipe: Recipe) -> list[str]:
        """Return what stands for each op of a recipe.

        Raises:
            BackendError: the backend can't be asked here, as DALI's where DALI is not installed.
        """
        table = self.table()
        labels = [self._label(table, recipe, position) for position in range(len(recipe.ops))]
        return [label if label == "Python" else self.prefix + label for label in labels]

    def _label(self, table: Table, recipe: Recipe, position: int) -> str:
        op = recipe.ops[position]
        if any(isinstance(before, ops.Python) for before in recipe.ops[: position + 1]):
            return "Python"
        if recipe.stages[position] == "range":
            return self.last
        if position == 0 and (label := self.first(op)) is not None:
            return label
        parts = [part for leaf in ops.leaves(op) for label in _labels(table, leaf) for part in label.split(", ")]
        labels = ", ".join(dict.fromkeys(parts))
        return self.within.format(labels) if isinstance(op, ops.Container) else labels


def _labels(table: Table, op: ops.Op) -> Iterator[str]:
    for primitive in op.factors() or op.primitives:
        yield table[primitive].label_for(op) if primitive in table else "refused"
