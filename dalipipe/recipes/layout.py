"""Rows of numbers whose places have names: the fields of a record, the numbers of a rule."""

from __future__ import annotations

from collections import namedtuple
from collections.abc import Iterator
from typing import Any


def spans(fields: str) -> Iterator[tuple[str, int, int]]:
    """Yield the name, first place and one past the last of each field of a list such as "matrix:6 interpolation"."""
    begin = 0
    for field in fields.split():
        name, _, size = field.partition(":")
        end = begin + int(size or 1)
        yield name, begin, end
        begin = end


def size_of(fields: str) -> int:
    """Return how many numbers a list of fields has."""
    return max((end for _, _, end in spans(fields)), default=0)


def places(name: str, fields: str, first: int = 0) -> Any:
    """Return a named tuple of the place where each field begins, counted from `first`: a constant to Numba."""
    begins = {field: first + begin for field, begin, _ in spans(fields)}
    return namedtuple(name, begins)(**begins)
