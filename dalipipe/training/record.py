"""The output directory of a run: config.toml, metrics.jsonl, best.pt, last.pt and summary.json."""

import json
import os
import tempfile
from dataclasses import asdict
from pathlib import Path
from typing import Any, Final

from dalipipe.errors import ConfigError
from dalipipe.training.checkpoint import Checkpoint, save_checkpoint, write_atomic
from dalipipe.training.metrics import EpochMetrics

METRICS: Final = "metrics.jsonl"
BEST: Final = "best.pt"
LAST: Final = "last.pt"
SUMMARY: Final = "summary.json"
CONFIG: Final = "config.toml"


class RunRecord:
    """Writes what a run leaves behind, epoch by epoch.

    Args:
        directory: Made if it isn't there.

    Raises:
        ConfigError: the directory can't be made or written to, or holds another run.
    """

    def __init__(self, directory: Path) -> None:
        self.directory = directory
        self.last: EpochMetrics | None = None
        try:
            directory.mkdir(parents=True, exist_ok=True)
            with tempfile.TemporaryFile(dir=directory):
                pass
        except OSError as error:
            raise ConfigError(
                f"--output: must be a directory that can be written to, got {str(directory)!r} ({error.strerror}). "
                "Choose another one."
            ) from error
        present = [name for name in (METRICS, BEST, LAST, SUMMARY) if (directory / name).exists()]
        if present:
            raise ConfigError(
                f"--output: must not hold another run, got {str(directory)!r} with {', '.join(present)}. "
                "Choose another directory or delete this one."
            )

    def begin(self, config: str) -> None:
        """Write config.toml.

        Raises:
            ConfigError: the file can't be written.
        """
        write_atomic(self.directory / CONFIG, lambda file: file.write(config.encode("utf-8")))

    def add(self, metrics: EpochMetrics, checkpoint: Checkpoint, *, best: bool) -> None:
        """Write an epoch: its line, last.pt, and best.pt if it is the best so far.

        The checkpoints come first, so an epoch whose line is there has its checkpoint too.

        Raises:
            ConfigError: a file can't be written.
        """
        save_checkpoint(self.directory / LAST, checkpoint)
        if best:
            save_checkpoint(self.directory / BEST, checkpoint)
        self.last = metrics
        line = json.dumps(asdict(metrics), allow_nan=False) + "\n"
        path = self.directory / METRICS
        try:
            with path.open("a", encoding="utf-8") as file:
                file.write(line)
                file.flush()
                os.fsync(file.fileno())
        except OSError as error:
            raise ConfigError(f"{path}: must be writable, got {error.strerror}. Free some space.") from error

    def finish(self, summary: dict[str, Any]) -> None:
        """Write summary.json.

        Raises:
            ConfigError: the file can't be written.
        """
        text = json.dumps(summary, indent=2, allow_nan=False) + "\n"
        write_atomic(self.directory / SUMMARY, lambda file: file.write(text.encode("ascii")))
