"""Networks from torchvision: built for a number of classes, and filled with weights."""

import http.client
import sys
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path

import torch
import torchvision
from torch import Tensor, nn

from dalipipe.errors import ConfigError, WeightsError
from dalipipe.training.checkpoint import is_checkpoint, read_tensors
from dalipipe.training.config import MODELS

Shape = tuple[int, int, int]


@dataclass(frozen=True)
class WeightsReport:
    """What a network starts from.

    Attributes:
        origin: "none", or where the weights came from.
        loaded: How many tensors were taken.
        fresh: Names of the tensors that start at random.
    """

    origin: str
    loaded: int
    fresh: tuple[str, ...]


def resolve_device(name: str) -> torch.device:
    """Return the device of that name; "auto" is CUDA where it works, else the CPU.

    Raises:
        ConfigError: no such device here.
    """
    if name == "auto":
        return torch.device("cuda" if torch.cuda.is_available() else "cpu")
    try:
        device = torch.device(name)
        torch.empty(1, device=device)
    except (RuntimeError, AssertionError) as error:  # torch built without CUDA asserts
        usable = "auto, cpu or cuda" if torch.cuda.is_available() else "auto or cpu"
        raise ConfigError(f"--device: must be one that works here, got {name!r}. Use {usable}.") from error
    if device.type == "meta":
        raise ConfigError("--device: must be one that computes, got 'meta'. Use auto.")
    return device


def build_model(name: str, classes: tuple[str, ...], weights: str) -> tuple[nn.Module, WeightsReport]:
    """Return the network with a head for the classes, on the CPU, and a report of the weights it starts from.

    Every tensor is first drawn from torch's global generator, so a fresh head is the same whatever `weights` is.

    Args:
        name: One of `MODELS`.
        classes: Class names.
        weights: "none", "default" or the path of a file: a state dict (bare, or under "model" or "state_dict") or a
            checkpoint of ours. A file's head is taken where its shape fits, unless the file names other classes.

    Raises:
        WeightsError: weights that can't be had, can't be read, or are another network's.
    """
    model = torchvision.models.get_model(name, weights=None, num_classes=len(classes))
    own = model.state_dict()
    if weights == "none":
        return model, WeightsReport("none", 0, tuple(own))
    head = head_of(model)
    if weights == "default":
        state, keep_head = _fetch(name), False
    else:
        state, keep_head = _read(Path(weights), classes)
    _check_backbone(f"--weights {weights}", name, model, state)
    taken = {
        key: tensor
        for key, tensor in state.items()
        if key not in head or (keep_head and tensor.shape == own[key].shape)
    }
    model.load_state_dict(taken, strict=False)
    return model, WeightsReport(weights, len(taken), tuple(key for key in own if key not in taken))


def check_images(name: str, batch_size: int, shape: Shape, *, training: bool) -> None:
    """Do the forward pass of a batch without computing it.

    Args:
        name: One of `MODELS`.
        batch_size: Images in the smallest batch there will be.
        shape: (channels, height, width) of an image.
        training: Whether batch norm is to take its statistics from the batch.

    Raises:
        ConfigError: the images are too small, or too few at once for batch norm.
    """
    with torch.device("meta"):
        model = torchvision.models.get_model(name, weights=None).train(training)
        try:
            model(torch.empty(batch_size, *shape))
        except (RuntimeError, ValueError) as error:
            _, height, width = shape
            raise ConfigError(
                f"{name}: can't take {batch_size} x {height} x {width} px at once: {error}. "
                "Use a recipe with larger images or a larger --batch-size."
            ) from error


def head_of(model: nn.Module) -> tuple[str, str]:
    """Return the names of the tensors that turn features into one number per class: those of the last linear layer."""
    last = [name for name, module in model.named_modules() if isinstance(module, nn.Linear)][-1]
    return f"{last}.weight", f"{last}.bias"


def _fetch(name: str) -> Mapping[str, Tensor]:
    """Return torchvision's weights for the network, downloaded unless they are in torch's cache."""
    entry = torchvision.models.get_model_weights(name).DEFAULT
    ways_out = "Use --weights none to start at random, or --weights FILE with a state dict that you have."
    try:
        state: Mapping[str, Tensor] = entry.get_state_dict(
            progress=sys.stderr.isatty(), check_hash=True, weights_only=True
        )
    except (OSError, http.client.HTTPException) as error:
        reason = getattr(error, "reason", None) or error  # what URLError, an OSError, wraps
        raise WeightsError(f"--weights default: {entry.url} must be reachable, got: {reason}. {ways_out}") from error
    except Exception as error:  # the hash differs, or torch.load can't read what is in the cache
        cached = Path(torch.hub.get_dir(), "checkpoints", Path(entry.url).name)
        raise WeightsError(
            f"--weights default: {cached} must be what {entry.url} holds, got a damaged file. Delete it. {ways_out}"
        ) from error
    return state


def _read(path: Path, classes: tuple[str, ...]) -> tuple[Mapping[str, Tensor], bool]:
    """Return the state dict in the file, and whether its head may be used for the classes."""
    content = read_tensors(path)
    wrapped = [content[key] for key in ("state_dict", "model") if isinstance(content, dict) and key in content]
    state = next((value for value in wrapped if isinstance(value, Mapping)), content)
    if not isinstance(state, Mapping) or not all(isinstance(value, Tensor) for value in state.values()):
        raise WeightsError(f"{path}: must hold a state dict, got something else. Save model.state_dict() there.")
    return state, not is_checkpoint(content) or tuple(content["classes"]) == classes


def _check_backbone(where: str, name: str, model: nn.Module, state: Mapping[str, Tensor]) -> None:
    """Refuse weights that don't fill the whole network but its head, and name the network that they are of."""
    wanted, found = (_backbone(each, head_of(model)) for each in (model.state_dict(), state))
    if wanted == found:
        return
    for other in MODELS:
        with torch.device("meta"):
            candidate = torchvision.models.get_model(other, weights=None)
        if _backbone(candidate.state_dict(), head_of(candidate)) == _backbone(state, head_of(candidate)):
            raise WeightsError(f"{where}: must be weights of {name}, got those of {other}. Use --model {other}.")
    matching = len(wanted.items() & found.items())
    raise WeightsError(
        f"{where}: must be weights of {name}, got a file in which {matching} of its {len(wanted)} tensors match. "
        "Use the --model that the file was saved from."
    )


def _backbone(state: Mapping[str, Tensor], head: tuple[str, str]) -> dict[str, torch.Size]:
    """Return the shapes of the tensors that a file must hold: no head, no batch norm counters (old files lack them)."""
    return {
        key: tensor.shape
        for key, tensor in state.items()
        if key not in head and not key.endswith("num_batches_tracked")
    }
