"""Every option of a training run as one frozen value, checked before torch is imported."""

import math
import tomllib
from collections.abc import Iterable, Mapping
from pathlib import Path
from typing import Any, Final

import tomli_w
from pydantic import BaseModel, ConfigDict, ValidationError, field_validator, model_validator
from pydantic_core import PydanticUndefined

from dalipipe.errors import ConfigError, nearest
from dalipipe.training.intervals import Interval
from dalipipe.training.options import (
    MONITORS,
    DataOptions,
    MachineOptions,
    NetworkOptions,
    OptimizerOptions,
    ValidationOptions,
)
from dalipipe.training.place import beside

DEMO: Final[Mapping[str, Any]] = {"recipe": "demo-train", "weights": "none", "epochs": 8, "batch_size": 8}
"""The defaults that differ where no DATA is given and the demonstration data is used."""

AUTO: Final = "auto"
"""The value of `recipe` for the recipes that the weights were trained with."""

CONFIG: Final = "config.toml"
"""The file in a run's output that holds its configuration."""

ADAMW_LR: Final = 0.0005
"""The default of `lr` for AdamW."""

QUARANTINE: Final[Mapping[str, str]] = {"train": "quarantine.jsonl", "val": "quarantine-val.jsonl"}
"""The files in the output that list the files of each part that can't be used."""

SMALL_IMAGES: Final = 2000
"""A training set of fewer images is small: early stopping is on unless it is turned off."""

SMALL_PATIENCE: Final = 3
"""Epochs without a better one after which a run on a small training set stops."""

GROUPS: Final[Mapping[str, type[BaseModel]]] = {
    "Data": DataOptions,
    "Network": NetworkOptions,
    "Learning": OptimizerOptions,
    "Validation": ValidationOptions,
    "Machine": MachineOptions,
}
"""The options by topic, as the help and the printed configuration have them."""


class TrainConfig(DataOptions, NetworkOptions, OptimizerOptions, ValidationOptions, MachineOptions):
    """What one run of `dalipipe train` does; two runs with equal configurations on one machine do the same.

    The fields are those of the groups in `dalipipe.training.options`. Where `data` is None, the demonstration data is
    used and the defaults in `DEMO` hold; with AdamW `lr` is 0.0005 by default.

    Raises:
        ConfigError: an unknown name or a value out of its range, for the first such option.
    """

    model_config = ConfigDict(frozen=True, extra="forbid", validate_default=True, coerce_numbers_to_str=True)

    def __init__(self, **options: Any) -> None:
        try:
            super().__init__(**options)
        except ValidationError as error:
            raise ConfigError(_first_problem(error)) from error

    @model_validator(mode="before")
    @classmethod
    def _fill_in_defaults(cls, options: dict[str, Any]) -> dict[str, Any]:
        special = dict(DEMO) if options.get("data") is None else {}
        if options.get("weights", "none") != "none" or "img_size" in options:
            special.pop("recipe", None)  # that of the demonstration is for random weights
        if options.get("optimizer") == "adamw":
            special["lr"] = ADAMW_LR
        return {**special, **options}

    @field_validator("data", "output", "recipe", "weights", mode="before")
    @classmethod
    def _check_path(cls, value: Any) -> Any:
        if value == "":
            raise ValueError("must be a path, got ''. Is a variable unset? The current directory is '.'.")
        if not str(value).isprintable() and not _is_unicode(str(value)):
            raise ValueError(f"must be a name in UTF-8, which config.toml can hold, got {str(value)!r}. Rename it.")
        return value

    @field_validator("freeze")
    @classmethod
    def _check_freeze(cls, value: str) -> str:
        if value not in ("none", "backbone") and not (value.isdecimal() and int(value) > 0):
            raise ValueError(f"must be none, backbone or a number of blocks, got {value!r}. The default is none.")
        return value

    @field_validator("max_bad")
    @classmethod
    def _check_max_bad(cls, value: str) -> str:
        try:
            most = _most_bad(value)
        except ValueError:
            most = math.nan
        if isinstance(most, float) and not 0 <= most <= 1:
            raise ValueError(
                f"must be a number of files, a share from 0.0 to 1.0 or any, got {value!r}. Use 0.01, say."
            )
        return value

    @field_validator("monitor")
    @classmethod
    def _check_monitor(cls, value: str) -> str:
        if value not in MONITORS:
            raise ValueError(f"must be a known measure, got {value!r}. {_there_are(value, MONITORS)}")
        return value

    @field_validator("checkpoint_every")
    @classmethod
    def _check_interval(cls, value: str) -> str:
        Interval.parse(value)
        return value

    @model_validator(mode="after")
    def _keep_out_of_the_data(self) -> "TrainConfig":
        if "output" not in self.model_fields_set and self.data is not None:
            self.__dict__["output"] = beside(self.data, self.output)  # which is still none that was given
        return self

    @model_validator(mode="after")
    def _check_together(self) -> "TrainConfig":
        if self.resume and "output" not in self.model_fields_set:
            raise ValueError("--resume: needs --output, got none. Give the directory of the run.")
        if self.img_size is not None and self.recipe != AUTO:
            raise ValueError(
                f"--img-size: is for --recipe auto, got {self.img_size} with {self.recipe}. "
                "Write the size in the recipe, or leave --recipe out."
            )
        if self.unfreeze_at is not None and self.freeze == "none":
            raise ValueError(
                f"--unfreeze-at: needs something frozen, got {self.unfreeze_at} with --freeze none. "
                "Add --freeze backbone."
            )
        if self.max_bad != "any" and self.on_error == "raise":
            raise ValueError(
                f"--max-bad: needs --on-error skip or substitute, got {self.max_bad} with raise. Leave it out."
            )
        if self.balance == "loss" and (self.mixup or self.cutmix):
            raise ValueError(
                "--balance: class weights and mixed labels exclude one another, got loss with --mixup or --cutmix. "
                "Use --balance sampler."
            )
        return self

    def patience_for(self, train_images: int) -> int:
        """Return the patience that holds for so many training images, 0 for none."""
        if self.patience is not None:
            return self.patience
        return SMALL_PATIENCE if train_images < SMALL_IMAGES else 0

    @property
    def most_bad(self) -> int | float | None:
        """`max_bad` as a number of files or, if a float, as a share of them; None for any number."""
        return _most_bad(self.max_bad)

    def plain(self, *, absolute: bool = False) -> dict[str, Any]:
        """Return the options as text, numbers, booleans and None, for JSON; `TrainConfig(**plain)` is equal.

        Args:
            absolute: Whether paths are written such that they mean the same in every directory.
        """
        plain = {name: str(value) if isinstance(value, Path) else value for name, value in self}
        return {name: _absolute(name, value) for name, value in plain.items()} if absolute else plain

    def grouped(self) -> dict[str, dict[str, Any]]:
        """Return `plain` by topic, see `GROUPS`."""
        plain = self.plain()
        return {title: {name: plain[name] for name in group.model_fields} for title, group in GROUPS.items()}

    def to_toml(self) -> str:
        """Return a file that `read_config` reads: every option, those that are None, `output` and `resume` as comments.

        Paths are absolute, so that the file means the same wherever it is used. `output` is left out, since a run
        never writes over another, and `resume`, since it is of one attempt.
        """
        parts = []
        for title, options in self.grouped().items():
            lines = [f"# {title}"]
            for name, value in options.items():
                if name == "output":
                    lines.append(f"# output = {_toml(str(Path(value).absolute()))}  # of this run")
                elif value is None or name == "resume":
                    lines.append(f"# {name}: {shown_default(name)}")
                else:
                    lines.append(f"{name} = {_toml(_absolute(name, value))}")
            parts.append("\n".join(lines))
        return "\n\n".join(parts) + "\n"


def _is_unicode(text: str) -> bool:
    try:
        text.encode("utf-8")
    except UnicodeEncodeError:
        return False
    return True


def _most_bad(text: str) -> int | float | None:
    if text == "any":
        return None
    return int(text) if text.isdecimal() else float(text)


def shown_default(name: str) -> str:
    """Return how people are shown the default of an option."""
    field = TrainConfig.model_fields[name]
    extra = field.json_schema_extra
    shown = str(extra["shown"]) if isinstance(extra, dict) else ""
    return shown or str(field.default).lower()


def _toml(value: Any) -> str:
    return tomli_w.dumps({"x": value}).removeprefix("x = ").rstrip("\n")


def _absolute(name: str, value: Any) -> Any:
    """Return an option's path so that it means the same in every directory, and other values as they are."""
    is_path = (name == "data" and value is not None) or (name in ("recipe", "weights") and Path(value).is_file())
    return str(Path(value).expanduser().absolute()) if is_path else value


def read_config(
    file: Path | None = None, assignments: Iterable[str] = (), given: Mapping[str, Any] | None = None
) -> TrainConfig:
    """Return the configuration: the defaults, over them a TOML file, over that `key=value`s, over those `given`.

    With `resume` and without a file, the file is the config.toml of the run to go on with.

    Raises:
        ConfigError: a file that can't be read, a key that isn't known (the nearest is named), a value out of its range.
    """
    options: dict[str, Any] = {}
    for text in assignments:
        key, equals, value = text.partition("=")
        if not equals:
            raise ConfigError(f"--set: must be KEY=VALUE, got {text!r}. Write --set epochs=3, say.")
        options[_known(key.strip().replace("-", "_"), "--set")] = _parse(value.strip())
    options.update(given or {})
    if file is None and options.get("resume") and options.get("output"):
        of_run = Path(str(options["output"])) / CONFIG
        file = of_run if of_run.is_file() else None
    return TrainConfig(**{**({} if file is None else _read_file(file)), **options})


def _read_file(file: Path) -> dict[str, Any]:
    try:
        content = tomllib.loads(file.read_text(encoding="utf-8"))
    except OSError as error:
        raise ConfigError(f"--config: must be a readable file, got {str(file)!r} ({error.strerror}).") from error
    except ValueError as error:  # TOML's and UTF-8's errors both are
        raise ConfigError(f"--config: must be TOML, got {str(file)!r}: {error}. Correct it there.") from error
    return {_known(key, str(file)): value for key, value in content.items()}


def _parse(text: str) -> Any:
    """Return the value as a TOML file would have it, or the text itself; "none" stays text."""
    try:
        return tomllib.loads(f"x = {text}")["x"]
    except ValueError:
        return text


def _known(key: str, where: str) -> str:
    if key not in TrainConfig.model_fields:
        raise ConfigError(f"{where}: must be a known option, got {key!r}. {_there_are(key, TrainConfig.model_fields)}")
    return key


def _there_are(name: str, known: Iterable[str]) -> str:
    """Return the sentences that help who wrote `name`: the nearest known name, and all there are."""
    return f"{nearest(name, known, cutoff=0.5)}There are: {', '.join(known)}."


_RULES: Final = {
    "greater_than": "must be more than {gt}",
    "greater_than_equal": "must be at least {ge}",
    "less_than": "must be less than {lt}",
    "less_than_equal": "must be at most {le}",
    "finite_number": "must be a finite number",
    "int_type": "must be a whole number",
    "int_parsing": "must be a whole number",
    "int_from_float": "must be a whole number",
    "float_type": "must be a number",
    "float_parsing": "must be a number",
    "bool_type": "must be true or false",
    "bool_parsing": "must be true or false",
    "literal_error": "must be {expected}",
}
_UNQUOTED: Final = ("greater_than", "greater_than_equal", "less_than", "less_than_equal", "finite_number")


def _first_problem(error: ValidationError) -> str:
    """Return one line about the first thing pydantic found, with the option named as on the command line."""
    problem = error.errors()[0]
    context = problem.get("ctx", {})
    if not problem["loc"]:  # options that don't go together
        return str(context.get("error", problem["msg"]))
    name = str(problem["loc"][0])
    if problem["type"] == "extra_forbidden":
        return f"train: must be a known option, got {name!r}. {_there_are(name, TrainConfig.model_fields)}"
    option = "--" + name.replace("_", "-")
    if problem["type"] == "value_error":
        return f"{option}: {context['error']}"
    rule = _RULES.get(problem["type"], problem["msg"])
    rule = rule.format(**{key: f"{value:g}" if isinstance(value, float) else value for key, value in context.items()})
    default = TrainConfig.model_fields[name].default
    advice = "Leave it out for the default" if default in (None, PydanticUndefined) else f"The default is {default}"
    got = problem["input"] if problem["type"] in _UNQUOTED else repr(problem["input"])
    return f"{option}: {rule}, got {got}. {advice}."
