"""Files of tensors that hold no code, are written whole or not at all, and say when they are damaged.

A `Checkpoint` is a network with what is needed to use it; `dalipipe.training.resume` keeps whole runs like that.
"""

import hashlib
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass, field, fields
from pathlib import Path
from typing import IO, Any, Final

import torch
from torch import Tensor

from dalipipe.errors import WeightsError, shown
from dalipipe.training.network.unpickling import classes_in, load, tensors_in
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
        WeightsError: no such file, a damaged one, one that isn't a checkpoint of dalipipe, or one whose parts aren't
            what they must be.
    """
    content = read_tensors(path)
    if not is_checkpoint(content):
        kinds = classes_in(content)
        got = f"a pickle of {kinds}, which is not loaded" if kinds else "another file"
        raise WeightsError(f"{path}: must be a checkpoint of dalipipe, got {got}. Give a best.pt or last.pt.")
    return checked_checkpoint(path, content)


def checked_checkpoint(path: Path, content: Mapping[str, Any]) -> Checkpoint:
    """Return the checkpoint that the content of a file of ours is.

    Raises:
        WeightsError: a part of it isn't what it must be.
    """
    for name, (holds, words) in _PARTS.items():
        if not holds(content.get(name)):
            got = shown(content[name]) if name in content else "none"
            raise WeightsError(f"{path}: {name} of the checkpoint must be {words}, got {got}. Fetch or save it again.")
    classes = content["classes"]
    if not any(tensor.ndim and len(tensor) == len(classes) for tensor in content["state_dict"].values()):
        raise WeightsError(
            f"{path}: must hold a row of weights for each of its {len(classes):,} classes, got a network without. "
            "Fetch or save it again."
        )
    known = {each.name: content[each.name] for each in fields(Checkpoint) if each.name in content}
    return Checkpoint(**{**known, "classes": tuple(classes)})


def _is_classes(value: object) -> bool:
    if not isinstance(value, list | tuple) or not value or not all(isinstance(each, str) for each in value):
        return False
    return len(set(value)) == len(value)


def _is_state(value: object) -> bool:
    return isinstance(value, Mapping) and all(
        isinstance(name, str) and isinstance(tensor, Tensor) and _is_plain(tensor) for name, tensor in value.items()
    )


def _is_plain(tensor: Tensor) -> bool:
    """Return whether a tensor has its values in memory, each of its own."""
    if tensor.device.type != "cpu" or tensor.layout is not torch.strided or tensor.is_quantized:
        return False
    return tensor.numel() * tensor.element_size() <= tensor.untyped_storage().nbytes()


def _is_config(value: object) -> bool:
    """Return whether the options that are used again are of their types; a file of an older version has none."""
    if value is None:
        return True
    if not isinstance(value, Mapping) or value.get("head", "linear") not in ("linear", "gap"):
        return False
    return all(isinstance(value.get(name), kinds) for name, kinds in _OPTIONS.items() if value.get(name) is not None)


_OPTIONS: Final[dict[str, Any]] = {
    "head": str,
    "dropout": int | float,
    "data": str,
    "val_fraction": int | float,
    "split_seed": int,
}
_PARTS: Final[dict[str, tuple[Callable[[object], bool], str]]] = {
    "model": (lambda value: isinstance(value, str), "the name of a network"),
    "classes": (_is_classes, "a list of different names"),
    "recipe": (lambda value: isinstance(value, str), "TOML text"),
    "eval_recipe": (lambda value: isinstance(value, str), "TOML text"),
    "state_dict": (_is_state, "a dict of tensors by name"),
    "epoch": (lambda value: isinstance(value, int), "a whole number"),
    "metrics": (lambda value: isinstance(value, Mapping), "a dict of measures"),
    "config": (_is_config, "a dict of options"),
}
"""What a checkpoint must hold."""


def is_checkpoint(content: object) -> bool:
    """Return whether what a file holds was written by `save_checkpoint`."""
    return isinstance(content, dict) and content.get("format") == FORMAT


def read_tensors(path: Path) -> Any:
    """Return what torch.save wrote into the file: tensors and plain values, on the CPU. No code of the file is run.

    Objects of other classes are stand-ins: see `unpickling`.

    Raises:
        WeightsError: no such file, one that torch.load can't read, or one of dalipipe's that is damaged.
    """
    content = load(path)
    if isinstance(content, dict) and str(content.get("format")).startswith("dalipipe-"):
        _unseal(path, content)
    return content


def _unseal(path: Path, content: dict[str, Any]) -> None:
    """Take the digest out, and compare it; files of an older version of dalipipe have none."""
    expected = content.pop("digest", None)
    try:
        plain = all(_is_plain(tensor) for tensor in tensors_in(content).values())
        holds = expected is None or (plain and expected == digest(content))
    except (TypeError, RecursionError):  # objects, or brackets without end
        holds = False
    if not holds:
        raise WeightsError(
            f"{path}: must hold what was written, got a damaged file (its digest differs). Fetch or save it again."
        )
