"""What torch.save wrote, read back without running any code of the file, and without taking more memory than it has.

Files of other trainers hold objects beside their tensors: options, paths, numbers of NumPy's, whole classes. A
`StandIn` takes the place of each.
"""

from __future__ import annotations

import re
import warnings
import zipfile
from collections import OrderedDict
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any, Final

import torch
from torch import Tensor

from dalipipe.errors import WeightsError, listed
from dalipipe.sources.reading import is_ordinary

_MOST_NAMES: Final = 1000  # of classes that a file may name
_DEEPEST: Final = 16
_OURS: Final = b"dalipipe-checkpoint-"  # which stands at the beginning of such a file's pickle
_HEAD: Final = 1024
_MOST_OF_OURS: Final = 4_000_000  # bytes of that pickle: those of a network of a thousand tensors take 0.2 MB
_SAVE_AGAIN: Final = "Save it anew with torch.save(model.state_dict(), FILE)"


class StandIn:
    """An object of a class that is not loaded. Nothing of it is run, and nothing of it is kept but its name."""

    name = ""

    def __init__(self, *_arguments: Any, **_options: Any) -> None:
        """Take any arguments."""

    def __new__(cls, *_arguments: Any, **_options: Any) -> Any:
        """Take any arguments."""
        return super().__new__(cls)

    def __setstate__(self, state: Any) -> None:
        """Take any state."""


class _Mapping(StandIn):
    """What stands for a class that is filled as a dict is: torch's unpickler fills its own only."""

    def __new__(cls, *_arguments: Any, **_options: Any) -> Any:
        return OrderedDict()


class _Sequence(StandIn):
    """What stands for a class that is filled as a list is."""

    def __new__(cls, *_arguments: Any, **_options: Any) -> Any:
        return []


def load(path: Path) -> Any:
    """Return what torch.save wrote into a file, on the CPU: tensors, plain values, and stand-ins for all else.

    Raises:
        WeightsError: no such file, one that torch.save didn't write, one that would unpack to more than it is, or one
            that names what no file of tensors needs.
    """
    try:
        require_ordinary(path)
        _check_sizes(path)
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")  # torch's, on what it makes of damaged bytes
            return _load(path)
    except WeightsError:
        raise
    except MemoryError as error:
        raise WeightsError(f"{path}: must fit into memory, got a file that doesn't. Free some memory.") from error
    except OSError as error:
        raise WeightsError(f"{path}: must be a readable file, got: {error.strerror}. Check the path.") from error
    except Exception as error:  # whatever the unpickler trips over in bytes that torch.save did not write
        raise _explained(path, error) from error


def require_ordinary(path: Path) -> None:
    """Refuse what would be waited for, or has no end.

    Raises:
        WeightsError: a pipe, a socket or a device.
        OSError: the path can't be looked at.
    """
    if not is_ordinary(path) and not path.is_dir():
        raise WeightsError(f"{path}: must be an ordinary file, got a pipe, a socket or a device. Give a file.")


def _load(path: Path) -> Any:
    bases: dict[str, type[StandIn]] = {}
    if zipfile.is_zipfile(path):
        bases.update(dict.fromkeys(torch.serialization.get_unsafe_globals_in_checkpoint(path), StandIn))
    while len(bases) < _MOST_NAMES:
        stand_ins = [(type(f"<{name}>", (base,), {"name": name}), name) for name, base in sorted(bases.items())]
        try:
            with torch.serialization.safe_globals(stand_ins):  # type: ignore[arg-type]
                return torch.load(path, map_location="cpu", weights_only=True)
        except Exception as error:  # torch's UnpicklingError, which names what it doesn't take
            found = _wanted(str(error))
            if found is None or bases.get(found[0]) is found[1]:
                raise
            bases[found[0]] = found[1]
    raise WeightsError(f"{path}: must hold tensors, got a pickle of more than {_MOST_NAMES} classes. {_SAVE_AGAIN}.")


def _wanted(text: str) -> tuple[str, type[StandIn]] | None:
    """Return what is to stand for which class, so that torch's unpickler gets past what it says; None for nothing."""
    for pattern, base in (
        (r"Unsupported global: GLOBAL (\S+)", StandIn),
        (r"Can only SETITEMS? .*<class '\S*<(\S+)>'>", _Mapping),
        (r"Can only append .*<class '\S*<(\S+)>'>", _Sequence),
    ):
        found = re.search(pattern, text, re.S)
        if found is not None:
            name = found.group(1)
            return (name if "." in name else f"builtins.{name}"), base
    return None


def _check_sizes(path: Path) -> None:
    """Refuse an archive that would unpack to more than it is: torch.save stores, it doesn't compress."""
    if not zipfile.is_zipfile(path):
        with path.open("rb") as file:
            head = file.read(_HEAD)
        if _OURS in head:  # a pickle without an archive, which dalipipe doesn't write, or a part of one
            raise WeightsError(f"{path}: must be a whole archive, got a damaged or different file. Fetch it again.")
        return
    with zipfile.ZipFile(path) as archive:
        parts = archive.infolist()
        _check_pickle(path, archive, [part for part in parts if part.filename.endswith("data.pkl")])
    size = path.stat().st_size
    packed = any(part.compress_type != zipfile.ZIP_STORED for part in parts)
    if packed or sum(part.file_size for part in parts) > size:
        unpacked = sum(part.file_size for part in parts)
        raise WeightsError(
            f"{path}: must be stored as torch.save does it, got compressed parts, {size:,} bytes for {unpacked:,}. "
            "It is not unpacked. Save it again with torch.save."
        )


def _check_pickle(path: Path, archive: zipfile.ZipFile, pickles: list[zipfile.ZipInfo]) -> None:
    """Refuse a checkpoint of ours with far more names than any network has: reading millions takes minutes."""
    for part in pickles:
        if part.compress_type != zipfile.ZIP_STORED or part.file_size <= _MOST_OF_OURS:
            continue
        with archive.open(part) as file:
            if _OURS in file.read(_HEAD):
                raise WeightsError(
                    f"{path}: must hold a network, got a checkpoint with {part.file_size / 1e6:.0f} MB of names and "
                    "numbers beside its tensors, as millions of classes would need. Fetch or save it again."
                )


def _explained(path: Path, error: Exception) -> WeightsError:
    text = str(error)
    blocked = re.search(r"unsupported GLOBAL (\S+)", text)
    if blocked is not None or "Trying to call reduce" in text:
        calls = blocked.group(1) if blocked is not None else "what it has made"
        return WeightsError(
            f"{path}: must hold tensors, got a pickle that calls {calls}: it would run code, and none of it was run. "
            "Don't use this file."
        )
    if "torchscript" in text.lower() or "TorchScript" in text:
        return WeightsError(f"{path}: must hold a state dict, got a TorchScript archive. {_SAVE_AGAIN}.")
    if _is_pickle(path):
        return WeightsError(
            f"{path}: must be a file that torch.save wrote, got a pickle of something else, or a damaged one. "
            f"{_SAVE_AGAIN}."
        )
    return WeightsError(
        f"{path}: must be a file that torch.save wrote, got a damaged or different one. Fetch or save it again."
    )


def _is_pickle(path: Path) -> bool:
    with path.open("rb") as file:
        head = file.read(2)
    return len(head) == 2 and head[0] == 0x80 and 2 <= head[1] <= 5


def tensors_in(content: Any) -> dict[tuple[str, ...], Tensor]:
    """Return the tensors of nested content that have values, by the keys that lead to them."""
    return dict(_tensors(content, (), _DEEPEST))


def _tensors(part: Any, path: tuple[str, ...], deeper: int) -> Iterator[tuple[tuple[str, ...], Tensor]]:
    if isinstance(part, Tensor):
        if part.device.type == "cpu" and part.layout is torch.strided and not part.is_quantized:
            yield path, part.detach()
        return
    if deeper == 0 or not isinstance(part, Mapping | list | tuple):
        return
    items = part.items() if isinstance(part, Mapping) else enumerate(part)
    for key, value in items:
        if isinstance(value, Tensor | Mapping | list | tuple):
            yield from _tensors(value, (*path, str(key)), deeper - 1)


def classes_in(content: Any) -> str:
    """Return the names of the classes whose objects stand at the top of content, in words; empty where none does."""
    tops = content.values() if isinstance(content, Mapping) else (content,)
    names = sorted({part.name for part in tops if isinstance(part, StandIn)})
    return listed(names)
