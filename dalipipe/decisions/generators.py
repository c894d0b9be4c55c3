"""Python's, NumPy's and torch's global generators of random numbers, lent to a sample and given back as they were."""

from __future__ import annotations

import random
from collections.abc import Iterator, Sequence
from contextlib import contextmanager

import numpy as np
import torch

_seed_python, _seed_numpy = random.seed, np.random.seed  # themselves, whatever stands in their places meanwhile


def seed_all(words: Sequence[int]) -> None:
    """Seed the global generators with four words of 32 random bits. Those of other devices than the CPU are not."""
    first, second, third, fourth = words
    _seed_python(first << 32 | second)
    _seed_numpy(third)
    torch.default_generator.manual_seed(fourth << 32 | first)


def states() -> tuple[object, ...]:
    """Return what tells whether the global generators have been used."""
    kind, keys, at, has_gauss, cached = np.random.get_state(legacy=True)
    drawn = torch.get_rng_state().numpy().tobytes()
    return random.getstate(), kind, np.asarray(keys).tobytes(), at, has_gauss, cached, drawn


@contextmanager
def lent() -> Iterator[None]:
    """Leave the global generators as they are now, whatever is done with them meanwhile."""
    own, legacy, drawn = random.getstate(), np.random.get_state(), torch.get_rng_state()
    try:
        yield
    finally:
        random.setstate(own)
        np.random.set_state(legacy)
        torch.set_rng_state(drawn)
