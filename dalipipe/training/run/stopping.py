"""Which epoch is the best, and when there is no point in going on."""

from __future__ import annotations

from dataclasses import asdict
from typing import Any

from dalipipe.training.measures.metrics import EpochMetrics
from dalipipe.training.options import MONITORS


class Stopper:
    """Keeps the best epoch, and stops a run that gets no better.

    Args:
        monitor: The measure that decides, a key of `MONITORS`. Of epochs with equal ones the lower val_loss is better.
        patience: Epochs in a row that need not get better; the run stops after that many. 0: never.
        min_delta: By how much an epoch must be better to end such a row.
    """

    def __init__(self, monitor: str = "val_loss", patience: int = 0, min_delta: float = 0.0) -> None:
        self.monitor, self.patience, self.min_delta = monitor, patience, min_delta
        self.best: EpochMetrics | None = None
        self.waited = 0
        self._reference: float | None = None

    def update(self, metrics: EpochMetrics) -> bool:
        """Take an epoch, and return whether it is the best so far."""
        value = self._value(metrics)
        if self._reference is None or value > self._reference + self.min_delta:
            self._reference, self.waited = value, 0
        else:
            self.waited += 1
        if self.best is None or (value, -metrics.val_loss) > (self._value(self.best), -self.best.val_loss):
            self.best = metrics
            return True
        return False

    @property
    def stopped(self) -> bool:
        """Whether the run has got no better for too long."""
        return 0 < self.patience <= self.waited

    def _value(self, metrics: EpochMetrics) -> float:
        value = float(getattr(metrics, self.monitor))
        return value if MONITORS[self.monitor] == "max" else -value

    def state_dict(self) -> dict[str, Any]:
        """Return what changes."""
        best = None if self.best is None else asdict(self.best)
        return {"best": best, "waited": self.waited, "reference": self._reference}

    def load_state_dict(self, state: dict[str, Any]) -> None:
        """Take over what `state_dict` gave."""
        self.best = None if state["best"] is None else EpochMetrics(**state["best"])
        self.waited, self._reference = state["waited"], state["reference"]
