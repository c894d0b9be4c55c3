"""Arguments of the DataLoader, checked as torch checks its own, and what follows from the surroundings."""

from __future__ import annotations

import os
from numbers import Integral
from typing import Any

import torch

from dalipipe.errors import ConfigError, StateError, shown
from dalipipe.sampling import Shard

STATE_VERSION = 1
_SAME = {"length": "number of samples", "data": "data set", "recipe": "recipe", "shuffle": "shuffle"}
_TYPES = {"version": int, "epoch": int, "position": int, "seed": int, "order": dict}
_MOST = {"epoch": 2**32 - 1, "position": 2**63 - 1, "seed": 2**64 - 1}


def whole(value: object) -> bool:
    """Return whether a value is an integer, Python's or numpy's."""
    return isinstance(value, Integral)


def check_range(name: str, value: Any, least: int) -> None:
    """Refuse what is not a whole number of at least `least`.

    Raises:
        ConfigError: it is not.
    """
    if not whole(value) or value < least:
        raise ConfigError(f"DataLoader: {name} must be a whole number of at least {least}, got {value!r}. Change it.")


def available_threads() -> int:
    """Return how many CPUs this process may run on."""
    return len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count() or 1


def check_unsupported(collate_fn: Any, worker_init_fn: Any, multiprocessing_context: Any) -> None:
    """Refuse the arguments of torch's loader that have no counterpart, with what to do instead.

    Raises:
        ConfigError: one of them is given.
    """
    instead = {
        "collate_fn": (collate_fn, "Batches come as (images, labels) tensors; change them in your loop"),
        "worker_init_fn": (worker_init_fn, "There are no worker processes; seed with seed= or generator="),
        "multiprocessing_context": (multiprocessing_context, "There are no worker processes; leave it out"),
    }
    for name, (value, advice) in instead.items():
        if value is not None:
            raise ConfigError(f"DataLoader: {name} is not supported, got {value!r}. {advice}.")


def check_sampling(batch_size: Any, shuffle: Any, sampler: Any, batch_sampler: Any, drop_last: bool) -> None:
    """Refuse the combinations that torch's loader refuses.

    Raises:
        ConfigError: arguments that exclude one another.
    """
    if sampler is not None and shuffle:
        raise ConfigError("DataLoader: sampler and shuffle exclude one another. Give one of them.")
    if batch_sampler is not None and (batch_size != 1 or shuffle or sampler is not None or drop_last):
        raise ConfigError(
            "DataLoader: batch_sampler excludes batch_size, shuffle, sampler and drop_last. Leave those out."
        )
    if batch_size is None and drop_last:
        raise ConfigError("DataLoader: batch_size=None excludes drop_last. Leave it out.")


def _distributed() -> bool:
    return torch.distributed.is_available() and torch.distributed.is_initialized()


def chosen_shard(rank: int | None, world_size: int | None, pad: bool, sampler_given: bool) -> Shard:
    """Return which part of every global batch is this process's.

    Without rank and world_size that is torch.distributed's, or, where a sampler decides (as DistributedSampler does),
    everything the sampler gives.

    Raises:
        ConfigError: only one of the two given, or a rank outside the world.
    """
    if (rank is None) != (world_size is None):
        raise ConfigError(f"DataLoader: rank and world_size go together, got {rank!r} and {world_size!r}. Give both.")
    if rank is None or world_size is None:
        if sampler_given or not _distributed():
            return Shard()
        return Shard(torch.distributed.get_rank(), torch.distributed.get_world_size(), pad)
    check_range("world_size", world_size, 1)
    check_range("rank", rank, 0)
    if rank >= world_size:
        raise ConfigError(f"DataLoader: rank must be below world_size {world_size}, got {rank}. Count from 0.")
    return Shard(int(rank), int(world_size), pad)


def chosen_seed(seed: int | None, generator: torch.Generator | None, shard: Shard) -> int:
    """Return the seed given, else the generator's, else torch's; under torch.distributed rank 0's, so that all agree.

    Raises:
        ConfigError: a seed out of range, or none where ranks could not agree on one.
    """
    if seed is not None:
        if not whole(seed) or not 0 <= seed < 2**64:
            raise ConfigError(f"DataLoader: seed must be 0 to 2**64 - 1, got {seed!r}. Choose another.")
        return int(seed)
    own = (generator.initial_seed() if generator is not None else torch.initial_seed()) % 2**64
    if shard.world_size == 1:
        return own
    if not _distributed():
        raise ConfigError("DataLoader: ranks without torch.distributed need the same seed, got none. Give seed=0, say.")
    shared = [own]
    torch.distributed.broadcast_object_list(shared, src=0)
    return shared[0]


def check_state(state: Any, mine: dict[str, Any]) -> None:
    """Refuse a loader's state that is malformed, or of another data set, recipe or order.

    Args:
        state: What is to be loaded.
        mine: The loader's own state.

    Raises:
        StateError: it can't be loaded.
    """
    for key, kind in _TYPES.items():
        value = state.get(key) if isinstance(state, dict) else None
        if not isinstance(value, kind) or isinstance(value, bool) or (isinstance(value, int) and value < 0):
            rule = "a dict" if kind is dict else "a whole number of at least 0"
            raise StateError(f"loader state: {key} must be {rule}, got {shown(value)}. Use what state_dict() gave.")
    for key, most in _MOST.items():
        if state[key] > most:
            raise StateError(
                f"loader state: {key} must be at most {most}, got {shown(state[key])}. Use what state_dict() gave."
            )
    if state["version"] != STATE_VERSION:
        raise StateError(
            f"loader state: version must be {STATE_VERSION}, got {shown(state['version'])}. "
            "It was saved by another dalipipe."
        )
    for key, name in _SAME.items():
        if state.get(key) != mine[key]:
            raise StateError(
                f"loader state: belongs to another {name}, got {shown(state.get(key))} where this loader has "
                f"{mine[key]!r}. Make the loader as it was when the state was saved."
            )
