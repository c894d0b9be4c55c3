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

from dalipipe.decisions.philox import HALF, MULTIPLIERS, WORD, rounds

_WEYL = (0x9E3779B9, 0xBB67AE85)
_ROUNDS = 10
_ARRAYS = tuple(np.uint64(number) for number in (*MULTIPLIERS, WORD, HALF))
_FEW_BLOCKS = 128  # beyond these, arrays pay

ORDER_POSITION = 0xFFFF
"""The op position that stands for the order of an epoch: no recipe has so many ops."""

SUBSTITUTE_POSITION = 0xFFFE
"""The op position that stands for the choice of a substitute for a bad sample."""

MIX_POSITION = 0xFFFD
"""The op position that stands for the mixing of a batch, whose number and rank stand for index and occurrence."""


ASK_POSITION = 0xFFFC
"""The op position that stands for what a data set itself draws while it is asked for a sample; and, with 1 more than a
view's number as its draw, for what the steps of the user's own draw behind that view."""

COLLATE_POSITION = 0xFFFB
"""The op position that stands for what a collate function draws: where its batch begins and the rank stand for index
and occurrence."""


SOURCE_POSITION = 0xFFFA
"""The op position that stands for the choice among several sources: the place in the epoch stands for the index."""

CALL_POSITION = 0xFFF9
"""The op position that stands for what the Python steps of a recipe draw from the global generators."""


def philox(counters: ArrayLike, key: int) -> NDArray[np.uint64]:
    """Return four words of 32 random bits for each counter.

    Args:
        counters: (n, 4), words 0 to 3 of each, < 2**32.
        key: The 64-bit key.

    Shapes: -> (n, 4) uint64.
    """
    c0, c1, c2, c3 = np.asarray(counters, np.uint64).T
    return np.stack(rounds(c0, c1, c2, c3, _round_keys(key), _ARRAYS), axis=-1)


@lru_cache(maxsize=64)
def _round_keys(key: int) -> NDArray[np.uint64]:
    """Return the two words of the key of each round, (20,)."""
    words = [word + n * weyl for n in range(_ROUNDS) for word, weyl in zip((key, key >> HALF), _WEYL, strict=True)]
    return np.array([word & WORD for word in words], dtype=np.uint64)


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
    from dalipipe.decisions.uniforms import sample  # here, so that who draws for sentences need not load Numba

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
    ((far, again, _, _),) = _lanes([index], [occurrence], epoch, [SUBSTITUTE_POSITION << 16 | attempt], seed)
    return far * 2.0**-32, again | 1 << 31


def words(
    seed: int, epoch: int, indices: Sequence[int], occurrences: Sequence[int], position: int, draw: int = 0
) -> list[tuple[int, int, int, int]]:
    """Return four words of 32 random bits for each of some samples: what other generators are seeded with.

    Args:
        seed: 0 to 2**64 - 1.
        epoch: 0 to 2**32 - 1.
        indices: Sample indices, each < 2**32.
        occurrences: How often each sample came before within this epoch, each < 2**32.
        position: What it is for: one of the positions above.
        draw: Which of several for the same purpose, < 2**16.
    """
    return list(_lanes(indices, occurrences, epoch, [position << 16 | draw] * len(indices), seed))


def _lanes(
    c0: Sequence[int], c1: Sequence[int], c2: int, c3: Sequence[int], key: int
) -> Iterator[tuple[int, int, int, int]]:
    """Return the four words of each of a few blocks, as `philox` does, without the cost of starting arrays.

    Python's integers hold a lane of 64 bits for each block: one multiplication does them all, and none flows over,
    since a product of two words of 32 bits takes no more.
    """
    count = len(c0)
    lanes = struct.Struct(f"<{count}Q")
    low, round_keys = _lane_constants(count, key)
    w0, w1, w2, w3 = (int.from_bytes(lanes.pack(*words), "little") for words in (c0, c1, [c2] * count, c3))
    drawn = rounds(w0, w1, w2, w3, round_keys, (*MULTIPLIERS, low, HALF))
    return zip(*(lanes.unpack(word.to_bytes(lanes.size, "little")) for word in drawn), strict=True)


@lru_cache(maxsize=256)
def _lane_constants(blocks: int, key: int) -> tuple[int, list[int]]:
    """Return in so many lanes the mask of the lower word, and the key of each round."""
    ones = sum(1 << 64 * lane for lane in range(blocks))
    return WORD * ones, [word * ones for word in _round_keys(key).tolist()]


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
        flat = [word * 2.0**-32 for block in _lanes(c0, c1, epoch, c3, seed) for word in block]
    else:
        flat = (philox(_counters(counts, epoch, position, indices, occurrences), seed).ravel() * 2.0**-32).tolist()
    starts = accumulate((4 * count for count in counts), initial=0)
    return [flat[start : start + length] for start, length in zip(starts, lengths, strict=False)]


def _counters(
    counts: Sequence[int], epoch: int, position: int, indices: Sequence[int], occurrences: Sequence[int]
) -> NDArray[np.uint64]:
    """Return the counter of each block of each sample, (sum(counts), 4)."""
    repeats = np.array(counts)
    ends = np.cumsum(repeats)
    block = np.arange(ends[-1]) - np.repeat(ends - repeats, repeats)
    counters = np.empty((ends[-1], 4), np.uint64)
    counters[:, 0], counters[:, 2] = np.repeat(np.array(indices, np.uint64), repeats), epoch
    counters[:, 1] = np.repeat(np.array(occurrences, np.uint64), repeats) | (block >> 16 << 16).astype(np.uint64)
    counters[:, 3] = position << 16 | block & 0xFFFF
    return counters


def fractions(length: int, seed: int, epoch: int, position: int) -> NDArray[np.float64]:
    """Return a uniform number for each of so many indices, (length,) float64 in [0, 1), multiples of 2**-32.

    Args:
        length: How many.
        seed: 0 to 2**64 - 1.
        epoch: 0 to 2**32 - 1.
        position: What they are for: one of the positions above.
    """
    counters = np.zeros((length, 4), np.uint64)
    counters[:, 0], counters[:, 2], counters[:, 3] = np.arange(length), epoch, position << 16
    return philox(counters, seed)[:, 0].astype(np.float64) * 2.0**-32
