"""What the names of folders say of their part in training."""

from __future__ import annotations

from typing import Final, Literal

Role = Literal["train", "val", "test"]

ROLES: Final[dict[str, Role]] = {
    "train": "train",
    "training": "train",
    "val": "val",
    "valid": "val",
    "validation": "val",
    "dev": "val",
    "test": "test",
    "testing": "test",
}
"""The names, in lower case, of folders that are parts of a data set."""


def role_of(name: str) -> Role | None:
    """Return what a folder of this name is for, whatever the case; None where the name doesn't say."""
    return ROLES.get(name.lower())
