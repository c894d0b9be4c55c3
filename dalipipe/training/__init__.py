"""Training a classifier on a folder of images: `TrainConfig` says what, `loop.train` does it.

Importing this package imports neither torch nor DALI; importing `dalipipe.training.run.loop` does.
"""

from dalipipe.training.config import TrainConfig

__all__ = ["TrainConfig"]
