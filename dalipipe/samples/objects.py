"""The objects of the pictures, one function per class: outline, relief and colours."""

import math
from collections.abc import Callable
from dataclasses import dataclass
from typing import Final

import numpy as np

from dalipipe.samples.noise import Field, fractal, smooth_fractal

CLASSES: Final = ("berry", "blossom", "leaf", "starfish")
"""Class names; the index is the label."""


@dataclass(frozen=True)
class Body:
    """An object in its own frame, where its radius is 1; every field is (N, N)."""

    edge: Field  # distance to the outline, positive inside
    height: Field
    albedo: Field  # (3, N, N), linear light
    gloss: float


def _shade(rng: np.random.Generator, colour: tuple[float, float, float]) -> Field:
    """Return a colour near `colour`: brighter or darker, warmer or cooler."""
    near = np.array(colour) * np.exp(rng.normal(0, 0.14, 3) + rng.normal(0, 0.22))
    return near.astype(np.float32)[:, None, None]


def _smoothstep(low: float, high: float, value: Field) -> Field:
    """Return 0 where `value` is below `low`, 1 where it is above `high`, and a smooth way up between."""
    t = np.clip((value - low) / (high - low), 0, 1)
    return np.asarray(t * t * (3 - 2 * t))


def _berry(rng: np.random.Generator, u: Field, v: Field) -> Body:
    """Return a blueberry: a sphere with a bloom and a crown."""
    r, theta = np.sqrt(u * u + v * v), np.arctan2(v, u)
    bound = 1 + 0.02 * np.cos(2 * theta + rng.uniform(0, 6)) + 0.012 * np.cos(3 * theta + rng.uniform(0, 6))
    height = np.sqrt(np.clip(1.02 - (r / bound) ** 2, 0.0, None))
    skin, bloom = _shade(rng, (0.03, 0.05, 0.24)), _shade(rng, (0.20, 0.27, 0.52))
    cover = np.clip(0.45 + 0.28 * smooth_fractal(rng, u.shape, 1.8), 0, 1)
    albedo = skin + (bloom - skin) * cover
    turn, cu, cv = rng.uniform(0, 6), rng.uniform(-0.35, 0.35), rng.uniform(-0.35, 0.35)
    cr, ctheta = np.hypot(u - cu, v - cv), np.arctan2(v - cv, u - cu)
    crown = _smoothstep(-0.05, 0.05, 0.24 + 0.07 * np.cos(5 * ctheta + turn) - cr)
    pit = _smoothstep(-0.04, 0.04, 0.14 + 0.02 * np.cos(5 * ctheta + turn) - cr)
    albedo = albedo * (1 - 0.55 * crown) * (1 - 0.6 * pit)
    return Body(bound - r, height - 0.07 * pit + 0.03 * crown, albedo, 0.35)


def _blossom(rng: np.random.Generator, u: Field, v: Field) -> Body:
    """Return a flower: five to eight petals, with streaks along them, about a yellow heart."""
    r, theta = np.sqrt(u * u + v * v), np.arctan2(v, u)
    petals = int(rng.integers(5, 9))
    turn = theta * petals / (2 * math.pi)
    within = np.abs(turn - np.floor(turn) - 0.5) * 2  # 0 on the middle line of a petal, 1 between two
    number = np.floor(turn).astype(np.int64) % petals
    length = rng.uniform(0.86, 1.0, petals).astype(np.float32)[number]
    bound = length * (1 - 0.62 * within ** rng.uniform(2.2, 3.2))
    streaks = 1 + 0.16 * np.sin(within * 22 + 2 * r) * r + 0.05 * fractal(rng, u.shape, 1.0)
    petal, deep = _shade(rng, (0.72, 0.16, 0.42)), _shade(rng, (0.42, 0.03, 0.20))
    depth = _smoothstep(0.15, 0.9, r) * (1 - 0.55 * within**3)
    albedo = (deep + (petal - deep) * depth) * streaks
    heart_radius = rng.uniform(0.2, 0.27)
    heart = _smoothstep(-0.03, 0.03, heart_radius - r)
    seeds = np.clip(fractal(rng, u.shape, 0.3), -2, 2)
    albedo += (_shade(rng, (0.78, 0.45, 0.04)) * (1 + 0.3 * seeds) - albedo) * heart
    height = (0.28 * r + 0.16 * (1 - within**2) * np.sqrt(r) - 0.25 * r**3) * (1 - heart)
    height += np.sqrt(np.clip(heart_radius**2 - 0.6 * r * r, 0, None)) * heart + 0.012 * seeds * heart
    return Body(bound - r, height, albedo, 0.05)


def _leaf(rng: np.random.Generator, u: Field, v: Field) -> Body:
    """Return a leaf: pointed at both ends, with a midrib, side veins and a fine saw edge."""
    v = v + rng.uniform(-0.14, 0.14) * (1 - u * u)
    along = np.clip((u + 1) / 2, 0, 1)
    half = rng.uniform(0.36, 0.50) * np.clip(np.sin(math.pi * along ** rng.uniform(0.75, 0.95)), 0, None) ** 0.9
    side = np.abs(v)
    wave = (u - 0.75 * side) * rng.uniform(5, 7)
    saw = np.abs((wave * 4) % 1.0 - 0.5)
    edge = half * (1 - 0.07 * saw) - side - np.clip(np.abs(u) - 1, 0, None) * 4
    stalk = np.where((u < -0.9) & (u > -1.18), 0.022 - side, -1)
    vein = np.exp(-((((wave % 1.0) - 0.5) / 0.09) ** 2)) * _smoothstep(0.0, 0.05, edge)
    rib = np.exp(-((side / 0.02) ** 2))
    blade, pale = _shade(rng, (0.10, 0.32, 0.03)), _shade(rng, (0.36, 0.52, 0.14))
    mottle = np.exp(0.10 * fractal(rng, u.shape, 1.1))
    albedo = blade * mottle + (pale - blade) * np.clip(0.45 * vein + 0.9 * rib, 0, 1)
    height = 0.34 * side - 0.35 * side**2 - 0.025 * vein + 0.10 * np.sin(2.5 * u + 1)
    return Body(np.maximum(edge, stalk), height, albedo, 0.14)


def _starfish(rng: np.random.Generator, u: Field, v: Field) -> Body:
    """Return a starfish: five arms of uneven length with a ridge, and a grainy skin."""
    r = np.sqrt(u * u + v * v)
    theta = np.arctan2(v, u) + 0.12 * r * np.sin(math.pi * r + rng.uniform(0, 6))  # the arms bend
    turn = theta * 5 / (2 * math.pi)
    within = np.abs(turn - np.floor(turn) - 0.5) * 2
    number = np.floor(turn).astype(np.int64) % 5
    length = rng.uniform(0.84, 1.0, 5).astype(np.float32)[number]
    across = r * np.sin(within * math.pi / 5)  # distance to the middle line of the arm
    reach = r * np.cos(within * math.pi / 5)
    width = 0.30 * np.clip(1 - (reach / length) ** 1.5, 0, None) ** 0.6 + 0.03
    edge = np.minimum(width - across, (length - reach))
    height = 0.42 * np.sqrt(np.clip(1 - (across / np.maximum(width, 1e-3)) ** 2, 0, None)) * (1.05 - 0.75 * reach)
    grain = np.clip(fractal(rng, u.shape, 0.65), -2.5, 2.5)
    spots = np.exp(-((across / 0.035) ** 2)) * (0.5 + 0.5 * np.cos(reach * 44))
    skin, pale = _shade(rng, (0.66, 0.17, 0.03)), _shade(rng, (0.85, 0.50, 0.22))
    albedo = skin * (1 + 0.14 * grain) + (pale - skin) * (0.8 * spots)
    return Body(edge, height + 0.012 * grain + 0.03 * spots, albedo, 0.10)


BODIES: Final[tuple[Callable[[np.random.Generator, Field, Field], Body], ...]] = (_berry, _blossom, _leaf, _starfish)
