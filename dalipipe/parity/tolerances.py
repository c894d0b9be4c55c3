"""How far each backend may be from the reference, and why: the only place where that is written down.

All levels are of 255. A primitive is declared with its family; one that rounds in its own way must be given a family
of its own, and with it a reason.
"""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass, replace

from dalipipe.backends import BACKENDS
from dalipipe.recipes import Recipe, ops
from dalipipe.recipes.primitives import DECLARED, Family

REFERENCE = "torchvision"
MEASURED = tuple(name for name in BACKENDS if name != REFERENCE)
"""The backends that are held against the reference."""


NORMALISED = 1e-5
"""Share by which a difference in levels may be off that is taken from normalised float32; one of 0 is 0."""


@dataclass(frozen=True)
class Tolerance:
    """How far pixels may be off the reference, in levels of 255.

    Attributes:
        max_abs: The largest difference of any value.
        mean_abs: The mean over all values of all images.
        share: The fraction of values that may differ at all.
        because: Why it is not 0.
    """

    max_abs: float
    mean_abs: float
    share: float
    because: str

    def problem(self, found: Difference) -> str:
        """Return which limit a measured difference exceeds; "" where it keeps to all of them.

        What is not a number exceeds every limit.
        """
        if not found.max_abs <= self.max_abs * (1 + NORMALISED):
            return f"max {found.max_abs:.3g} > {self.max_abs:g}"
        if not found.mean_abs <= self.mean_abs:
            return f"mean {found.mean_abs:.3g} > {self.mean_abs:g}"
        if not found.share <= self.share:
            return f"{found.share:.3%} of the values differ, > {self.share:.3%}"
        return ""


@dataclass(frozen=True)
class Difference:
    """A measured difference in levels of 255, and the fraction of values that differ at all."""

    mean_abs: float
    p99_abs: float
    max_abs: float
    share: float


EXACT = Tolerance(0, 0, 0, "pixels are copied, looked up in the same table, or made by the same arithmetic")
FLOATS = Tolerance(0.001, 0.0001, 1, "the same float32 arithmetic in another order")
STOCK_SMOOTH = Tolerance(
    40,
    0.4,
    0.2,
    "DALI's antialiasing weights differ a little; between black and white it shows, most at a tenth the size",
)
STOCK_CUBIC = Tolerance(40, 0.8, 0.4, "levels are rounded and cut between the passes, which come in another order")
NEAREST = Tolerance(255, 0.02, 0.0005, "a coordinate that lies midway between two pixels may fall to either side")
EITHER = Tolerance(
    255,
    0.02,
    0.0005,
    "exact but for nearest-exact midway between two pixels, where torch takes either, by the image's size",
)
BILINEAR = Tolerance(1, 0.001, 0.001, "torchvision's coordinates and weights, summed in another order")
DRIFT = Tolerance(
    16, 0.05, 0.05, "DALI adds up float32 coordinates over 256 px of a row, which drift by a hundredth of a px and more"
)
ROUNDED = Tolerance(16, 0.2, 0.2, "DALI's warp_perspective, OpenCV's, rounds coordinates to 1/32 of a px")
COLOUR = Tolerance(
    6, 0.02, 0.02, "DALI rounds each product and may cut a level the other way; later factors stretch that"
)
SUM = Tolerance(1, 0.001, 0.001, "the same sum in another order")
TIES = Tolerance(255, 0.7, 0.02, "corners on whole px put many coordinates midway; torchvision's are float32")
GPU = Tolerance(24, 0.6, 0.7, "nvJPEG's inverse transform and upsampling are its own; then as on the CPU")
GPU_LEAPS = Tolerance(
    255,
    1.0,
    0.7,
    "nvJPEG's levels, one off, may pass a threshold; what lies midway between two pixels falls either way",
)

TOLERANCES: dict[Family, dict[str, Tolerance]] = {
    Family.COPY: {"dali-gpu": GPU, "dali-cpu": EXACT, "dali-cpu-stock": EXACT},
    Family.RANGE: {"dali-gpu": FLOATS, "dali-cpu": EXACT, "dali-cpu-stock": FLOATS},
    Family.RESIZE: {"dali-gpu": GPU, "dali-cpu": EXACT, "dali-cpu-stock": STOCK_SMOOTH},
    Family.RESIZE_NEAREST: {"dali-gpu": GPU_LEAPS, "dali-cpu": EITHER, "dali-cpu-stock": NEAREST},
    Family.RESIZE_BICUBIC: {"dali-gpu": GPU, "dali-cpu": EXACT, "dali-cpu-stock": STOCK_CUBIC},
    Family.NEAREST: {"dali-gpu": GPU_LEAPS, "dali-cpu": NEAREST, "dali-cpu-stock": NEAREST},
    Family.BILINEAR: {"dali-gpu": GPU, "dali-cpu": BILINEAR, "dali-cpu-stock": DRIFT},
    Family.PERSPECTIVE: {"dali-gpu": GPU, "dali-cpu": BILINEAR, "dali-cpu-stock": ROUNDED},
    Family.COLOUR: {"dali-gpu": GPU_LEAPS, "dali-cpu": EXACT, "dali-cpu-stock": COLOUR},
    Family.BLUR: {"dali-gpu": GPU, "dali-cpu": SUM, "dali-cpu-stock": SUM},
    Family.TIES: {"dali-gpu": GPU_LEAPS, "dali-cpu": TIES, "dali-cpu-stock": TIES},
}
"""By what an op does to pixels (its family), and backend. COPY is decoding too. Those of dali-gpu are expected, not
yet measured."""

MEAN_GAIN = 3.0
"""How often larger an op can make the mean difference, at most."""

MEAN_LEVELS = 1.0
"""For loaders that are not dalipipe's: most that all pixels may differ on average. Filters that round differently stay
below 0.3 levels of 255; a picture shifted by one pixel is beyond it."""

WORST_LEVELS = 4.0
"""Most that the pixels of one image may differ on average: one wrong image must not drown among right ones."""

DRIFT_LEVELS = 8.0
"""Most that the mean and the spread of a channel may differ where each side takes its own random decisions, on top of
four standard errors of what such decisions make of these images."""


def loosest_family(op: ops.Op) -> Family:
    """Return the family of an op, or of those it holds the one that may be furthest off."""
    families = {leaf.family for leaf in ops.leaves(op)}
    return max(families, key=lambda family: TOLERANCES[family]["dali-cpu-stock"].mean_abs)


def gain_of(op: ops.Op) -> float:
    """Return how often larger an op can make a level's difference that was there before it: of all that it may do."""
    gain = 1.0
    for primitive, factors in op.factors().items():
        gain *= max(DECLARED[primitive].gain(factor) for factor in factors)
    return min(gain, 255.0)


def tolerance_of(op: ops.Op, backend: str) -> Tolerance:
    """Return how far a backend may be off the reference in one op."""
    return combined([(gain_of(leaf), TOLERANCES[leaf.family][backend]) for leaf in ops.leaves(op)])


def tolerance_of_recipe(recipe: Recipe, backend: str) -> Tolerance:
    """Return how far a backend may be off the reference in a whole recipe, decoding included."""
    steps = [(gain_of(leaf), TOLERANCES[leaf.family][backend]) for op in recipe.ops for leaf in ops.leaves(op)]
    whole = combined([(1.0, TOLERANCES[Family.COPY][backend]), *steps])
    if not whole.max_abs or recipe.levels is None:
        return whole
    # What is a level off before Normalize is so behind it but for the float's last bit.
    return replace(whole, max_abs=whole.max_abs + FLOATS.max_abs, mean_abs=whole.mean_abs + FLOATS.mean_abs, share=1.0)


def combined(steps: Iterable[tuple[float, Tolerance]]) -> Tolerance:
    """Return the tolerance of steps that follow one another, each with its gain: what they may differ, added up."""
    maximum, mean, share = 0.0, 0.0, 0.0
    reasons: list[str] = []
    for gain, tolerance in steps:
        if gain > 1 and 0 < maximum < 255:
            reasons.append(f"what differs by then comes out up to {gain:.3g} times as large")
        maximum, mean = maximum * gain + tolerance.max_abs, mean * min(gain, MEAN_GAIN) + tolerance.mean_abs
        share = min(1.0, share + tolerance.share) if maximum else 0.0
        if tolerance != EXACT and tolerance.because not in reasons:
            reasons.append(tolerance.because)
    if len(reasons) > 1:
        share = 1.0  # what differs in one place is spread by the next step
    return Tolerance(min(maximum, 255.0), mean, share, "; ".join(reasons) or EXACT.because)
