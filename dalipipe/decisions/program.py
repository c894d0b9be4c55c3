"""The pixel ops of a recipe as numbers: one row a step, for `dalipipe.decisions.geometry.resolve`."""

from __future__ import annotations

import math
from collections.abc import Iterator
from dataclasses import dataclass
from functools import lru_cache
from typing import Any

import numpy as np
from numpy.typing import NDArray

from dalipipe.decisions.geometry import COLUMN, COLUMNS, resolve
from dalipipe.decisions.status import Status
from dalipipe.limits import pixel_limit
from dalipipe.recipes import Recipe, ops
from dalipipe.recipes.layout import spans
from dalipipe.recipes.ops.base import Numbers
from dalipipe.recipes.primitives import BICUBIC, BILINEAR, NEAREST, NEAREST_EXACT, RECORD, Primitive
from dalipipe.recipes.rules import FIELDS, FOR_ALL, NUMBERS, SIZING, Rule

_INTERPOLATIONS = {
    "nearest": float(NEAREST),
    "bilinear": float(BILINEAR),
    "bicubic": float(BICUBIC),
    "nearest-exact": float(NEAREST_EXACT),
}


@dataclass(frozen=True)
class Program:
    """The pixel ops of a recipe as numbers.

    Attributes:
        table: (n, COLUMNS) float64, a row a step: how it is resolved, where its uniforms begin, the most px that it may
            make, its arguments, and what must be drawn for it to be done at all.
        positions: (n,) position in the recipe of the op that each step belongs to.
        ops: (n,) op behind each step: one of the recipe's, or one within a container.
        counts: uniforms that each op of the whole recipe draws, for `randomness.uniforms`.
        tail: how many of the last steps work on what leaves the ops of the range, not on levels.
        given: (n,) what each step's op gives to its rule.
        becomes: (n,) the primitives that each step may become.
        channels: (n + 1,) of the image before each step, and after the last. A backend may have one channel as three
            equal ones: what would treat those otherwise has a primitive of its own, or is left out.
    """

    table: NDArray[np.float64]
    positions: tuple[int, ...]
    ops: tuple[ops.Op, ...]
    counts: tuple[int, ...]
    tail: int
    given: tuple[Numbers, ...]
    becomes: tuple[tuple[Primitive, ...], ...]
    channels: tuple[int, ...]

    def __len__(self) -> int:
        """Return the number of steps."""
        return len(self.table)

    def gated(self, row: int) -> bool:
        """Return whether a step is left out for some samples."""
        return bool(self.table[row, COLUMN.gates + 2] > 0)

    def is_for_all(self, row: int) -> bool:
        """Return whether all samples that can be processed may go through a step, its fields being what they are."""
        return self.table[row, COLUMN.rule] in FOR_ALL and not self.gated(row)

    def resolve(self, uniforms: NDArray[np.float64], height: int, width: int) -> tuple[NDArray[np.float64], Status]:
        """Return the records of one sample and its status.

        Shapes: uniforms (sum(counts),) -> records (n, RECORD) float64.
        """
        records = np.zeros((len(self), RECORD))
        status = resolve(self.table, uniforms, height, width, records)
        return records, Status(status)


def _row_of(rule: Rule, given: Numbers, where: str) -> list[float]:
    """Return the numbers that an op gives to its rule, (NUMBERS,), in the rule's order; zeros where it has fewer.

    Raises:
        TypeError: the op gives others than the rule wants; that is a mistake in the op.
    """
    wanted = {name: end - begin for name, begin, end in spans(FIELDS[rule])}
    row: list[float] = []
    for name, size in wanted.items():
        value = given.get(name)
        parts: list[Any] = list(value) if isinstance(value, tuple | list) else [value]
        numbers = [_INTERPOLATIONS[part] if isinstance(part, str) else part for part in parts]
        if None in numbers or len(numbers) > size or given.keys() != wanted.keys():
            raise TypeError(f"{where}: rule {rule.name} wants {FIELDS[rule]!r}, got {given}. Correct `numbers`.")
        row += [float(number) for number in numbers] + [0.0] * (size - len(numbers))
    return row + [0.0] * (NUMBERS - len(row))


_Step = tuple[ops.Op, int, int, tuple[float, ...]]


def _steps(op: ops.Op, offset: int, gates: tuple[float, ...]) -> Iterator[_Step]:
    """Yield the ops that an op comes down to, which part of it, where its uniforms begin, and the gates before it."""
    if not isinstance(op, ops.Container):
        for part in range(op.steps):
            yield op, part, offset, gates
        return
    inner = offset + 1
    for child, low, high in op.branches():
        # A gate that is always open would only cost time; one that never opens lies where nothing is drawn.
        gate = () if low <= 0 and high >= 1 else (float(offset), low, high) if low < high else (float(offset), 2.0, 2.0)
        yield from _steps(child, inner, (*gates, *gate))
        inner += child.uniforms


def program(recipe: Recipe) -> Program:
    """Return the program of a recipe's pixel ops before its first Python step, under the present `pixel_limit`."""
    limit = pixel_limit()
    return _program(recipe, math.inf if limit is None else float(limit))


@lru_cache(maxsize=64)
def _program(whole: Recipe, limit: float) -> Program:
    recipe = whole.beginning
    counts = tuple(op.uniforms for op in recipe.ops)
    starts = np.concatenate([[0], np.cumsum(counts)]).astype(np.int64)
    stages = recipe.stages
    channels = recipe.channels
    positions = tuple(position for position, stage in enumerate(stages) if stage != "range")
    steps = [(at, *step) for at in positions for step in _steps(recipe.ops[at], int(starts[at]), ())]
    table, given, becomes = np.zeros((len(steps), COLUMNS)), [], []
    for row, (position, op, part, offset, gates) in zip(table, steps, strict=True):
        if op.rule is None:
            raise TypeError(f"{op.op}: an op on pixels must say by which rule it is decided. Give its class a `rule`.")
        numbers = op.numbers(part, channels[position])
        if stages[position] == "tail":
            numbers |= {"value": recipe.as_it_leaves(position, numbers["value"]), "finished": True}
        given.append(numbers)
        becomes.append(op.becomes(channels[position]))
        row[COLUMN.rule], row[COLUMN.offset], row[COLUMN.limit] = op.rule, offset, limit
        row[COLUMN.fixed] = op.rule in SIZING and op.check(ops.ImageSpec()).height is not None
        row[COLUMN.numbers : COLUMN.gates] = _row_of(op.rule, numbers, op.op)
        row[COLUMN.gates : COLUMN.gates + len(gates)] = gates
    return Program(
        table,
        tuple(step[0] for step in steps),
        tuple(step[1] for step in steps),
        counts,
        stages.count("tail"),
        tuple(given),
        tuple(becomes),
        (*(channels[step[0]] for step in steps), channels[-1]),
    )
