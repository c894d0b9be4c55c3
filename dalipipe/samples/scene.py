"""A picture: a ground with 1/f detail, objects of one class on it, a light from one side, and a camera."""

import math
from collections.abc import Iterator
from dataclasses import dataclass
from typing import Final, TypeAlias

import numpy as np
from numpy.typing import NDArray
from PIL import Image, ImageFilter

from dalipipe.errors import ConfigError
from dalipipe.samples.noise import Field, fractal, smooth_fractal
from dalipipe.samples.objects import BODIES, CLASSES

VERSION: Final = 1
"""Changes when any picture does."""

MIN_SIDE_PX: Final = 16

Direction: TypeAlias = tuple[float, float, float]


@dataclass(frozen=True)
class _Ground:
    """What a ground is made of: three linear RGB colours from dark to light, and the grain of its texture."""

    colours: tuple[tuple[float, float, float], ...]
    slope: float  # of the amplitude spectrum, 1 / f ** slope
    stretch: float  # length of the grain over its width
    angle_deg: float
    contrast: float
    focus: float  # share of the fine detail that the lens keeps


_GROUNDS: Final = (
    _Ground(((0.02, 0.05, 0.01), (0.10, 0.20, 0.03), (0.38, 0.48, 0.12)), 1.00, 5.0, 80.0, 0.55, 0.9),  # meadow
    _Ground(((0.03, 0.07, 0.03), (0.12, 0.26, 0.08), (0.55, 0.60, 0.30)), 1.30, 1.0, 0.0, 0.35, 0.1),  # foliage
    _Ground(((0.22, 0.13, 0.06), (0.50, 0.34, 0.19), (0.80, 0.64, 0.44)), 0.95, 1.6, 5.0, 0.26, 1.0),  # sand
    _Ground(((0.01, 0.05, 0.08), (0.04, 0.20, 0.28), (0.30, 0.52, 0.60)), 1.20, 3.5, 0.0, 0.34, 0.9),  # water
    _Ground(((0.08, 0.08, 0.09), (0.22, 0.22, 0.22), (0.52, 0.50, 0.47)), 1.05, 1.0, 0.0, 0.38, 1.0),  # stone
    _Ground(((0.04, 0.02, 0.01), (0.16, 0.08, 0.04), (0.42, 0.27, 0.15)), 1.05, 9.0, 86.0, 0.45, 1.0),  # bark
    _Ground(((0.05, 0.03, 0.08), (0.22, 0.14, 0.26), (0.70, 0.52, 0.60)), 1.30, 1.0, 0.0, 0.35, 0.1),  # dusk
)


def render(label: int, seed: int, height: int, width: int) -> NDArray[np.uint8]:
    """Return one picture of class `CLASSES[label]`: the same one for the same arguments.

    Args:
        label: Index into `CLASSES`.
        seed: Which picture of the class, >= 0.
        height: In px, >= 16.
        width: In px, >= 16.

    Shapes: -> (height, width, 3) RGB, uint8.

    Raises:
        ConfigError: An argument is out of its range.
    """
    check_number("render", "label", label, 0, len(CLASSES) - 1)
    check_number("render", "seed", seed, 0)
    check_number("render", "height", height, MIN_SIDE_PX)
    check_number("render", "width", width, MIN_SIDE_PX)
    rng = np.random.default_rng(np.random.SeedSequence((VERSION, label, seed)))
    shape = (height, width)
    scene = _ground(rng, shape)
    bearing, climb = rng.uniform(0, 2 * math.pi), rng.uniform(0.6, 1.0)
    sun = (math.cos(bearing) * math.cos(climb), math.sin(bearing) * math.cos(climb), math.sin(climb))
    for place in _places(rng, shape):
        _put(rng, scene, label, place, sun)
    return _expose(rng, scene, sun)


def _expose(rng: np.random.Generator, scene: Field, sun: Direction) -> NDArray[np.uint8]:
    """Return what a camera makes of a scene in linear light: uneven light, white balance, tone curve and grain."""
    height, width = scene.shape[1:]
    y = np.linspace(-1, 1, height, dtype=np.float32)[:, None]
    x = np.linspace(-1, 1, width, dtype=np.float32)[None, :]
    light = np.exp(rng.uniform(0.1, 0.45) * (sun[0] * x + sun[1] * y)) * (1 - rng.uniform(0.05, 0.2) * (x * x + y * y))
    brightness = rng.normal(0.55, 0.22)
    gain = [math.exp(brightness + rng.normal(0, 0.05)) for _ in range(3)]
    grain = (rng.random((height, width), np.float32) - 0.5) * rng.uniform(3, 6.5) + 0.5
    pixels = np.empty((height, width, 3), np.uint8)
    for channel in range(3):  # one at a time: it stays in the processor's cache
        exposed = np.exp(scene[channel] * light * -gain[channel])
        tone = np.sqrt(1.12 - 1.12 * exposed) * 255 + grain  # the root is nearly a display's gamma
        pixels[..., channel] = np.clip(tone, 0, 255)
    return pixels


def check_number(where: str, name: str, value: int, low: int, high: int | None = None) -> None:
    """Raise ConfigError where `value` is below `low` or above `high`."""
    if value < low or (high is not None and value > high):
        rule = f"at least {low}" if high is None else f"from {low} to {high}"
        raise ConfigError(f"{where}: {name} must be {rule}, got {value}. Give a whole number in that range.")


def _bokeh(rng: np.random.Generator, shape: tuple[int, int]) -> Field:
    """Return the discs of light that a lens makes of far highlights, (H, W), 0 where there are none."""
    height, width = shape
    y, x = np.ogrid[:height, :width]
    lights = np.zeros(shape, np.float32)
    base = rng.uniform(0.03, 0.08) * min(shape)
    for _ in range(int(rng.integers(12, 40))):
        radius = max(base * rng.uniform(0.7, 1.3), 1.0)
        cy, cx, power = rng.uniform(-0.1, 1.0) * height, rng.uniform(0, 1) * width, rng.uniform(0.03, 0.5) ** 1.8
        top, left = max(int(cy - radius - 2), 0), max(int(cx - radius - 2), 0)
        window = np.s_[top : max(int(cy + radius + 3), 0), left : max(int(cx + radius + 3), 0)]
        distance = np.hypot(y[window[0]] - cy, x[:, window[1]] - cx)
        rim = 0.75 + 0.25 * (distance / radius) ** 4
        lights[window] += (power * rim * np.clip((radius - distance) / 2, 0, 1)).astype(np.float32)
    return lights


def _ground(rng: np.random.Generator, shape: tuple[int, int]) -> Field:
    """Return a ground in linear light, (3, H, W)."""
    ground = _GROUNDS[int(rng.integers(len(_GROUNDS)))]
    angle_deg = ground.angle_deg + rng.normal(0, 8)
    broad = smooth_fractal(rng, shape, 1.9 if ground.focus > 0.5 else 2.6, math.sqrt(ground.stretch), angle_deg)
    tint = smooth_fractal(rng, shape, 1.6)
    fine = fractal(rng, shape, ground.slope, ground.stretch, angle_deg)
    y = np.linspace(0, 1, shape[0], dtype=np.float32)[:, None]
    # The far end of the ground, at the top, is out of focus.
    fine *= ground.focus * np.clip(0.25 + 1.4 * (y - rng.uniform(-0.3, 0.25)), 0.2, 1)
    position = 1 + 0.44 * broad + 0.32 * fine
    lower, upper = np.clip(position, 0, 1), np.clip(position - 1, 0, 1)
    texture = np.exp(ground.contrast * fine)
    warmth = np.exp(0.1 * tint)
    glow = 1.5 * _bokeh(rng, shape) if ground.focus < 0.5 else None
    scene = np.empty((3, *shape), np.float32)
    for channel, (dark, middle, bright) in enumerate(zip(*ground.colours, strict=True)):
        light = (dark + (middle - dark) * lower + (bright - middle) * upper) * texture
        if channel != 1:
            light = light * warmth if channel == 0 else light / warmth
        scene[channel] = light if glow is None else light + glow * bright
    return scene


@dataclass(frozen=True)
class _Place:
    """Where an object lies, in px."""

    y: float
    x: float
    radius: float


def _places(rng: np.random.Generator, shape: tuple[int, int]) -> Iterator[_Place]:
    """Yield where the objects lie: a large one near the middle, then up to three smaller ones beside it."""
    height, width = shape
    short = min(shape)
    main = _Place(
        height / 2 + rng.uniform(-0.16, 0.16) * short,
        width / 2 + rng.uniform(-0.22, 0.22) * short,
        rng.uniform(0.24, 0.42) * short,
    )
    placed = [main]
    for _ in range(int(rng.integers(0, 4))):
        for _ in range(12):
            spot = _Place(rng.uniform(0, 1) * height, rng.uniform(0, 1) * width, main.radius * rng.uniform(0.35, 0.7))
            if all(math.hypot(spot.y - p.y, spot.x - p.x) > 0.9 * (spot.radius + p.radius) for p in placed):
                placed.append(spot)
                break
    yield from sorted(placed, key=lambda place: place.radius)


def _power32(base: Field) -> Field:
    """Return base ** 32, in five multiplications."""
    for _ in range(5):
        base = base * base
    return base


def _blur(field: Field, radius_px: float) -> Field:
    """Return a field of values from 0 to 1 out of focus."""
    image = Image.fromarray(np.uint8(np.clip(field, 0, 1) * 255)).filter(ImageFilter.GaussianBlur(radius_px))
    return np.asarray(image, np.float32) / 255


def _put(rng: np.random.Generator, scene: Field, label: int, place: _Place, sun: Direction) -> None:
    """Draw one object of class `label`, and its shadow, into `scene`."""
    radius = place.radius
    reach = math.ceil(1.4 * radius)  # with the shadow
    top, left = round(place.y) - reach, round(place.x) - reach
    y, x = np.mgrid[-reach : reach + 1, -reach : reach + 1].astype(np.float32) / np.float32(radius)
    turn, lean, squash = rng.uniform(0, 2 * math.pi), rng.uniform(0, math.pi), rng.uniform(0.72, 1.0)
    if CLASSES[label] == "berry":
        squash = rng.uniform(0.94, 1.0)  # a ball stays a ball from wherever one looks
    a = math.cos(lean) * x + math.sin(lean) * y
    b = (math.cos(lean) * y - math.sin(lean) * x) / squash
    u, v = math.cos(turn) * a + math.sin(turn) * b, math.cos(turn) * b - math.sin(turn) * a
    body = BODIES[label](rng, u, v)
    alpha = np.clip(body.edge * (radius / 1.6) + 0.5, 0, 1)
    slope_y, slope_x = np.gradient(body.height * radius)
    steepness = 1 / np.sqrt(slope_x**2 + slope_y**2 + 1)
    diffuse = np.clip((sun[2] - sun[0] * slope_x - sun[1] * slope_y) * steepness, 0, None)
    # Blinn's highlight: the normal against the direction halfway between the sun and the eye.
    halfway = (sun[0], sun[1], sun[2] + 1)
    facing = (halfway[2] - halfway[0] * slope_x - halfway[1] * slope_y) * steepness / math.hypot(*halfway)
    lit = body.albedo * (0.28 + 0.95 * diffuse) + body.gloss * _power32(np.clip(facing, 0, None))

    shift = round(-sun[1] * 0.2 * radius), round(-sun[0] * 0.2 * radius)
    shadow = 1 - 0.62 * _blur(np.roll(alpha, shift, (0, 1)), 0.07 * radius)
    inside = np.s_[:, max(top, 0) : max(top + 2 * reach + 1, 0), max(left, 0) : max(left + 2 * reach + 1, 0)]
    mine = np.s_[..., max(-top, 0) : scene.shape[1] - top, max(-left, 0) : scene.shape[2] - left]
    ground = scene[inside] * shadow[mine]
    scene[inside] = ground + (lit[mine] - ground) * alpha[mine]
