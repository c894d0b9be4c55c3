"""`dalipipe.training.network.models` under its earlier name, which scripts use."""

from dalipipe.training.network.models import create_model, resolve_device

__all__ = ["create_model", "resolve_device"]
