"""Checkpoints: a network with what is needed to use it, in one file that holds no code."""

import os
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field, fields
from pathlib import Path
from typing import IO, Any, Final

import torch
from torch import Tensor

from dalipipe.errors import ConfigError, WeightsError

FORMAT: Final = "dalipipe-checkpoint-1"


@dataclass(frozen=True)
class Checkpoint:
    """What best.pt and last.pt hold.

    Attributes:
        model: Name of the network.
        classes: Class names; the index is the label.
        recipe: The training recipe, as TOML.
        eval_recipe: Its evaluation twin, as TOML: what new images go through.
        state_dict: Parameters and buffers.
        epoch: Epochs done.
        metrics: Of the last of them, see `EpochMetrics`.
        config: Every option of the run, as `TrainConfig.plain` has them; `head` and `dropout` are of the network.
    """

    model: str
    classes: tuple[str, ...]
    recipe: str
    eval_recipe: str
    state_dict: Mapping[str, Tensor]
    epoch: int
    metrics: Mapping[str, float]
    config: Mapping[str, Any] = field(default_factory=dict)


def write_atomic(path: Path, write: Callable[[IO[bytes]], object]) -> None:
    """Let `write` fill the file at `path` so that whoever reads it, at any moment, finds all of it or the former one.

    The bytes go to a temporary file beside it, to the disk, and only then under the name.

    Raises:
        ConfigError: the file can't be written; a former one is untouched.
    """
    temporary = path.with_name(f".{path.name}.{os.getpid()}.tmp")
    try:
        with temporary.open("wb") as file:
            write(file)
            file.flush()
            os.fsync(file.fileno())
        temporary.replace(path)
        _sync_directory(path.parent)
    except OSError as error:
        raise ConfigError(
            f"{path}: must be writable, got {error.strerror or error}. Free some space or choose another --output."
        ) from error
    finally:
        temporary.unlink(missing_ok=True)


def _sync_directory(directory: Path) -> None:
    """Make a rename in `directory` outlive a power cut."""
    descriptor = os.open(directory, os.O_RDONLY)
    try:
        os.fsync(descriptor)
    finally:
        os.close(descriptor)


def save_checkpoint(path: Path, checkpoint: Checkpoint) -> None:
    """Write the checkpoint, tensors on the CPU, atomically.

    Raises:
        ConfigError: the file can't be written.
    """
    content = {each.name: getattr(checkpoint, each.name) for each in fields(checkpoint)}
    content["state_dict"] = {name: tensor.detach().cpu() for name, tensor in checkpoint.state_dict.items()}
    content["classes"] = list(checkpoint.classes)
    content["metrics"], content["config"] = dict(checkpoint.metrics), dict(checkpoint.config)
    write_atomic(path, lambda file: _save({"format": FORMAT, **content}, file))


def _save(content: Mapping[str, object], file: IO[bytes]) -> None:
    try:
        torch.save(content, file)
    except RuntimeError as error:  # torch's archive writer hides a full disk behind a failed assertion of its own
        if isinstance(error.__context__, OSError):
            raise error.__context__ from error
        raise


def load_checkpoint(path: Path) -> Checkpoint:
    """Return the checkpoint in the file.

    Raises:
        WeightsError: no such file, a damaged one, or one that isn't a checkpoint of dalipipe.
    """
    content = read_tensors(path)
    if not is_checkpoint(content):
        raise WeightsError(f"{path}: must be a checkpoint of dalipipe, got another file. Give a best.pt or last.pt.")
    known = {each.name: content[each.name] for each in fields(Checkpoint) if each.name in content}
    return Checkpoint(**{**known, "classes": tuple(known["classes"])})


def is_checkpoint(content: object) -> bool:
    """Return whether what a file holds was written by `save_checkpoint`."""
    return isinstance(content, dict) and content.get("format") == FORMAT


def read_tensors(path: Path) -> Any:
    """Return what torch.save wrote into the file: tensors and plain values, on the CPU. No code of the file is run.

    Raises:
        WeightsError: no such file, or one that torch.load can't read.
    """
    try:
        return torch.load(path, map_location="cpu", weights_only=True)
    except OSError as error:
        raise WeightsError(f"{path}: must be a readable file, got: {error.strerror}. Check the path.") from error
    except Exception as error:  # whatever the unpickler trips over in bytes that torch.save did not write
        if "Unsupported global" in str(error) or "Unsupported class" in str(error):
            raise WeightsError(
                f"{path}: must hold tensors only, got pickled Python objects. "
                "Save it anew with torch.save(model.state_dict(), FILE)."
            ) from error
        raise WeightsError(
            f"{path}: must be a file that torch.save wrote, got a damaged or different one. Fetch or save it again."
        ) from error
