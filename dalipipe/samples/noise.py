"""Fields of 1/f noise: what makes a generated surface look like a natural one."""

import math
from typing import Any, TypeAlias

import numpy as np
from numpy.typing import NDArray
from PIL import Image

Field: TypeAlias = NDArray[np.floating[Any]]


def fractal(
    rng: np.random.Generator, shape: tuple[int, int], slope: float, stretch: float = 1.0, angle_deg: float = 0.0
) -> Field:
    """Return noise of zero mean and unit deviation whose amplitude falls as 1 / f ** slope, (H, W).

    Args:
        rng: Decides everything that is random.
        shape: (H, W).
        slope: About 1 for the detail of natural images, more for what is smooth or out of focus.
        stretch: Length of the grain over its width.
        angle_deg: Direction of the grain, clockwise from the x axis.

    Source: D. J. Field, "Relations between the statistics of natural images and the response properties of cortical
    cells", Journal of the Optical Society of America A 4, 1987.
    """
    height, width = (-(-side // 30) * 30 for side in shape)  # a fast length for the FFT
    fy = np.fft.fftfreq(height).astype(np.float32)[:, None]
    fx = np.fft.rfftfreq(width).astype(np.float32)[None, :]
    cos, sin = math.cos(math.radians(angle_deg)), math.sin(math.radians(angle_deg))
    squared = (stretch * (cos * fx + sin * fy)) ** 2 + (cos * fy - sin * fx) ** 2
    amplitude = np.exp(np.log(squared + max(shape) ** -2) * (-slope / 2))
    # Uniform parts do as well as normal ones, at a fifth of the time: each pixel is a sum of thousands of them.
    spectrum = (rng.random((*amplitude.shape, 2), np.float32) - 0.5).view(np.complex64)[..., 0] * amplitude
    field = np.fft.irfft2(spectrum, s=(height, width))[: shape[0], : shape[1]]
    return np.asarray((field - field.mean()) / (field.std() + 1e-6), np.float32)


def smooth_fractal(
    rng: np.random.Generator, shape: tuple[int, int], slope: float, stretch: float = 1.0, angle_deg: float = 0.0
) -> Field:
    """Return `fractal` noise made at a quarter of the size and enlarged: for slopes that leave no fine detail."""
    small = fractal(rng, (shape[0] // 4 + 2, shape[1] // 4 + 2), slope, stretch, angle_deg)
    return np.asarray(Image.fromarray(small).resize(shape[::-1], Image.Resampling.BICUBIC), np.float32)
