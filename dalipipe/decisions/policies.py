"""The tables behind RandAugment, TrivialAugmentWide and AutoAugment, and what they draw for a sample.

Source: torchvision.transforms.v2, `_AUGMENTATION_SPACE` of each class and `AutoAugment._get_policies`.
"""

from __future__ import annotations

import numpy as np

from dalipipe.compilation import compiled
from dalipipe.recipes.ops.policies import AUTO_AUGMENT, TRIVIAL_AUGMENT_WIDE
from dalipipe.recipes.primitives import Primitive

_SPACE = {
    "Identity": Primitive.NOTHING,
    "ShearX": Primitive.AFFINE,
    "ShearY": Primitive.AFFINE,
    "TranslateX": Primitive.AFFINE,
    "TranslateY": Primitive.AFFINE,
    "Rotate": Primitive.AFFINE,
    "Brightness": Primitive.BRIGHTNESS,
    "Color": Primitive.SATURATION,
    "Contrast": Primitive.CONTRAST,
    "Sharpness": Primitive.SHARPNESS,
    "Posterize": Primitive.POSTERIZE,
    "Solarize": Primitive.SOLARIZE,
    "AutoContrast": Primitive.AUTOCONTRAST,
    "Equalize": Primitive.EQUALIZE,
    "Invert": Primitive.INVERT,
}
TRANSFORMS = tuple(_SPACE)
"""Names of the transforms, in the order of their numbers. RandAugment and TrivialAugmentWide lack the last."""

BECOMES = tuple(_SPACE.values())
"""The primitive of each."""

(
    IDENTITY,
    SHEAR_X,
    SHEAR_Y,
    TRANSLATE_X,
    TRANSLATE_Y,
    ROTATE,
    BRIGHTNESS,
    COLOR,
    CONTRAST,
    SHARPNESS,
    POSTERIZE,
    SOLARIZE,
    AUTO_CONTRAST,
    EQUALIZE,
    INVERT,
) = range(len(TRANSFORMS))

FACTORS = (BRIGHTNESS, COLOR, CONTRAST, SHARPNESS)
"""The transforms whose magnitude is a factor's difference from 1."""

SIGNED = (SHEAR_X, SHEAR_Y, TRANSLATE_X, TRANSLATE_Y, ROTATE, *FACTORS)
"""The transforms that go to either side."""

_NARROW = (0.0, 0.3, 0.3, 150.0 / 331.0, 150.0 / 331.0, 30.0, 0.9, 0.9, 0.9, 0.9, 4.0, 0.0, 0.0, 0.0, 0.0)
_WIDE = (0.0, 0.99, 0.99, 32.0, 32.0, 135.0, 0.99, 0.99, 0.99, 0.99, 6.0, 0.0, 0.0, 0.0, 0.0)
GREATEST = np.array([_NARROW, _WIDE, _NARROW])
"""(3, 15): the greatest magnitude of each transform in each policy: tangent, fraction of the side (px in the wide
policy), degrees, difference of the factor from 1, bits that are dropped."""

# (transform, probability, magnitude bin of 10) twice, for each of the 25 pairs
_PAIRS = """
Posterize 0.4 8, Rotate 0.6 9; Solarize 0.6 5, AutoContrast 0.6 0; Equalize 0.8 0, Equalize 0.6 0;
Posterize 0.6 7, Posterize 0.6 6; Equalize 0.4 0, Solarize 0.2 4; Equalize 0.4 0, Rotate 0.8 8;
Solarize 0.6 3, Equalize 0.6 0; Posterize 0.8 5, Equalize 1.0 0; Rotate 0.2 3, Solarize 0.6 8;
Equalize 0.6 0, Posterize 0.4 6; Rotate 0.8 8, Color 0.4 0; Rotate 0.4 9, Equalize 0.6 0;
Equalize 0.0 0, Equalize 0.8 0; Invert 0.6 0, Equalize 1.0 0; Color 0.6 4, Contrast 1.0 8;
Rotate 0.8 8, Color 1.0 2; Color 0.8 8, Solarize 0.8 7; Sharpness 0.4 7, Invert 0.6 0;
ShearX 0.6 5, Equalize 1.0 0; Color 0.4 0, Equalize 0.6 0; Equalize 0.4 0, Solarize 0.2 4;
Solarize 0.6 5, AutoContrast 0.6 0; Invert 0.6 0, Equalize 1.0 0; Color 0.6 4, Contrast 1.0 8;
Equalize 0.8 0, Equalize 0.6 0
"""
IMAGENET = np.array(
    [
        [[TRANSFORMS.index(name), float(p), float(at)] for name, p, at in (step.split() for step in pair.split(","))]
        for pair in _PAIRS.split(";")
    ]
)
"""(25, 2, 3): transform, probability and magnitude bin of each step of each pair."""


@compiled
def linspace(start, end, steps, at):
    """Return element `at` of torch.linspace(start, end, steps), in float32 and from both ends as there."""
    first, last = np.float32(start), np.float32(end)
    step = np.float64((last - first) / np.float32(steps - 1))
    # Multiplied and added in one rounding, as torch's vectorised kernels do.
    return np.float32(first + step * at if at < steps // 2 else last - step * (steps - at - 1))


@compiled
def magnitude_of(transform, greatest, bins, at, size):
    """Return the magnitude in bin `at` of `bins`; `size` is the (height, width) that translations are fractions of."""
    if transform == POSTERIZE:
        return 8.0 - np.rint(np.float32(at) / np.float32((bins - 1) / greatest))
    if transform == SOLARIZE:
        return np.float64(linspace(1.0, 0.0, bins, at))
    if transform == TRANSLATE_X and greatest < 1:
        greatest *= size[1]
    elif transform == TRANSLATE_Y and greatest < 1:
        greatest *= size[0]
    return np.float64(linspace(0.0, greatest, bins, at))


@compiled
def draw(u, policy, step, bins, at, size):
    """Return (transform, magnitude) of one step of a policy for one sample, the sign included.

    Args:
        u: The op's uniforms: for AutoAugment the pair, then for each step whether and which side; else for each step
            which transform, which bin, which side.
        policy: RAND_AUGMENT, TRIVIAL_AUGMENT_WIDE or AUTO_AUGMENT.
        step: Which of the steps.
        bins: How many magnitudes there are.
        at: The bin of RandAugment.
        size: (height, width) of the image, px.
    """
    if policy == AUTO_AUGMENT:
        row = IMAGENET[int(u[0] * len(IMAGENET)), step]
        if u[1 + 2 * step] >= row[1]:
            return IDENTITY, 0.0
        transform, at, side = int(row[0]), int(row[2]), u[2 + 2 * step]
    else:
        transform, side = int(u[3 * step] * INVERT), u[3 * step + 2]
        if policy == TRIVIAL_AUGMENT_WIDE:
            at = int(u[3 * step + 1] * bins)
    magnitude = magnitude_of(transform, GREATEST[policy, transform], bins, at, size)
    signed = transform in SIGNED
    return transform, -magnitude if signed and side < 0.5 else magnitude
