"""Philox4x32-10, compiled: the uniform numbers of some samples (see `dalipipe.decisions.randomness`)."""

from __future__ import annotations

import numpy as np

from dalipipe.compilation import compiled

_LOW, _HALF = np.uint64(0xFFFFFFFF), np.uint64(32)
_MULTIPLIER_0, _MULTIPLIER_1 = np.uint64(0xD2511F53), np.uint64(0xCD9E8D57)


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
            c0, c1, c2, c3 = index[row], occurrence[row], epoch, words[block]
            for turn in range(len(round_keys)):
                p0, p1 = _MULTIPLIER_0 * c0, _MULTIPLIER_1 * c2
                c0, c2 = (p1 >> _HALF) ^ c1 ^ round_keys[turn, 0], (p0 >> _HALF) ^ c3 ^ round_keys[turn, 1]
                c1, c3 = p1 & _LOW, p0 & _LOW
            draws = (c0, c1, c2, c3)
            for draw in range(wanted[block]):
                out[row, column] = draws[draw] * 2.0**-32
                column += 1
    return out
