"""What a network starts from: weights of torchvision, of timm or of a file, held against the network."""

import functools
import http.client
import sys
import warnings
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Final

import torch
import torchvision
from torch import Tensor, nn

from dalipipe.errors import WeightsError
from dalipipe.training.network.checkpoint import checked_checkpoint, is_checkpoint, read_tensors
from dalipipe.training.network.fitting import Shapes, fit
from dalipipe.training.network.models import TIMM, create_model, fill, head_names, require_timm, torchvision_models
from dalipipe.training.network.unpickling import classes_in, require_ordinary, tensors_in

_WAYS_OUT: Final = "Use --weights none to start at random, or --weights FILE with a state dict that you have."


@dataclass(frozen=True)
class WeightsReport:
    """What a network starts from.

    Attributes:
        origin: "none", or where the weights came from.
        loaded: How many tensors were taken.
        fresh: Names of the network's tensors that start at random.
        skipped: Names of the file's tensors that the network has no place for.
        prefix: What stands before the names of the network in the file.
    """

    origin: str
    loaded: int
    fresh: tuple[str, ...]
    skipped: tuple[str, ...] = ()
    prefix: str = ""


@dataclass(frozen=True)
class _Found:
    """What a file, or a download, holds: its tensors, and of a checkpoint of ours its network and classes."""

    state: Mapping[str, Tensor]
    model: str | None = None
    classes: tuple[str, ...] | None = None
    prefix: str = ""


def load_weights(model: nn.Module, name: str, classes: tuple[str, ...], weights: str) -> WeightsReport:
    """Fill a network with weights, all but a head of another shape or for other classes, which begins as torch's do.

    Args:
        model: As `create_model` gives it.
        name: Of the network.
        classes: Class names.
        weights: "none", "default" (torchvision's or timm's, never with their head) or the path of a file: what
            torch.save wrote for any trainer, a checkpoint of ours, or safetensors. Which of its tensors are the
            network's, and what stands before their names, is found out by what fits: see `fitting`. A head is taken
            where its shape fits, unless the file names other classes.

    Raises:
        WeightsError: weights that can't be had, can't be read, are another network's or two networks', or fill less
            than half of the tensors of the network, the head not counted.
    """
    own = model.state_dict()
    if weights == "none":
        return WeightsReport("none", 0, tuple(own))
    wanted = {key: tensor.shape for key, tensor in own.items()}
    found = _fetch(name) if weights == "default" else _read(Path(weights), wanted)
    keep_head = weights != "default" and found.classes in (None, classes)
    heads = head_names(model)
    _check_backbone(f"--weights {weights}", name, (_backbone(own, heads), _backbone(found.state, heads)), found.model)
    taken = {
        key: tensor
        for key, tensor in found.state.items()
        if key in own and tensor.shape == own[key].shape and (keep_head or not _within(key, heads))
    }
    fresh = tuple(key for key in own if key not in taken)
    for head in heads:
        if any(_within(key, (head,)) for key in fresh):
            renew_head(model.get_submodule(head))
    fill(model, taken, strict=False)
    return WeightsReport(
        weights, len(taken), fresh, tuple(key for key in found.state if key not in taken), found.prefix
    )


def renew_head(head: nn.Module) -> None:
    """Draw a head as torch draws its layers, from torch's global generator.

    Libraries draw theirs for training from scratch, some of them 25 times as wide: on features that are trained already
    the loss then begins so high that fine-tuning spoils them.
    """
    for module in head.modules():
        reset = getattr(module, "reset_parameters", None)
        if reset is not None:
            reset()


def _within(key: str, modules: tuple[str, ...]) -> bool:
    return key.startswith(tuple(f"{module}." for module in modules))


def _fetch(name: str) -> _Found:
    """Return torchvision's or timm's weights for the network, downloaded unless they are in the cache."""
    if name.startswith(TIMM):
        return _fetch_timm(name.removeprefix(TIMM))
    entry = torchvision.models.get_model_weights(name).DEFAULT
    try:
        return _Found(entry.get_state_dict(progress=sys.stderr.isatty(), check_hash=True, weights_only=True))
    except (OSError, http.client.HTTPException) as error:
        reason = getattr(error, "reason", None) or error  # what URLError, an OSError, wraps
        raise WeightsError(f"--weights default: {entry.url} must be reachable, got: {reason}. {_WAYS_OUT}") from error
    except Exception as error:  # the hash differs, or torch.load can't read what is in the cache
        cached = Path(torch.hub.get_dir(), "checkpoints", Path(entry.url).name)
        raise WeightsError(
            f"--weights default: {cached} must be what {entry.url} holds, got a damaged file. Delete it. {_WAYS_OUT}"
        ) from error


def _fetch_timm(name: str) -> _Found:
    timm = require_timm()
    try:
        return _Found(timm.create_model(name, pretrained=True).state_dict())
    except Exception as error:  # what the hub's client raises without a network differs from version to version
        reason = str(error).strip().splitlines()[0] if str(error).strip() else type(error).__name__
        raise WeightsError(f"--weights default: timm's {name} must be reachable, got: {reason}. {_WAYS_OUT}") from error


def _read(path: Path, wanted: Shapes) -> _Found:
    """Return what the file holds, by the names that the network has."""
    where = f"--weights {path}"
    if path.suffix == ".safetensors":
        require_ordinary(path)
        state, prefix = fit(where, {(name,): tensor for name, tensor in _read_safetensors(path).items()}, wanted)
        return _Found(state, prefix=prefix)
    content = read_tensors(path)
    if is_checkpoint(content):
        checkpoint = checked_checkpoint(path, content)
        return _Found(checkpoint.state_dict, checkpoint.model, checkpoint.classes)
    tensors = {keys: tensor for keys, tensor in tensors_in(content).items() if keys}
    if not tensors:
        kinds = classes_in(content)
        got = f"a pickle of {kinds}, Python objects that are not loaded" if kinds else "something else"
        raise WeightsError(f"{path}: must hold a state dict, got {got}. Save model.state_dict() there.")
    state, prefix = fit(where, tensors, wanted)
    return _Found(state, prefix=prefix)


def _read_safetensors(path: Path) -> dict[str, Tensor]:
    from safetensors import SafetensorError
    from safetensors.torch import load

    try:
        return load(path.read_bytes())
    except OSError as error:
        raise WeightsError(f"{path}: must be a readable file, got: {error.strerror}. Check the path.") from error
    except SafetensorError as error:
        raise WeightsError(
            f"{path}: must be a safetensors file, got a damaged or different one. Fetch or save it again."
        ) from error


def _check_backbone(where: str, name: str, shapes: tuple[Shapes, Shapes], told: str | None) -> None:
    """Refuse weights of another network, naming it where that can be told, and those of which too little fits.

    Args:
        where: Begins the message.
        name: Of the network.
        shapes: Of the tensors that are wanted, and of those found.
        told: The network that the file itself names.
    """
    wanted, found = shapes
    if wanted == found:
        return
    other = told or _identify(name, found)
    if other not in (None, name):
        raise WeightsError(f"{where}: must be weights of {name}, got those of {other}. Use --model {other}.")
    matching = len(wanted.items() & found.items())
    if 2 * matching < len(wanted):
        raise WeightsError(
            f"{where}: must be weights of {name}, got a file in which {matching} of its {len(wanted)} tensors match. "
            "Use the --model that the file was saved from."
        )


def _identify(name: str, found: Shapes) -> str | None:
    """Return the network of torchvision whose backbone these tensors are, first of all the one of that name."""
    for other in sorted(torchvision_models(), key=lambda each: each != name):
        heads, shapes = _known_backbone(other)
        if shapes == {key: shape for key, shape in found.items() if not _within(key, heads)}:
            return other
    return None


@functools.cache
def _known_backbone(name: str) -> tuple[tuple[str, ...], Shapes | None]:
    """Return the names of the heads of one of torchvision's networks, and what its backbone holds."""
    try:
        with torch.device("meta"), warnings.catch_warnings():
            warnings.simplefilter("ignore")  # torchvision's, on how some of its networks begin
            model = create_model(name, 2)
    except NotImplementedError:  # the RegNets compute their own widths in tensors, which have no values here
        return (), None
    heads = head_names(model)
    return heads, _backbone(model.state_dict(), heads)


def _backbone(state: Mapping[str, Tensor], heads: tuple[str, ...]) -> Shapes:
    """Return the shapes of the tensors that a file must hold: no head, no batch norm counters (old files lack them)."""
    return {
        key: tensor.shape
        for key, tensor in state.items()
        if not _within(key, heads) and not key.endswith("num_batches_tracked")
    }
