"""What stands in the place of Pillow's and torchvision's functions while loaders ask data sets for samples.

Each does what the function itself does, unless the thread that calls it is asking: see `dalipipe.asking.sample`. They
are in place while an epoch runs that asks.
"""

from __future__ import annotations

import functools
import inspect
import random
import threading
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from typing import Any

import numpy as np
import torch
from PIL import Image

from dalipipe.asking.sample import current

_lock = threading.Lock()
_users = 0
_originals: list[tuple[Any, str, Any, Any]] = []
_MISSING = object()


def _open(original: Callable[..., Any]) -> Callable[..., Any]:
    @functools.wraps(original)
    def open(fp: Any, mode: Any = "r", formats: Any = None) -> Any:
        sample = current()
        if sample is None or mode != "r" or formats is not None:
            return original(fp, mode, formats)
        return sample.open(fp, lambda: original(fp))

    return open


def _decode(original: Callable[..., Any]) -> Callable[..., Any]:
    @functools.wraps(original)
    def decode_image(input: Any, *args: Any, **kwargs: Any) -> Any:
        sample = current()
        if sample is None or not isinstance(input, torch.Tensor) or sample.real:
            return original(input, *args, **kwargs)
        return sample.decoded(input.numpy().tobytes(), args, kwargs, lambda: original(input, *args, **kwargs))

    return decode_image


def _call(original: Callable[..., Any]) -> Callable[..., Any]:
    @functools.wraps(original)
    def __call__(self: Any, *args: Any, **kwargs: Any) -> Any:
        sample = current()
        if sample is None or kwargs or len(args) != 1 or not type(self).__module__.startswith("torchvision.transforms"):
            return original(self, *args, **kwargs)
        return sample.transformed(self, args[0], lambda value: original(self, value))

    return __call__


def _kinds() -> Iterator[type]:
    """Yield torchvision's transforms, v1 and v2, those that others derive from first."""
    import torchvision.transforms as first
    from torchvision.transforms import _presets, autoaugment, v2

    for module in (first.transforms, autoaugment, _presets):
        for _, kind in inspect.getmembers(module, inspect.isclass):
            if kind.__module__ == module.__name__ and callable(kind) and "__call__" in dir(kind):
                yield kind
    yield v2.Transform


@contextmanager
def installed() -> Iterator[None]:
    """Have them in place meanwhile, once for any number of epochs."""
    _install()
    try:
        yield
    finally:
        _remove()


def _install() -> None:
    global _users
    with _lock:
        _users += 1
        if _users > 1:
            return
        _put(Image, "open", _open(Image.open))
        for owner, name in _SEEDING:
            _put(owner, name, _noting(getattr(owner, name)))
        import torchvision.io.image as io

        _put(io, "decode_image", _decode(io.decode_image))
        calls = {kind: kind.__call__ for kind in _kinds()}  # before any changes: some derive from others
        for kind, call in calls.items():
            _put(kind, "__call__", _call(call))


_SEEDING: tuple[tuple[Any, str], ...] = (
    (random, "seed"),
    (random, "setstate"),
    (np.random, "seed"),
    (np.random, "set_state"),
    (torch, "manual_seed"),
    (torch.random, "manual_seed"),
    (torch, "set_rng_state"),
    (torch.random, "set_rng_state"),
)
"""What seeds a global generator, or sets it back: torch.random's are what `fork_rng` calls."""


def _noting(original: Callable[..., Any]) -> Callable[..., Any]:
    @functools.wraps(original)
    def seed(*args: Any, **kwargs: Any) -> Any:
        sample = current()
        if sample is not None:
            sample.reseeded = True
        return original(*args, **kwargs)

    return seed


def _put(owner: Any, name: str, function: Any) -> None:
    _originals.append((owner, name, vars(owner).get(name, _MISSING), function))
    setattr(owner, name, function)


def _remove() -> None:
    global _users
    with _lock:
        _users -= 1
        if _users:
            return
        for owner, name, original, mine in reversed(_originals):
            if vars(owner).get(name) is not mine:
                continue  # somebody else has put something in its place
            if original is _MISSING:
                delattr(owner, name)
            else:
                setattr(owner, name, original)
        _originals.clear()
