"""`dalipipe.training.network.weights` under its earlier name, which scripts use."""

from dalipipe.training.network.weights import WeightsReport, load_weights

__all__ = ["WeightsReport", "load_weights"]
