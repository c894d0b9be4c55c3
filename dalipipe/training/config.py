"""Every option of a training run as one frozen value, checked before torch is imported."""

import difflib
import time
from collections.abc import Mapping
from pathlib import Path
from typing import Any, Final

from pydantic import BaseModel, ConfigDict, Field, ValidationError, field_validator, model_validator
from pydantic_core import PydanticUndefined

from dalipipe.errors import ConfigError

MODELS: Final = (
    *("resnet18", "resnet34", "resnet50", "resnet101", "resnet152"),
    *("vgg11", "vgg13", "vgg16", "vgg19"),
    *("vgg11_bn", "vgg13_bn", "vgg16_bn", "vgg19_bn"),
)
"""Names of the networks, as torchvision has them."""

DEMO: Final[Mapping[str, Any]] = {"recipe": "demo-train", "weights": "none", "epochs": 8, "batch_size": 8}
"""The defaults that differ where no DATA is given and the demonstration data is used."""


def _new_output() -> Path:
    return Path("runs", time.strftime("%Y%m%d-%H%M%S"))


class TrainConfig(BaseModel):
    """What one run of `dalipipe train` does; two runs with equal configurations on one machine do the same.

    Attributes:
        data: Folder of images; None for the generated demonstration data, whose other defaults are those in `DEMO`.
        recipe: Name or TOML file of the augmentation; validation uses its evaluation twin.
        model: One of `MODELS`.
        weights: What the network starts from: "none" (random), "default" (torchvision's) or the path of a file.
        epochs: Passes over the training images.
        batch_size: Images per step.
        lr: Learning rate of the first step; it falls to zero along half a cosine.
        momentum: Of SGD, 0 to below 1.
        weight_decay: Of SGD, on every parameter.
        seed: Of the first weights, dropout, the order of the images and their augmentation.
        backend: Loader backend, see `dalipipe.backends`.
        device: Where the network runs: "auto", or what `torch.device` takes.
        output: Directory for metrics and checkpoints.
        threads: Threads that load images; None for one per core.
        val_fraction: Share of each class that validates, where `data` has no folders train and val.
        split_seed: Of that split. It does not follow `seed`, so that runs with different seeds can be compared, and a
            run that starts from the weights of another never validates on what the other has learnt.

    Raises:
        ConfigError: an unknown name or a value out of its range, for the first such option.
    """

    model_config = ConfigDict(frozen=True, extra="forbid", validate_default=True)

    data: Path | None = None
    recipe: str = "imagenet-train"
    model: str = "resnet18"
    weights: str = "default"
    epochs: int = Field(default=10, ge=1)
    batch_size: int = Field(default=32, ge=1)
    lr: float = Field(default=0.005, gt=0, allow_inf_nan=False)
    momentum: float = Field(default=0.9, ge=0, lt=1)
    weight_decay: float = Field(default=1e-4, ge=0, allow_inf_nan=False)
    seed: int = Field(default=0, ge=0, lt=2**63)
    backend: str = "auto"
    device: str = "auto"
    output: Path = Field(default_factory=_new_output)
    threads: int | None = Field(default=None, ge=1)
    val_fraction: float = Field(default=0.2, gt=0, lt=1)
    split_seed: int = Field(default=0, ge=0, lt=2**63)

    def __init__(self, **options: Any) -> None:
        try:
            super().__init__(**options)
        except ValidationError as error:
            raise ConfigError(_first_problem(error)) from error

    @model_validator(mode="before")
    @classmethod
    def _fill_in_demo(cls, options: dict[str, Any]) -> dict[str, Any]:
        return options if options.get("data") is not None else {**DEMO, **options}

    @field_validator("model")
    @classmethod
    def _check_model(cls, name: str) -> str:
        if name not in MODELS:
            raise ValueError(f"must be a known network, got {name!r}. {nearest(name, MODELS)}")
        return name

    def plain(self) -> dict[str, Any]:
        """Return the options as text, numbers and None, for JSON or TOML; `TrainConfig(**plain)` is equal."""
        return {name: str(value) if isinstance(value, Path) else value for name, value in self}


def nearest(name: str, known: tuple[str, ...]) -> str:
    """Return the sentence that helps who wrote `name`: the nearest known name, and all there are."""
    close = difflib.get_close_matches(name, known, n=1, cutoff=0.5)
    hint = f"Did you mean {close[0]!r}? " if close else ""
    return f"{hint}There are: {', '.join(known)}."


_RANGES: Final = {
    "greater_than": "must be more than {gt}",
    "greater_than_equal": "must be at least {ge}",
    "less_than": "must be less than {lt}",
    "less_than_equal": "must be at most {le}",
    "finite_number": "must be a finite number",
}
_KINDS: Final = {
    "int_type": "must be a whole number",
    "int_parsing": "must be a whole number",
    "int_from_float": "must be a whole number",
    "float_type": "must be a number",
    "float_parsing": "must be a number",
}


def _first_problem(error: ValidationError) -> str:
    """Return one line about the first thing pydantic found, with the option named as on the command line."""
    problem = error.errors()[0]
    name = str(problem["loc"][0])
    if problem["type"] == "extra_forbidden":
        return f"train: must be a known option, got {name!r}. {nearest(name, tuple(TrainConfig.model_fields))}"
    option = "--" + name.replace("_", "-")
    context = problem.get("ctx", {})
    if problem["type"] == "value_error":
        return f"{option}: {context['error']}"
    rule = {**_RANGES, **_KINDS}.get(problem["type"], problem["msg"])
    rule = rule.format(**{key: f"{value:g}" if isinstance(value, float) else value for key, value in context.items()})
    default = TrainConfig.model_fields[name].default
    advice = "Leave it out for the default" if default in (None, PydanticUndefined) else f"The default is {default}"
    got = problem["input"] if problem["type"] in _RANGES else repr(problem["input"])
    return f"{option}: {rule}, got {got}. {advice}."
