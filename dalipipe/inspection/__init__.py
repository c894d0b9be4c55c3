"""What is wrong with a folder of images, before a training finds out: report, and a script that mends it."""

from dalipipe.inspection.repairs import Fixes, fixes
from dalipipe.inspection.report import FAILING, WARNINGS, Duplicates, Extent, File, Finding, Report, Tally
from dalipipe.inspection.walk import inspect

__all__ = [
    "FAILING",
    "WARNINGS",
    "Duplicates",
    "Extent",
    "File",
    "Finding",
    "Fixes",
    "Report",
    "Tally",
    "fixes",
    "inspect",
]
