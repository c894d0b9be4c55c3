"""Files of tensors that hold no code, are written whole or not at all, and say when they are damaged.

A `Checkpoint` is a network with what is needed to use it; `dalipipe.training.resumption` keeps whole runs like that.
"""

import hashlib
import warnings
from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field, fields
from pathlib import Path
from typing import IO, Any, Final

import torch
from torch import Tensor

from dalipipe.errors import WeightsError
from dalipipe.writing import write_file

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
        metrics: Of the last of them, see `EpochMetrics.measures`.
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


def save_checkpoint(path: Path, checkpoint: Checkpoint) -> None:
    """Write the checkpoint, tensors on the CPU, atomically.

    Raises:
        ConfigError: the file can't be written.
    """
    content = {each.name: getattr(checkpoint, each.name) for each in fields(checkpoint)}
    save_sealed(path, {"format": FORMAT, **content, "classes": list(checkpoint.classes)})


def save_sealed(path: Path, content: Mapping[str, Any]) -> None:
    """Write content, tensors on the CPU, atomically, with its digest beside it.

    Args:
        path: Of the file.
        content: As `digest` takes it. "format" names its kind, and begins with "dalipipe-".

    Raises:
        ConfigError: the file can't be written.
    """
    plain = _on_cpu(content)
    write_file(path, lambda file: _save({**plain, "digest": digest(plain)}, file))


def _on_cpu(part: Any) -> Any:
    """Return nested content with its tensors on the CPU and its mappings as plain dicts."""
    if isinstance(part, Tensor):
        return part.detach().cpu()
    if isinstance(part, Mapping):
        return {key: _on_cpu(value) for key, value in part.items()}
    if isinstance(part, list | tuple):
        return type(part)(_on_cpu(value) for value in part)
    return part


def digest(content: Any) -> str:
    """Return the SHA-256 of nested content, in 64 hex digits; it changes with any bit of a name, a number or a tensor.

    torch.load doesn't look at the checksums of its archive, so that without this a damaged tensor would go unnoticed.

    Args:
        content: Dicts, lists and tuples of tensors on the CPU, numbers, text, booleans and None.
    """
    sha = hashlib.sha256()
    for piece in _pieces(content):
        sha.update(piece)
    return sha.hexdigest()


def _pieces(part: Any) -> Iterator[Any]:
    """Yield nested content as bytes, such that no two contents give the same."""
    if isinstance(part, Tensor):
        yield f"tensor {part.dtype} {tuple(part.shape)} ".encode()
        yield part.contiguous().reshape(-1).view(torch.uint8).numpy()
    elif isinstance(part, dict):
        yield b"dict %d " % len(part)
        for key, value in part.items():
            yield from _pieces(key)
            yield from _pieces(value)
    elif isinstance(part, list | tuple):
        yield f"{type(part).__name__} {len(part)} ".encode()
        for value in part:
            yield from _pieces(value)
    elif part is None or isinstance(part, bool | int | float | str):
        text = str(part) if isinstance(part, str) else repr(part)
        data = text.encode("utf-8", "surrogatepass")
        yield f"{type(part).__name__} {len(data)} ".encode() + data
    else:
        raise TypeError(
            f"digest: must be tensors and plain values, got {type(part).__name__}. Store it as one of them."
        )


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
        WeightsError: no such file, one that torch.load can't read, or one of dalipipe's that is damaged.
    """
    try:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")  # torch's, on what it makes of damaged bytes
            content = torch.load(path, map_location="cpu", weights_only=True)
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
    if isinstance(content, dict) and str(content.get("format")).startswith("dalipipe-"):
        _unseal(path, content)
    return content


def _unseal(path: Path, content: dict[str, Any]) -> None:
    """Take the digest out, and compare it; files of an older version of dalipipe have none."""
    expected = content.pop("digest", None)
    if expected is not None and expected != digest(content):
        raise WeightsError(
            f"{path}: must hold what was written, got a damaged file (its digest differs). Fetch or save it again."
        )
