"""Arguments of the DataLoader, checked as torch checks its own, and what follows from the surroundings."""

from __future__ import annotations

import os
import warnings
from collections.abc import Callable
from numbers import Integral
from pathlib import Path
from typing import Any

import torch
from torch.utils.data import default_collate, default_convert

from dalipipe.errors import ConfigError, StateError, shown
from dalipipe.recipes import Recipe
from dalipipe.sampling import Shard, is_rng_state
from dalipipe.sources import Source
from dalipipe.sources.torch_datasets import known_channels, known_size

STATE_VERSION = 2
_EARLIER = {1: ", whose epochs had other orders"}
SETTLED = frozenset(
    {
        "dataset",
        "batch_size",
        "shuffle",
        "sampler",
        "batch_sampler",
        "num_workers",
        "collate_fn",
        "drop_last",
        "prefetch_factor",
        "persistent_workers",
        "source",
        "recipe",
        "backend",
        "seed",
        "epoch",
        "job",
        "shard",
        "device",
    }
)
"""Attributes of a loader that can't be set once it is made: those that torch refuses, and what depends on them."""
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


def check_unused(worker_init_fn: Any, multiprocessing_context: Any) -> None:
    """Warn of arguments of torch's loader that have no effect here."""
    reasons = {
        "worker_init_fn": (worker_init_fn, "there are threads, not worker processes; seed= decides what is random"),
        "multiprocessing_context": (multiprocessing_context, "there are threads, not worker processes"),
    }
    found = [f"{name} ({why})" for name, (value, why) in reasons.items() if value is not None]
    if found:
        warnings.warn(f"DataLoader: without effect: {'; '.join(found)}. Leave it out.", stacklevel=3)


def own_collate(collate_fn: Any, *, in_batches: bool) -> Callable[[Any], Any] | None:
    """Return the collate function that was given; None where that is what torch's loader would take by itself.

    Raises:
        ConfigError: it can't be called.
    """
    if collate_fn is not None and not callable(collate_fn):
        raise ConfigError(
            f"DataLoader: collate_fn must be a function of a list of samples, got {shown(collate_fn)}. Leave it out for"
            " torch's own."
        )
    return None if collate_fn is (default_collate if in_batches else default_convert) else collate_fn


def check_sampling(
    batch_size: Any, shuffle: Any, sampler: Any, batch_sampler: Any, drop_last: bool, world_size: int | None
) -> None:
    """Refuse the combinations that torch's loader refuses, and batches that can't be divided between ranks.

    Raises:
        ConfigError: arguments that exclude one another.
    """
    if sampler is not None and shuffle:
        raise ConfigError("DataLoader: sampler and shuffle exclude one another. Give one of them.")
    if batch_sampler is not None and (batch_size != 1 or shuffle or sampler is not None or drop_last):
        raise ConfigError(
            "DataLoader: batch_sampler excludes batch_size, shuffle, sampler and drop_last. Leave those out."
        )
    if batch_sampler is not None and world_size not in (None, 1):
        raise ConfigError(
            "DataLoader: rank and world_size have no meaning with a batch_sampler, which is not divided. Leave them "
            "out, and let it list this rank's batches."
        )
    if batch_size is None and drop_last:
        raise ConfigError("DataLoader: batch_size=None excludes drop_last. Leave it out.")


def check_stream(streams: bool, shuffle: Any, sampled: bool, on_error: str) -> None:
    """Refuse what an `IterableDataset` can't do, which alone decides on its order.

    Raises:
        ConfigError: there is such.
    """
    if streams and (shuffle or sampled):
        raise ConfigError(
            "DataLoader: shuffle, sampler and batch_sampler have no meaning with an IterableDataset, which gives its"
            " samples in its own order. Leave them out, and shuffle in the data set."
        )
    if streams and on_error == "substitute":
        raise ConfigError(
            'DataLoader: on_error="substitute" needs samples that can be asked for, and an IterableDataset is gone'
            ' through. Use "skip".'
        )


def chosen_recipe(recipe: Recipe | str | Path | None, transform: Any, source: Source) -> Recipe:
    """Return the recipe given, or what the data set's transform says.

    Args:
        recipe: As the loader got it.
        transform: The data set's; None where it has none.
        source: The images, whose size and number of channels may be known.

    Raises:
        ConfigError: there is neither.
        RecipeError: the recipe can't be found, or can't work.
    """
    if recipe is not None:
        return Recipe.load(recipe)
    if transform is None:
        raise ConfigError(
            "DataLoader: needs a recipe, and the data set has no transform to take it from. "
            'Give recipe="imagenet-train", say (`dalipipe recipes` lists them), or set the data set\'s transform.'
        )
    return Recipe.from_torchvision(transform, size=known_size(source), channels=known_channels(source))


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


def check_settable(name: str, value: Any) -> None:
    """Refuse to set an attribute of a loader that would not be noticed any more.

    Raises:
        ConfigError: it is such.
    """
    if name in SETTLED:
        raise ConfigError(
            f"DataLoader: {name} can't be set once the loader is made, got {shown(value)}. Make a new one."
        )


def checked_epoch(epoch: int) -> int:
    """Return the number of an epoch.

    Raises:
        ConfigError: not a whole number from 0 to 2**32 - 1.
    """
    if not whole(epoch) or not 0 <= epoch < 2**32:
        raise ConfigError(f"DataLoader: epoch must be 0 to 2**32 - 1, got {epoch!r}. Count from 0.")
    return int(epoch)


def checked_seed(seed: int | None, world_size: int | None) -> int | None:
    """Return a seed that was given, as a plain number.

    Raises:
        ConfigError: a seed out of range, or none where ranks that know nothing of each other need the same.
    """
    if seed is None:
        if world_size not in (None, 1) and not _distributed():
            raise ConfigError(
                "DataLoader: ranks without torch.distributed need the same seed, got none. Give seed=0, say."
            )
        return None
    if not whole(seed) or not 0 <= seed < 2**64:
        raise ConfigError(f"DataLoader: seed must be 0 to 2**64 - 1, got {seed!r}. Choose another.")
    return int(seed)


def check_state(state: Any, mine: dict[str, Any]) -> None:
    """Refuse a loader's state that is malformed, or of another data set, recipe or order.

    Args:
        state: What is to be loaded.
        mine: The loader's own state.

    Raises:
        StateError: it can't be loaded.
    """
    if isinstance(state, dict) and state.get("drawn") is True and state.get("seed") is None:
        state = {**state, "seed": 0}  # that of the epoch is yet to be drawn
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
            f"loader state: version must be {STATE_VERSION}, got"
            f" {shown(state['version'])}{_EARLIER.get(state['version'], '')}. It was saved by another dalipipe: go on"
            " with that one, or begin anew."
        )
    for key, name in _SAME.items():
        if state.get(key) != mine[key]:
            raise StateError(
                f"loader state: belongs to another {name}, got {shown(state.get(key))} where this loader has "
                f"{mine[key]!r}. Make the loader as it was when the state was saved."
            )
    generator = state.get("generator")
    if generator is not None and ("generator" not in mine or not is_rng_state(generator)):
        raise StateError(
            f"loader state: generator must be the state of one that this loader has, got {shown(generator)}. "
            "Make the loader with a generator= and no seed=, as it was when the state was saved."
        )
