"""Every random number of dalipipe: a counter-based generator, so that a decision belongs to a sample and not to a run.

A uniform is a pure function of (seed, epoch, sample index, occurrence of that sample within the epoch, position of the
op in the recipe, number of the draw). Nothing is carried from one draw to the next.

Source: Philox4x32-10 of Salmon, Moraes, Dror and Shaw, "Parallel random numbers: as easy as 1, 2, 3" (SC 2011).
"""

from __future__ import annotations

import struct
from collections.abc import Iterator, Sequence
from functools import lru_cache
from itertools import accumulate

import numpy as np
from numpy.typing import ArrayLike, NDArray

_MULTIPLIER_0, _MULTIPLIER_1 = 0xD2511F53, 0xCD9E8D57
_MULTIPLIERS = np.array((_MULTIPLIER_0, _MULTIPLIER_1), dtype=np.uint64)
_WEYL = (0x9E3779B9, 0xBB67AE85)
_LOW = np.uint64(0xFFFFFFFF)
_HALF = np.uint64(32)
_ROUNDS = 10
_DIGIT = np.uint64(16)
_FEW_BLOCKS = 128  # beyond these, arrays pay

ORDER_POSITION = 0xFFFF
"""The op position that stands for the order of an epoch: no recipe has so many ops."""

SUBSTITUTE_POSITION = 0xFFFE
"""The op position that stands for the choice of a substitute for a bad sample."""

MIX_POSITION = 0xFFFD
"""The op position that stands for the mixing of a batch, whose number and rank stand for index and occurrence."""


def philox(counter: Sequence[NDArray[np.uint64] | np.uint64], key: int) -> tuple[NDArray[np.uint64], ...]:
    """Return four arrays of 32 random bits (in uint64) for four broadcastable arrays of 32-bit counters.

    Args:
        counter: Words 0 to 3 of the counter, each < 2**32.
        key: The 64-bit key.
    """
    c0, c1, c2, c3 = np.broadcast_arrays(*counter)
    even, odd = np.stack((c0, c2)), np.stack((c1, c3))
    pair = (2, *(1,) * c0.ndim)
    multipliers = _MULTIPLIERS.reshape(pair)
    for keys in _round_keys(key):
        product = (multipliers * even)[::-1]
        even, odd = (product >> _HALF) ^ odd ^ keys.reshape(pair), product & _LOW
    return even[0], odd[0], even[1], odd[1]


@lru_cache(maxsize=64)
def _round_keys(key: int) -> NDArray[np.uint64]:
    """Return the two words of the key of each round, (10, 2)."""
    rounds = range(_ROUNDS)
    words = [[(key + n * _WEYL[0]) & 0xFFFFFFFF, ((key >> 32) + n * _WEYL[1]) & 0xFFFFFFFF] for n in rounds]
    return np.array(words, dtype=np.uint64)


@lru_cache(maxsize=64)
def _layout(counts: tuple[int, ...]) -> tuple[NDArray[np.uint64], NDArray[np.int64]]:
    """Return the last counter word of every block of four draws, and how many of its draws are wanted."""
    blocks = [
        (position << 16 | first // 4, min(4, count - first))
        for position, count in enumerate(counts)
        for first in range(0, count, 4)
    ]
    words, wanted = zip(*blocks, strict=True) if blocks else ((), ())
    return np.array(words, dtype=np.uint64), np.array(wanted, dtype=np.int64)


def uniforms(
    counts: Sequence[int], seed: int, epoch: int, indices: ArrayLike, occurrences: ArrayLike = 0
) -> NDArray[np.float64]:
    """Return the uniform numbers that decide everything about some samples.

    Args:
        counts: How many numbers the op at each position of the recipe needs.
        seed: 0 to 2**64 - 1.
        epoch: 0 to 2**32 - 1.
        indices: Sample indices, each < 2**32.
        occurrences: How often each sample came before within this epoch.

    Shapes: indices (n,) -> (n, sum(counts)) float64 in [0, 1), multiples of 2**-32.
    """
    from dalipipe.decisions.philox import (
        sample,  # here, so that who draws `streams` only, for sentences, need not load Numba
    )

    words, wanted = _layout(tuple(counts))
    index = np.atleast_1d(np.asarray(indices)).astype(np.uint64)
    occurrence = np.broadcast_to(np.asarray(occurrences).astype(np.uint64), index.shape)
    drawn: NDArray[np.float64] = sample(index, occurrence, np.uint64(epoch), words, wanted, _round_keys(seed))
    return drawn


def substitute(seed: int, epoch: int, index: int, occurrence: int, attempt: int) -> tuple[float, int]:
    """Return what decides which sample stands for a bad one.

    Args:
        seed: 0 to 2**64 - 1.
        epoch: 0 to 2**32 - 1.
        index: Of the bad sample.
        occurrence: How often it came before within this epoch.
        attempt: How many substitutes were bad themselves, < 2**16.

    Returns:
        A uniform number in [0, 1), a multiple of 2**-32: how far down the class the substitute stands; and the
        occurrence of its random decisions, 2**31 to 2**32 - 1, which no sample reaches by itself.
    """
    words = (index, occurrence, epoch, SUBSTITUTE_POSITION << 16 | attempt)
    far, again, _, _ = philox([np.uint64(word) for word in words], seed)
    return float(far) * 2.0**-32, int(again) | 1 << 31


def _philox_lanes(
    c0: Sequence[int], c1: Sequence[int], c2: int, c3: Sequence[int], key: int
) -> Iterator[tuple[int, ...]]:
    """Return the four words of each block, as `philox` does, without the cost of starting arrays.

    Python's integers hold a lane of 64 bits for each block: one multiplication does them all, and none flows over,
    since a product of two words of 32 bits takes no more.
    """
    lanes = struct.Struct(f"<{len(c0)}Q")
    low, round_keys = _lane_constants(len(c0), key)
    w0, w1, w2, w3 = (int.from_bytes(lanes.pack(*words), "little") for words in (c0, c1, [c2] * len(c0), c3))
    for k0, k1 in round_keys:
        p0, p1 = _MULTIPLIER_0 * w0, _MULTIPLIER_1 * w2
        w0, w1, w2, w3 = (p1 >> 32) & low ^ w1 ^ k0, p1 & low, (p0 >> 32) & low ^ w3 ^ k1, p0 & low
    return zip(*(lanes.unpack(word.to_bytes(lanes.size, "little")) for word in (w0, w1, w2, w3)), strict=True)


@lru_cache(maxsize=256)
def _lane_constants(blocks: int, key: int) -> tuple[int, list[tuple[int, int]]]:
    """Return in so many lanes the mask of the lower word, and the key of each round."""
    ones = sum(1 << 64 * lane for lane in range(blocks))
    return 0xFFFFFFFF * ones, [(int(k0) * ones, int(k1) * ones) for k0, k1 in _round_keys(key)]


def streams(
    lengths: Sequence[int], seed: int, epoch: int, position: int, indices: Sequence[int], occurrences: Sequence[int]
) -> list[list[float]]:
    """Return as many uniform numbers as each sample wants for one op, where that differs from sample to sample.

    The first 2**18 numbers of a sample are those that `uniforms` gives an op at that position. Further ones carry the
    number of their block on in the upper half of the occurrence's counter word, so that 2**34 can be had.

    Args:
        lengths: How many numbers each sample wants.
        seed: 0 to 2**64 - 1.
        epoch: 0 to 2**32 - 1.
        position: Position of the op in the recipe.
        indices: Sample indices, each < 2**32.
        occurrences: How often each sample came before within this epoch, each < 2**16.

    Returns:
        For each sample its numbers, float64 in [0, 1), multiples of 2**-32.
    """
    counts = [-(-length // 4) for length in lengths]
    if sum(counts) <= _FEW_BLOCKS:
        c0 = [index for index, count in zip(indices, counts, strict=True) for _ in range(count)]
        c1 = [occurrence for occurrence, count in zip(occurrences, counts, strict=True) for _ in range(count)]
        c3 = [position << 16 | block for count in counts for block in range(count)]
        flat = [word * 2.0**-32 for block in _philox_lanes(c0, c1, epoch, c3, seed) for word in block]
        starts = accumulate((4 * count for count in counts), initial=0)
        return [flat[start : start + length] for start, length in zip(starts, lengths, strict=False)]
    repeats = np.array(counts)
    ends = np.cumsum(repeats)
    block = (np.arange(ends[-1]) - np.repeat(ends - repeats, repeats)).astype(np.uint64)
    index = np.repeat(np.array(indices, dtype=np.uint64), repeats)
    occurrence = np.repeat(np.array(occurrences, dtype=np.uint64), repeats) | (block >> _DIGIT) << _DIGIT
    word = np.uint64(position << 16) | block & np.uint64(0xFFFF)
    drawn = np.stack(philox((index, occurrence, np.uint64(epoch), word), seed), axis=-1).ravel() * 2.0**-32
    flat = drawn.tolist()
    starts = (4 * (ends - repeats)).tolist()
    return [flat[start : start + length] for start, length in zip(starts, lengths, strict=True)]


def permutation(length: int, seed: int, epoch: int) -> NDArray[np.int64]:
    """Return 0 to length - 1 in the random order of an epoch: a pure function of its arguments.

    The samples are sorted by 64 random bits each, so the order of the samples that two data sets share is the same too.
    """
    index = np.arange(length, dtype=np.uint64)
    high, low, _, _ = philox((index, np.uint64(0), np.uint64(epoch), np.uint64(ORDER_POSITION << 16)), seed)
    return np.argsort((high << _HALF) | low, kind="stable").astype(np.int64)
