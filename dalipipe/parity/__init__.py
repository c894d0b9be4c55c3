"""Whether each backend makes the same of an image as the reference: tolerances, comparison, report."""

from dalipipe.parity.comparing import WHOLE, Settings, compare, refusals
from dalipipe.parity.comparison import Comparison, Gathered, Row, Worst
from dalipipe.parity.images import open_images, spread_out
from dalipipe.parity.tolerances import (
    DRIFT_LEVELS,
    MEAN_LEVELS,
    MEASURED,
    REFERENCE,
    TOLERANCES,
    WORST_LEVELS,
    Difference,
    Tolerance,
    tolerance_of,
    tolerance_of_recipe,
)

__all__ = [
    "DRIFT_LEVELS",
    "MEAN_LEVELS",
    "MEASURED",
    "REFERENCE",
    "TOLERANCES",
    "WHOLE",
    "WORST_LEVELS",
    "Comparison",
    "Difference",
    "Gathered",
    "Row",
    "Settings",
    "Tolerance",
    "Worst",
    "compare",
    "open_images",
    "refusals",
    "spread_out",
    "tolerance_of",
    "tolerance_of_recipe",
]
