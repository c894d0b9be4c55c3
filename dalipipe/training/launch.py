"""How this process was started: alone, or by torchrun as one of several. Importing this doesn't import torch."""

from __future__ import annotations

import os
from dataclasses import dataclass
from typing import Self

from dalipipe.errors import ConfigError

_VARIABLES = {
    "rank": "RANK",
    "size": "WORLD_SIZE",
    "local_rank": "LOCAL_RANK",
    "local_size": "LOCAL_WORLD_SIZE",
    "restarts": "TORCHELASTIC_RESTART_COUNT",
}


@dataclass(frozen=True)
class Launch:
    """This process among those that train together; alone by default.

    Attributes:
        rank: Of this process, from 0.
        size: Number of processes.
        local_rank: Of this process among those on its machine: the number of its GPU.
        local_size: Number of processes on its machine.
        restarts: How often torchrun has started all of them anew.
    """

    rank: int = 0
    size: int = 1
    local_rank: int = 0
    local_size: int = 1
    restarts: int = 0

    @classmethod
    def from_environment(cls) -> Self:
        """Return what torchrun has put into the environment.

        Raises:
            ConfigError: a part of it is no number.
        """
        found = {name: os.environ[key] for name, key in _VARIABLES.items() if key in os.environ}
        if not {"rank", "size"} <= set(found):
            return cls()
        for name, text in found.items():
            if not text.isdecimal():
                raise ConfigError(
                    f"{_VARIABLES[name]}: must be a whole number in the environment, got {text!r}. "
                    "Start with torchrun, or unset it."
                )
        return cls(**{name: int(text) for name, text in found.items()})

    @property
    def speaks(self) -> bool:
        """Whether this process tells of what ends it: one on each machine, for all may meet it or that machine's."""
        return self.local_rank == 0

    @property
    def is_first(self) -> bool:
        """Whether this process is the one that writes and speaks."""
        return self.rank == 0
