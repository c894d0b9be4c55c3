"""The output directory of a run: options (config.toml), recipes, measures, best.pt and last.pt, summary.json."""

import json
import tempfile
from collections.abc import Iterable, Mapping, Sequence
from pathlib import Path
from typing import Any, Final

from dalipipe.errors import ConfigError, WeightsError
from dalipipe.recipes import Recipe
from dalipipe.training.config import CONFIG, QUARANTINE
from dalipipe.training.measures.metrics import EpochMetrics
from dalipipe.training.network.checkpoint import Checkpoint, load_checkpoint, save_checkpoint
from dalipipe.writing import remove_temporaries, to_json, write_file

METRICS: Final = "metrics.jsonl"
TIMING: Final = "timing.jsonl"
BEST: Final = "best.pt"
LAST: Final = "last.pt"
SUMMARY: Final = "summary.json"
CHECKPOINTS: Final = "checkpoints"
RECIPE: Final = "recipe.toml"
EVAL_RECIPE: Final = "recipe-eval.toml"


class RunRecord:
    """Writes what a run leaves behind, epoch by epoch.

    Args:
        directory: Made if it isn't there.
        resumed: Whether the run in it goes on.

    Raises:
        ConfigError: the directory can't be made or written to, or holds another run.
    """

    def __init__(self, directory: Path, *, resumed: bool = False) -> None:
        self.directory = directory
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
        checkpoints = directory / CHECKPOINTS
        present += [CHECKPOINTS] if checkpoints.is_dir() and any(checkpoints.glob("*.pt")) else []
        if present and not resumed:
            raise ConfigError(
                f"--output: must not hold another run, got {str(directory)!r} with {', '.join(present)}. "
                "Choose another directory, delete this one, or go on with its run: --resume."
            )
        remove_temporaries(directory)
        if not resumed:  # of a run that was broken off before its first checkpoint
            for name in QUARANTINE.values():
                (directory / name).unlink(missing_ok=True)

    def begin(self, config: str) -> None:
        """Write config.toml.

        Raises:
            ConfigError: the file can't be written.
        """
        self._write_text(CONFIG, config)

    def write_recipes(self, recipe: Recipe, twin: Recipe) -> None:
        """Write recipe.toml, which `--recipe` takes, and recipe-eval.toml beside it, its twin.

        Raises:
            ConfigError: a file can't be written.
        """
        named = recipe.model_copy(update={"evaluation": EVAL_RECIPE})
        for name, each in ((RECIPE, named), (EVAL_RECIPE, twin)):
            self._write_text(name, each.to_toml())

    def add(self, history: Sequence[EpochMetrics], checkpoint: Checkpoint, *, best: bool) -> None:
        """Write an epoch: last.pt, best.pt if it is the best so far, and its line.

        The checkpoints come first, so an epoch whose line is there has its checkpoint too.

        Args:
            history: Every epoch so far.
            checkpoint: Of the last of them.
            best: Whether that is the best.

        Raises:
            ConfigError: a file can't be written.
        """
        save_checkpoint(self.directory / LAST, checkpoint)
        if best:
            save_checkpoint(self.directory / BEST, checkpoint)
        self.write_history(history)

    def write_history(self, history: Iterable[EpochMetrics]) -> None:
        """Write metrics.jsonl and timing.jsonl anew.

        Raises:
            ConfigError: a file can't be written.
        """
        self._write_lines(METRICS, [metrics.measures() for metrics in history])
        self._write_lines(TIMING, [metrics.timing() for metrics in history])

    def _write_lines(self, name: str, rows: Iterable[Mapping[str, float]]) -> None:
        self._write_text(name, "".join(json.dumps(row, allow_nan=False) + "\n" for row in rows))

    def _write_text(self, name: str, text: str) -> None:
        write_file(self.directory / name, lambda file: file.write(text.encode("utf-8")))

    def lacks(self, name: str, metrics: EpochMetrics) -> str:
        """Return what is wrong with a checkpoint that must be of a certain epoch; nothing if it is that.

        Args:
            name: `BEST` or `LAST`.
            metrics: Of the epoch.
        """
        try:
            found = load_checkpoint(self.directory / name)
        except WeightsError as error:
            return str(error)
        if dict(found.metrics) == metrics.measures():
            return ""
        return f"{self.directory / name}: must be of epoch {metrics.epoch}, got epoch {found.epoch}."

    def take_last_for_best(self) -> None:
        """Write best.pt with what last.pt holds.

        Raises:
            WeightsError: last.pt can't be read.
            ConfigError: best.pt can't be written.
        """
        save_checkpoint(self.directory / BEST, load_checkpoint(self.directory / LAST))

    def finish(self, summary: dict[str, Any]) -> None:
        """Write summary.json: from then on the run is finished.

        Raises:
            ConfigError: the file can't be written.
        """
        self._write_text(SUMMARY, to_json(summary))


def read_summary(directory: Path) -> dict[str, Any] | None:
    """Return what summary.json of a finished run holds; None where there is none that can be read."""
    try:
        summary = json.loads((directory / SUMMARY).read_text(encoding="ascii"))
    except (OSError, ValueError):
        return None
    return summary if isinstance(summary, dict) else None
