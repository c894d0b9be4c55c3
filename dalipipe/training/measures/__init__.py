"""How good it is: an epoch's loss, accuracy and times, the measures of an evaluation, and predictions of files."""

from dalipipe.training.measures.evaluation import Evaluation, Predictions, evaluate
from dalipipe.training.measures.metrics import EpochMetrics

__all__ = ["EpochMetrics", "Evaluation", "Predictions", "evaluate"]
