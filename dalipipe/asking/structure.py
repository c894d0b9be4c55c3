"""Samples of any structure: what stands in them replaced, and several of them collated as torch does it."""

from __future__ import annotations

import copy
import dataclasses
from collections.abc import Callable, Mapping, Sequence
from functools import partial
from typing import Any

import torch
from PIL import Image
from torch.utils.data._utils.collate import collate, collate_tensor_fn, default_collate_fn_map

from dalipipe.errors import ConfigError


def mapped(structure: Any, change: Callable[[Any], Any]) -> Any:
    """Return a structure with each leaf changed: of tuples, lists, dicts, named tuples and data classes, any deep.

    What holds no leaf that changes is returned as it is; so is any other container.
    """
    kind = type(structure)
    if kind is tuple or kind is list:
        parts = [mapped(part, change) for part in structure]
        same = all(one is other for one, other in zip(parts, structure, strict=True))
        return structure if same else kind(parts)
    if isinstance(structure, tuple) and hasattr(structure, "_make"):
        parts = [mapped(part, change) for part in structure]
        same = all(one is other for one, other in zip(parts, structure, strict=True))
        return structure if same else kind._make(parts)
    if isinstance(structure, Mapping):
        found = {name: mapped(part, change) for name, part in structure.items()}
        if all(found[name] is part for name, part in structure.items()):
            return structure
        return _with_items(structure, found)
    if dataclasses.is_dataclass(structure) and not isinstance(structure, type):
        names = [field.name for field in dataclasses.fields(structure) if hasattr(structure, field.name)]
        changed = {name: mapped(getattr(structure, name), change) for name in names}
        if all(changed[name] is getattr(structure, name) for name in names):
            return structure
        other = copy.copy(structure)
        for name, value in changed.items():
            object.__setattr__(other, name, value)
        return other
    return change(structure)


def _with_items(structure: Any, found: dict[Any, Any]) -> Any:
    """Return a mapping of the same type with other values."""
    if type(structure) is dict:
        return found
    try:
        other = copy.copy(structure)
        other.update(found)
    except (TypeError, AttributeError):
        try:
            return type(structure)(found)
        except TypeError:
            return found
    return other


class Row:
    """A row of what a backend has made.

    Args:
        batch: (n, C, H, W), the rows of it together.
        at: Which.

    Attributes:
        batch: See above.
        at: See above.
    """

    __slots__ = ("at", "batch")

    def __init__(self, batch: torch.Tensor, at: int) -> None:
        self.batch, self.at = batch, at

    @property
    def tensor(self) -> torch.Tensor:
        """(C, H, W), the row by itself; nothing is copied."""
        return self.batch[self.at]


def _stacked(rows: Sequence[Any], *, collate_fn_map: Any = None, given: set[int] | None = None) -> Any:
    """Return rows and tensors as one tensor: what the backend made, where that is what they are.

    Args:
        rows: Of one place in the samples.
        collate_fn_map: As `collate` has it.
        given: Numbers of the batches that were returned themselves: each is, once.
    """
    first = rows[0]
    if isinstance(first, Row):
        whole = first.batch
        if len(whole) == len(rows) and all(
            isinstance(row, Row) and row.batch is whole and row.at == at for at, row in enumerate(rows)
        ):
            if given is None or id(whole) in given:
                return whole.clone()
            given.add(id(whole))
            return whole
    tensors = [row.tensor if isinstance(row, Row) else row for row in rows]
    made = next((row.batch.device for row in rows if isinstance(row, Row)), None)
    if made is not None:  # what was made at once is on the CPU
        tensors = [tensor.to(made) if isinstance(tensor, torch.Tensor) else tensor for tensor in tensors]
    if isinstance(first, Row):
        form = torch.channels_last if first.batch.is_contiguous(memory_format=torch.channels_last) else None
        if form is not None and not first.batch.is_contiguous():
            return torch.stack(tensors).contiguous(memory_format=form)
    return collate_tensor_fn(tensors, collate_fn_map=collate_fn_map)


def _no_images(_images: Any, *, collate_fn_map: Any = None) -> Any:
    raise ConfigError(
        "DataLoader: the data set gives PIL images, of which no batch can be made. Give it a transform that ends in a"
        ' tensor, or give recipe="imagenet-train", say (`dalipipe recipes` lists them), or a collate_fn.'
    )


_MAP: dict[Any, Any] = {Row: _stacked, torch.Tensor: _stacked, Image.Image: _no_images}
_MAP |= {kind: function for kind, function in default_collate_fn_map.items() if kind is not torch.Tensor}


def default_collated(samples: list[Any]) -> Any:
    """Return samples with rows in them as `torch.utils.data.default_collate` would: a batch of the same structure."""
    stacked = partial(_stacked, given=set())
    return collate(samples, collate_fn_map=_MAP | {Row: stacked, torch.Tensor: stacked})
