"""Networks: torchvision's and timm's, built for a number of classes, and held against the images they will see."""

import difflib
import functools
import importlib
from collections import OrderedDict
from collections.abc import Mapping
from typing import Any, Final

import torch
import torchvision
from torch import Tensor, nn

from dalipipe.errors import ConfigError, nearest

Shape = tuple[int, int, int]

TIMM: Final = "timm/"
"""What the name of one of timm's networks begins with."""

# Those with further outputs, for their losses in training alone, are built without. The rest is what torchvision builds
# them with where it loads its weights: they change the range of their input themselves, or are made for another size.
_ARGUMENTS: Final[dict[str, dict[str, Any]]] = {
    "googlenet": {"aux_logits": False, "init_weights": True, "transform_input": True},
    "inception_v3": {"aux_logits": False, "init_weights": True, "transform_input": True},
    "vit_h_14": {"image_size": 518},
}


@functools.cache
def torchvision_models() -> tuple[str, ...]:
    """Return the names of torchvision's classification networks."""
    return tuple(torchvision.models.list_models(module=torchvision.models))


def require_timm() -> Any:
    """Return the module timm.

    Raises:
        ConfigError: it isn't installed.
    """
    try:
        return importlib.import_module("timm")
    except ImportError as error:
        raise ConfigError(
            "--model timm/NAME: needs timm, got an environment without. Install it with: pip install 'dalipipe[timm]'"
        ) from error


def check_model_name(name: str) -> None:
    """Refuse a name that is no network's.

    Raises:
        ConfigError: it is not; the nearest names are given.
    """
    if name.startswith(TIMM):
        known = tuple(TIMM + each for each in require_timm().list_models())
        plain = (name.partition(".")[0],)  # timm/resnet18.a1_in1k: a network with the name of its weights
    else:
        known, plain = torchvision_models(), (name,)
    if plain[0] in known:
        _check_tag(name)
        return
    close = difflib.get_close_matches(name, known, n=4, cutoff=0.4)
    hint = nearest(name, known, cutoff=0.4)
    near = ", ".join(close[1:] or known[:6])
    raise ConfigError(
        f"--model: must be a known network, got {name!r}. {hint}There are {len(known)}, among them {near}."
    )


def _check_tag(name: str) -> None:
    """Refuse weights that a network of timm's doesn't have: what stands behind the dot of timm/resnet18.a1_in1k."""
    architecture, dot, tag = name.removeprefix(TIMM).partition(".")
    if not name.startswith(TIMM) or not dot:
        return
    known = [each.partition(".")[2] for each in require_timm().list_pretrained(f"{architecture}.*")]
    if tag not in known:
        advice = f"{nearest(tag, known, cutoff=0.4)}There are: {', '.join(known)}." if known else "Leave them out."
        raise ConfigError(f"--model: must name weights of {TIMM}{architecture}, got {tag!r} behind the dot. {advice}")


def create_model(name: str, classes: int, head: str = "linear", dropout: float = 0.5) -> nn.Module:
    """Return a network with a head for the classes, on the CPU, drawn from torch's global generator.

    Args:
        name: One of torchvision's, or "timm/" and one of timm's.
        classes: How many it tells apart.
        head: "linear", its own with a last layer of that size; or "gap", global average pooling, dropout and one dense
            layer in place of everything behind the convolutions.
        dropout: Of "gap".

    Raises:
        ConfigError: no such network, or one that "gap" doesn't fit.
    """
    check_model_name(name)
    if name.startswith(TIMM):
        if head == "gap":
            raise ConfigError(f"--head gap: is for torchvision's networks, got {name}. Use --head linear.")
        model: nn.Module = require_timm().create_model(name.removeprefix(TIMM), pretrained=False, num_classes=classes)
        return model
    model = torchvision.models.get_model(name, weights=None, num_classes=classes, **_ARGUMENTS.get(name, {}))
    if head == "gap":
        _pool(model, name, classes, dropout)
    return model


def _pool(model: Any, name: str, classes: int, dropout: float) -> None:
    """Put global average pooling and one dense layer in the place of the classifier."""
    (last,) = head_names(model)
    layer = model.get_submodule(last)
    if not isinstance(layer, nn.Linear):
        raise ConfigError(f"--head gap: needs a dense last layer, got {name}, which pools already. Use --head linear.")
    pooling = getattr(model, "avgpool", None)
    if isinstance(pooling, nn.AdaptiveAvgPool2d) and pooling.output_size not in (1, (1, 1)):  # VGG, AlexNet
        convolutions = [module for module in model.features.modules() if isinstance(module, nn.Conv2d)]
        model.avgpool = nn.AdaptiveAvgPool2d(1)
        model.classifier = nn.Sequential(nn.Dropout(dropout), nn.Linear(convolutions[-1].out_channels, classes))
        return
    where, _, attribute = last.rpartition(".")
    dense = nn.Sequential(nn.Dropout(dropout), nn.Linear(layer.in_features, classes))
    setattr(model.get_submodule(where), attribute, dense)


def head_names(model: nn.Module) -> tuple[str, ...]:
    """Return the names of the modules that turn features into one number per class: of nearly all, the last layer.

    timm's distilled networks have two, whose mean is what they say in training and evaluation.

    Raises:
        ConfigError: there is none that learns.
    """
    find = getattr(model, "get_classifier", None)  # timm's
    if find is None:
        dense = [str(name) for name, module in model.named_modules() if isinstance(module, nn.Linear | nn.Conv2d)]
        return (dense[-1],)
    found = find()
    classifiers = list(found) if isinstance(found, tuple | list) else [found]
    names = {
        id(module): str(name) for name, module in model.named_modules() if next(module.parameters(), None) is not None
    }
    if not classifiers or not all(id(classifier) in names for classifier in classifiers):
        raise ConfigError(
            f"--model: must have a last layer that learns, got a {type(model).__name__} without one that timm names. "
            "Choose another network."
        )
    return tuple(names[id(classifier)] for classifier in classifiers)


def fill(model: nn.Module, state: Mapping[str, Tensor], *, strict: bool = True) -> None:
    """Load tensors into a network, as `load_state_dict` does, which for some networks wants more than tensors.

    Layers with a history, such as all of MNASNet, ask what version of them the tensors are of; files don't keep that.
    Theirs is taken to be this one.

    Raises:
        RuntimeError: the tensors are of other shapes or, where it is strict, of other names.
    """
    versioned = OrderedDict(state)
    versioned._metadata = getattr(model.state_dict(), "_metadata", None)  # type: ignore[attr-defined]
    model.load_state_dict(versioned, strict=strict)


def check_images(
    name: str, model: nn.Module, batch_size: int, shape: Shape, *, training: bool, classes: int | None = None
) -> None:
    """Do the forward pass of a batch without computing it.

    Args:
        name: Of the network.
        model: The network, which stays as it is.
        batch_size: Images in the smallest batch there will be.
        shape: (channels, height, width) of an image.
        training: Whether batch norm is to take its statistics from the batch.
        classes: How many numbers the network must give for an image; None for any.

    Raises:
        ConfigError: the images are too small or of a size that it isn't made for, or too few at once for batch norm;
            or it doesn't give a number for each class.
    """
    tensors = {**dict(model.named_parameters()), **dict(model.named_buffers())}
    shadows = {key: torch.empty_like(tensor, device="meta") for key, tensor in tensors.items()}
    was_training = model.training
    model.train(training)
    try:
        with torch.device("meta"), torch.no_grad():
            made = torch.func.functional_call(model, shadows, (torch.empty(batch_size, *shape),))
    except (RuntimeError, ValueError, AssertionError) as error:
        channels, height, width = shape
        reason = str(error).strip().rstrip(".").splitlines()[0] if str(error).strip() else type(error).__name__
        advice = "Use a recipe with images of another size, or a larger --batch-size"
        first = next((layer for layer in model.modules() if isinstance(layer, nn.Conv2d)), None)
        if first is not None and first.in_channels != channels:
            reason = f"it takes {first.in_channels} channels, and the recipe makes {channels}"
            advice = "Give Grayscale num_output_channels = 3, which is as grey"
        raise ConfigError(
            f"{name}: can't take {batch_size} x {height} x {width} px at once: {reason}. {advice}."
        ) from error
    finally:
        model.train(was_training)
    got = tuple(made.shape) if isinstance(made, Tensor) else type(made).__name__
    if classes is not None and got != (batch_size, classes):
        raise ConfigError(
            f"--model: must give a number for each of the {classes} classes, ({batch_size}, {classes}) for a batch, "
            f"got {got} from {name}. Choose another network."
        )


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
