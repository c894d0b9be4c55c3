"""Philox4x32-10: the one place where random bits are made (see `dalipipe.decisions.randomness`).

Source: Salmon, Moraes, Dror and Shaw, "Parallel random numbers: as easy as 1, 2, 3" (SC 2011).
"""

from __future__ import annotations

from typing import Any

MULTIPLIERS = (0xD2511F53, 0xCD9E8D57)
WORD = 0xFFFFFFFF
HALF = 32


def rounds(c0: Any, c1: Any, c2: Any, c3: Any, round_keys: Any, constants: Any) -> tuple[Any, Any, Any, Any]:
    """Return the four words of random bits of a counter, 32 bits each.

    It is written once for whatever can multiply, shift and mask: Python's integers, which may hold a lane of 64 bits
    for each of several counters, arrays of uint64, and numbers of Numba's (`dalipipe.decisions.uniforms`).

    Args:
        c0: Words 0 to 3 of the counter are this and the next three.
        c1: See `c0`.
        c2: See `c0`.
        c3: See `c0`.
        round_keys: The two words of the key of each of the ten rounds, one after the other: 20.
        constants: MULTIPLIERS, WORD and HALF, of the same kind as the words; WORD in each lane.
    """
    first, second, low, half = constants
    for turn in range(0, len(round_keys), 2):
        k0, k1 = round_keys[turn], round_keys[turn + 1]
        p0, p1 = first * c0, second * c2
        c0, c1, c2, c3 = ((p1 >> half) & low) ^ c1 ^ k0, p1 & low, ((p0 >> half) & low) ^ c3 ^ k1, p0 & low
    return c0, c1, c2, c3
