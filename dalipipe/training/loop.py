"""`dalipipe.training.run.loop` under its earlier name, which scripts use."""

from dalipipe.training.run.loop import train

__all__ = ["train"]
