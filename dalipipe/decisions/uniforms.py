"""The uniform numbers of the samples of a batch, compiled."""

from __future__ import annotations

import numpy as np

from dalipipe.compilation import compiled
from dalipipe.decisions.philox import HALF, MULTIPLIERS, WORD, rounds

_CONSTANTS = (np.uint64(MULTIPLIERS[0]), np.uint64(MULTIPLIERS[1]), np.uint64(WORD), np.uint64(HALF))
_rounds = compiled(rounds)


@compiled
def sample(index, occurrence, epoch, words, wanted, round_keys):
    """Return uniform numbers in [0, 1), multiples of 2**-32.

    Args:
        index: (n,) uint64, word 0 of the counter.
        occurrence: (n,) uint64, word 1.
        epoch: Word 2.
        words: (b,) uint64, word 3 of each block of four draws.
        wanted: (b,) int64: how many draws of each block are wanted.
        round_keys: (20,) uint64.

    Shapes: -> (n, sum(wanted)) float64.
    """
    out = np.empty((len(index), wanted.sum()))
    for row in range(len(index)):
        column = 0
        for block in range(len(words)):
            drawn = _rounds(index[row], occurrence[row], epoch, words[block], round_keys, _CONSTANTS)
            for draw in range(wanted[block]):
                out[row, column] = drawn[draw] * 2.0**-32
                column += 1
    return out
