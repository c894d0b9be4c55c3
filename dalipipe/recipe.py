"""`dalipipe.recipes` under its earlier name, which scripts use."""

from dalipipe.recipes import Recipe, list_recipes

__all__ = ["Recipe", "list_recipes"]
