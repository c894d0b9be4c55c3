"""What a run leaves behind and goes on from: its directory, its checkpoints, and whether it is the same run."""

from dalipipe.training.resume.record import RunRecord
from dalipipe.training.resume.resumption import Checkpoints

__all__ = ["Checkpoints", "RunRecord"]
