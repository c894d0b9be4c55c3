"""What it takes to go on with a run: its checkpoints, and whether it is the same run."""

from __future__ import annotations

import os
import re
from collections.abc import Callable, Mapping
from contextlib import suppress
from dataclasses import asdict, dataclass, fields
from pathlib import Path
from typing import Any, Final

from dalipipe.errors import ConfigError, StateError, WeightsError
from dalipipe.sources import fingerprint
from dalipipe.training.config import TrainConfig
from dalipipe.training.data import Data
from dalipipe.training.network.checkpoint import read_tensors, save_sealed
from dalipipe.training.observer import Observer, RunInfo
from dalipipe.training.resume.record import read_summary
from dalipipe.training.resume.summary import versions
from dalipipe.writing import remove_temporaries

FORMAT: Final = "dalipipe-run-1"

FREE: Final = frozenset(
    ("output", "report", "tensorboard", "checkpoint_every", "resume", "check_split", "threads", "device", "compile")
)
"""Options that don't decide what a run comes to: a run may go on with others."""

_KEPT: Final = 2
_NAME: Final = re.compile(r"epoch-(\d+)-batch-(\d+)\.pt")


@dataclass(frozen=True)
class RunCheckpoint:
    """A run at one moment: all that it takes to go on with it.

    Attributes:
        state: As `TrainState.state_dict` has it.
        config: Every option, as `TrainConfig.plain` has them, with absolute paths.
        seen: Classes, images and recipes, see `what_is_seen`.
        weights: What the network started from, see `WeightsReport`.
        versions: Of the packages that decide about results.
        elapsed_s: Seconds that the run has taken so far.
    """

    state: dict[str, Any]
    config: Mapping[str, Any]
    seen: Mapping[str, str]
    weights: Mapping[str, Any]
    versions: Mapping[str, str]
    elapsed_s: float

    @classmethod
    def of(cls, info: RunInfo, data: Data, elapsed_s: float = 0.0) -> RunCheckpoint:
        """Return the checkpoint of a run whose state is still to be filled in."""
        return cls(
            state={},
            config=info.cfg.plain(absolute=True),
            seen=what_is_seen(data),
            weights=asdict(info.weights),
            versions=versions(),
            elapsed_s=elapsed_s,
        )


def what_is_seen(data: Data) -> dict[str, str]:
    """Return what a run learns from, in words and fingerprints: pixels under the same names may have changed."""
    classes = ", ".join(map(repr, data.classes))
    seen = {"classes": f"{len(data.classes)} ({classes})"}
    for part, loader in (("training", data.train), ("validation", data.val)):
        seen[f"{part} images"] = f"{len(loader.source)} ({fingerprint(loader.source)})"
        seen[f"{part} recipe"] = f"{loader.recipe.name} ({loader.recipe.fingerprint()})"
    return seen


class Checkpoints:
    """The checkpoints of a run in a directory, of which the newest two are kept.

    Args:
        directory: Of them; made when the first is written.
    """

    def __init__(self, directory: Path) -> None:
        self.directory = directory
        self._good: Path | None = None  # the newest that is known to be good

    def write(self, checkpoint: RunCheckpoint) -> None:
        """Write a checkpoint, and remove those before the last one.

        Raises:
            ConfigError: the file can't be written; those before are untouched.
        """
        epoch, batch = checkpoint.state["epoch"], checkpoint.state["batch"]
        path = self.directory / f"epoch-{epoch:05d}-batch-{batch:07d}.pt"
        try:
            self.directory.mkdir(exist_ok=True)
        except OSError as error:
            raise ConfigError(f"{self.directory}: must be writable, got {error.strerror}. Free some space.") from error
        content = {each.name: getattr(checkpoint, each.name) for each in fields(checkpoint)}
        save_sealed(path, {"format": FORMAT, **content})
        kept = {path, self._good or path}
        for other in self._paths():
            if other not in kept:
                with suppress(OSError):  # one too many does no harm
                    other.unlink()
        self._good = path

    def newest(self, warn: Callable[[str], None]) -> RunCheckpoint | None:
        """Return the newest good checkpoint, None where there is none at all; damaged ones are told of.

        Args:
            warn: Is told of each newer one that is damaged.

        Raises:
            StateError: there are checkpoints, and all are damaged.
        """
        if self.directory.is_dir():
            remove_temporaries(self.directory)
        paths = self._paths()
        problems = []
        for path in reversed(paths):
            try:
                checkpoint = _read(path)
            except WeightsError as error:
                problems.append(str(error))
                continue
            for problem in problems:
                warn(f"{problem} The one before is used: {path.name}.")
            self._good = path
            return checkpoint
        if not paths:
            return None
        names = ", ".join(path.name for path in paths)
        raise StateError(
            f"{self.directory}: must hold a checkpoint that can be read, got damaged ones only ({names}). "
            "Begin the run anew with another --output."
        )

    def _paths(self) -> list[Path]:
        """Return the files, the oldest first."""
        found = [(path, _NAME.fullmatch(path.name)) for path in self.directory.glob("*.pt")]
        dated = [(int(match[1]), int(match[2]), path) for path, match in found if match is not None]
        return [path for _, _, path in sorted(dated)]


def _read(path: Path) -> RunCheckpoint:
    content = read_tensors(path)
    names = [each.name for each in fields(RunCheckpoint)]
    if not isinstance(content, dict) or content.get("format") != FORMAT or not set(names) <= set(content):
        raise WeightsError(f"{path}: must be the checkpoint of a run, got another file. Remove it.")
    return RunCheckpoint(**{name: content[name] for name in names})


def find_finished(cfg: TrainConfig, observer: Observer) -> dict[str, Any] | None:
    """Return the summary of the run to go on with where it is finished already; None otherwise.

    Raises:
        StateError: it is, and was under other options.
    """
    summary = read_summary(cfg.output) if cfg.resume else None
    if summary is not None:
        check_options(cfg, summary.get("config", {}))
        observer.finished(cfg.output)
    return summary


def find_earlier(cfg: TrainConfig, checkpoints: Checkpoints, observer: Observer) -> RunCheckpoint | None:
    """Return the newest checkpoint of the run to go on with, None where there is nothing to go on with.

    Args:
        cfg: What is asked for.
        checkpoints: Of the run.
        observer: Is told what is wrong with newer ones, and of other versions.

    Raises:
        StateError: all checkpoints are damaged, or the run's options are others.
    """
    if not cfg.resume:
        return None
    checkpoint = checkpoints.newest(observer.warning)
    if checkpoint is not None:
        check_options(cfg, checkpoint.config)
        changes = compare_versions(checkpoint.versions, versions())
        if changes:
            observer.warning(changes)
    return checkpoint


def check_options(cfg: TrainConfig, config: Mapping[str, Any]) -> None:
    """Refuse to go on with a run under options that would make another one of it.

    Args:
        cfg: What is asked for.
        config: The run's own options. One that it lacks, of an older version, may be anything.

    Raises:
        StateError: an option that decides what the run comes to differs; all are named.
    """
    asked = cfg.plain(absolute=True)
    pairs = [(name, config[name], asked[name]) for name in asked if name in config and name not in FREE]
    changes = [
        f"{name} was {_shown(was)}, got {_shown(got)}"
        for name, was, got in pairs
        if _comparable(name, was) != _comparable(name, got)
    ]
    if changes:
        raise StateError(
            f"--resume: options must be those that the run in {str(cfg.output)!r} began with: {'; '.join(changes)}. "
            "Leave them out, or choose another --output."
        )


def _comparable(name: str, value: Any) -> Any:
    """Return the value; an absolute path such that two ways of writing it are equal."""
    is_path = name in ("data", "recipe", "weights") and value is not None and os.path.isabs(value)  # noqa: PTH117
    return os.path.realpath(value) if is_path else value


def _shown(value: Any) -> str:
    return "none" if value is None else str(value).lower() if isinstance(value, bool) else str(value)


def check_seen(was: Mapping[str, str], now: Mapping[str, str]) -> None:
    """Refuse to go on with a run whose images or recipes were changed meanwhile.

    Args:
        was: What the run has seen so far.
        now: What it would see.

    Raises:
        StateError: they differ.
    """
    for name, value in now.items():
        if was.get(name, value) != value:
            raise StateError(
                f"--resume: the {name} must be those that the run began with: {was[name]}, got {value}. "
                "Bring them back, or choose another --output to begin anew."
            )


def compare_versions(was: Mapping[str, str], now: Mapping[str, str]) -> str:
    """Return a warning where the run goes on with other versions of what decides about results; nothing otherwise."""
    changes = [f"{name} was {was[name]}, is {now[name]}" for name in now if was.get(name, now[name]) != now[name]]
    if not changes:
        return ""
    return f"the run goes on under other versions: {'; '.join(changes)}. What it comes to may differ by rounding."
