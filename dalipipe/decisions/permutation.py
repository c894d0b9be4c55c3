"""The random order of an epoch as a function from place to sample, without a list of either.

Source: Black and Rogaway, "Ciphers with arbitrary finite domains" (CT-RSA 2002): a generalized Feistel network over
pairs of numbers, and cycle walking, which leads what falls beyond the end through the network again. The key of each
round is Philox's, as every random number of dalipipe; the round function is the finalizer of SplitMix64, an eighth of
the work: Steele, Lea and Flood, "Fast splittable pseudorandom number generators" (OOPSLA 2014).
"""

from __future__ import annotations

import math

import numpy as np
from numpy.typing import ArrayLike, NDArray

from dalipipe.decisions.randomness import ORDER_POSITION, philox

ROUNDS = 24
"""Of the network. Six do for large numbers; the orders of five samples are equally likely from 20 on."""

_AT_ONCE = 8192  # places: arrays that stay in a processor's cache
_FIRST, _SECOND = np.uint64(0xBF58476D1CE4E5B9), np.uint64(0x94D049BB133111EB)
_27, _30, _31, _32 = (np.uint64(shift) for shift in (27, 30, 31, 32))


class Permutation:
    """0 to length - 1 in the random order of an epoch: a pure function of its arguments, in constant memory.

    A place is a pair of numbers (left, right), left below the even number next to the square root. Each round adds to
    one of the two a random number that depends on the other one, so that it can be undone: the network is a
    permutation. It is one of a few more numbers than there are samples; who lands on one of those goes on from there.

    Args:
        length: Number of samples, 0 to 2**32.
        seed: 0 to 2**64 - 1.
        epoch: 0 to 2**32 - 1.
    """

    def __init__(self, length: int, seed: int, epoch: int) -> None:
        self.length = length
        half = math.isqrt(max(0, length - 1)) // 2 + 1
        # Even, since turning an odd number of things round never exchanges two of them: half the orders would be out of
        # reach.
        self._lefts, self._rights = np.uint64(2 * half), np.uint64(max(1, -(-length // (2 * half))))
        turns = [(0, 0, epoch, ORDER_POSITION << 16 | turn) for turn in range(ROUNDS)]
        self._keys = philox(turns, seed)[:, :2] @ np.array([1, 1 << 32], np.uint64)

    def __len__(self) -> int:
        """Return the number of samples."""
        return self.length

    def at(self, places: ArrayLike) -> NDArray[np.int64]:
        """Return which samples stand at some places, (n,) int64.

        Args:
            places: (n,) whole numbers, each from 0 to length - 1.
        """
        asked = np.asarray(places, dtype=np.int64)
        if len(asked) <= _AT_ONCE:
            return self._walk(asked)
        return np.concatenate([self._walk(asked[at : at + _AT_ONCE]) for at in range(0, len(asked), _AT_ONCE)])

    def _walk(self, places: NDArray[np.int64]) -> NDArray[np.int64]:
        found = self._network(places.astype(np.uint64))
        beyond = np.flatnonzero(found >= self.length)
        while len(beyond):
            found[beyond] = self._network(found[beyond])
            beyond = beyond[found[beyond] >= self.length]
        return found.astype(np.int64)

    def _network(self, numbers: NDArray[np.uint64]) -> NDArray[np.uint64]:
        right, left = np.divmod(numbers, self._lefts)
        for turn, key in enumerate(self._keys):
            if turn % 2 == 0:
                left = (left + _below(self._lefts, right + key)) % self._lefts
            else:
                right = (right + _below(self._rights, left + key)) % self._rights
        return left + self._lefts * right


def _below(most: np.uint64, numbers: NDArray[np.uint64]) -> NDArray[np.uint64]:
    """Return what SplitMix64 makes of some numbers, brought below `most`, which is 2**17 at most."""
    numbers = (numbers ^ (numbers >> _30)) * _FIRST
    numbers = (numbers ^ (numbers >> _27)) * _SECOND
    return ((numbers ^ (numbers >> _31)) >> _32) * most >> _32


def permutation(length: int, seed: int, epoch: int) -> NDArray[np.int64]:
    """Return 0 to length - 1 in the random order of an epoch, (length,) int64: all of a `Permutation`."""
    return Permutation(length, seed, epoch).at(np.arange(length))
