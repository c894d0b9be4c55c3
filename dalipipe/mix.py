"""The mixing of `dalipipe.loading` under its earlier name, which scripts use."""

from dalipipe.loading import CutMix, MixUp, RandomChoice

__all__ = ["CutMix", "MixUp", "RandomChoice"]
