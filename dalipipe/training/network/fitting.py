"""Which tensors of a file are those of a network, whatever trainer saved it and whatever it put before their names.

A file is taken for what it comes down to: tensors, each with the keys that lead to it, joined by dots.

    {"state_dict": {"model.conv1.weight": ...}, "epoch": 3}   state_dict.model.conv1.weight
    network                                                   conv1.weight

What stands before the network's own names is the prefix; of several the one is taken under which most tensors fit.
"""

from __future__ import annotations

import os
import re
from collections import Counter
from collections.abc import Mapping
from typing import Final, NamedTuple

import torch
from torch import Tensor

from dalipipe.errors import WeightsError, listed

Shapes = Mapping[str, torch.Size]

_WRAPPERS: Final = frozenset({"_orig_mod", "_fsdp_wrapped_module", "_checkpoint_wrapped_module"})
"""What torch.compile, FSDP and activation checkpointing put between the names of modules, at any depth."""

_AVERAGE: Final = re.compile(r"(^|[._])(ema|swa|averaged?|avg)([._]|$)", re.I)
"""What a moving average of a network is called, which stands beside the network itself."""


class Fitted(NamedTuple):
    """The tensors of a file that are a network's.

    Attributes:
        state: By the names that the network has, and beside them those that it has no place for.
        prefix: What stood before the names in the file; empty for nothing.
    """

    state: Mapping[str, Tensor]
    prefix: str = ""


def fit(where: str, tensors: Mapping[tuple[str, ...], Tensor], wanted: Shapes) -> Fitted:
    """Return the tensors that are a network's.

    Args:
        where: Begins the message.
        tensors: Of the file, by the keys that lead to them.
        wanted: Names and shapes that the network has.

    Raises:
        WeightsError: there are two networks that fit alike, whose prefixes are named.
    """
    named = {_name(keys): tensor for keys, tensor in tensors.items()}
    scores = _scores(named, wanted)
    most = max(scores.values(), default=0)
    if 2 * most < len(wanted):
        return _under(named, _largest(tensors), tensors)  # of another network, whose name may still be found out
    # As good as the best: a copy may lack its head, or have one for other classes.
    chosen, *others = sorted((prefix for prefix, score in scores.items() if 10 * score >= 9 * most), key=_preference)
    rivals = [prefix for prefix in others if not _AVERAGE.search(prefix)]
    if rivals:
        raise WeightsError(
            f"{where}: must hold one network that fits, got {1 + len(rivals)}, whose names begin with "
            f"{listed([repr(prefix) for prefix in (chosen, *rivals)])}. Save the one that you want by itself."
        )
    return _under(named, chosen, tensors)


def _preference(prefix: str) -> tuple[bool, int, str]:
    """Sort the network itself before an average of it, and a short prefix before a long one."""
    return bool(_AVERAGE.search(prefix)), prefix.count("."), prefix


def _name(keys: tuple[str, ...]) -> str:
    return ".".join(part for key in keys for part in key.split(".") if part not in _WRAPPERS)


def _scores(named: Mapping[str, Tensor], wanted: Shapes) -> Counter[str]:
    """Return for each prefix how many tensors under it have a name and a shape that the network has."""
    scores: Counter[str] = Counter()
    for name, tensor in named.items():
        parts = name.split(".")
        for first in range(len(parts)):
            own = ".".join(parts[first:])
            if wanted.get(own) == tensor.shape:
                scores[name.removesuffix(own)] += 1
    return scores


def _largest(tensors: Mapping[tuple[str, ...], Tensor]) -> str:
    """Return what the names begin with, up to a dot, in the part of a file that has the most tensors."""
    (home, _), *_ = Counter(keys[:-1] for keys in tensors).most_common(1)
    names = [_name(keys) for keys in tensors if keys[:-1] == home]
    shared = os.path.commonprefix(names)  # noqa: RUF071 (names, not paths)
    return shared[: shared.rfind(".") + 1]


def _under(named: Mapping[str, Tensor], prefix: str, tensors: Mapping[tuple[str, ...], Tensor]) -> Fitted:
    """Return the tensors under a prefix by the rest of their names, and their neighbours in the file by their whole."""
    inside = {name.removeprefix(prefix): tensor for name, tensor in named.items() if name.startswith(prefix)}
    homes = {keys[:-1] for keys in tensors if _name(keys).startswith(prefix)}
    beside = {
        keys[-1]: tensor
        for keys, tensor in tensors.items()
        if keys[:-1] in homes and not _name(keys).startswith(prefix) and keys[-1] not in inside
    }
    return Fitted({**inside, **beside}, prefix)
