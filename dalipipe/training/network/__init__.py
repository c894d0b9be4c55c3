"""The network: which one, what it starts from, what of it is trained and how fast, and the files that hold it."""

from dalipipe.training.network.checkpoint import Checkpoint, load_checkpoint, save_checkpoint
from dalipipe.training.network.models import create_model
from dalipipe.training.network.trained import load_model
from dalipipe.training.network.weights import WeightsReport, load_weights

__all__ = [
    "Checkpoint",
    "WeightsReport",
    "create_model",
    "load_checkpoint",
    "load_model",
    "load_weights",
    "save_checkpoint",
]
