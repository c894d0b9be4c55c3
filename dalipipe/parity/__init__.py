"""Whether each backend makes the same of an image as the reference: tolerances, comparison, report."""

from dalipipe.parity.comparing import WHOLE, Settings, compare, refusals
from dalipipe.parity.comparison import Gathered, Report, Row, Worst
from dalipipe.parity.tolerances import (
    MEASURED,
    REFERENCE,
    TOLERANCES,
    Spread,
    Tolerance,
    tolerance_of,
    tolerance_of_recipe,
)

__all__ = [
    "MEASURED",
    "REFERENCE",
    "TOLERANCES",
    "WHOLE",
    "Gathered",
    "Report",
    "Row",
    "Settings",
    "Spread",
    "Tolerance",
    "Worst",
    "compare",
    "refusals",
    "tolerance_of",
    "tolerance_of_recipe",
]
