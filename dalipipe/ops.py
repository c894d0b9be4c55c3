"""`dalipipe.recipes.ops` under its earlier name, which scripts use."""

from dalipipe.recipes.ops import *  # noqa: F403
from dalipipe.recipes.ops import __all__ as __all__
