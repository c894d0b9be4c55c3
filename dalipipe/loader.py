"""The loader of `dalipipe.loading` under its earlier name, which scripts use."""

from dalipipe.loading import DataLoader

__all__ = ["DataLoader"]
