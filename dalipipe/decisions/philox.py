"""Philox4x32-10, compiled: the one place where random bits are made (see `dalipipe.decisions.randomness`).

Words are 32 bits in uint64, so that no product overflows.
"""

from __future__ import annotations

import numpy as np

from dalipipe.compilation import compiled

_LOW, _HALF = np.uint64(0xFFFFFFFF), np.uint64(32)
_MULTIPLIER_0, _MULTIPLIER_1 = np.uint64(0xD2511F53), np.uint64(0xCD9E8D57)
_DIGIT = np.uint64(16)


@compiled
def _block(c0, c1, c2, c3, round_keys):
    """Return the four words of a counter; `round_keys` is (10, 2) uint64."""
    for turn in range(len(round_keys)):
        p0, p1 = _MULTIPLIER_0 * c0, _MULTIPLIER_1 * c2
        c0, c2 = (p1 >> _HALF) ^ c1 ^ round_keys[turn, 0], (p0 >> _HALF) ^ c3 ^ round_keys[turn, 1]
        c1, c3 = p1 & _LOW, p0 & _LOW
    return c0, c1, c2, c3


@compiled
def blocks(counters, round_keys):
    """Return the four words of some counters.

    Shapes: counters (n, 4) uint64, round_keys (10, 2) uint64 -> (n, 4) uint64.
    """
    out = np.empty((len(counters), 4), np.uint64)
    for row in range(len(counters)):
        c0, c1, c2, c3 = counters[row]
        out[row] = _block(c0, c1, c2, c3, round_keys)
    return out


@compiled
def sample(index, occurrence, epoch, words, wanted, round_keys):
    """Return uniform numbers in [0, 1), multiples of 2**-32.

    Args:
        index: (n,) uint64, word 0 of the counter.
        occurrence: (n,) uint64, word 1.
        epoch: Word 2.
        words: (b,) uint64, word 3 of each block of four draws.
        wanted: (b,) int64: how many draws of each block are wanted.
        round_keys: (10, 2) uint64.

    Shapes: -> (n, sum(wanted)) float64.
    """
    out = np.empty((len(index), wanted.sum()))
    for row in range(len(index)):
        column = 0
        for block in range(len(words)):
            drawn = _block(index[row], occurrence[row], epoch, words[block], round_keys)
            for draw in range(wanted[block]):
                out[row, column] = drawn[draw] * 2.0**-32
                column += 1
    return out


@compiled
def stream(lengths, index, occurrence, epoch, word, round_keys):
    """Return the uniform numbers of some samples behind one another, where their number differs.

    Args:
        lengths: (n,) int64: how many numbers each sample wants.
        index: (n,) uint64, word 0 of the counter.
        occurrence: (n,) uint64, word 1, but for its upper half: that has the number of the block beyond 2**16.
        epoch: Word 2.
        word: Word 3 of the first block of each sample; the lower half counts blocks.
        round_keys: (10, 2) uint64.

    Shapes: -> (sum(lengths),) float64 in [0, 1), multiples of 2**-32.
    """
    out = np.empty(lengths.sum())
    at = 0
    for row in range(len(lengths)):
        end = at + lengths[row]
        for number in range((lengths[row] + 3) // 4):
            block = np.uint64(number)
            c1 = occurrence[row] | (block >> _DIGIT) << _DIGIT
            drawn = _block(index[row], c1, epoch, word | block & np.uint64(0xFFFF), round_keys)
            for draw in range(min(4, end - at)):
                out[at] = drawn[draw] * 2.0**-32
                at += 1
    return out
