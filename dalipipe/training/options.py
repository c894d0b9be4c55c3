"""The options of a training run, in groups; `config.TrainConfig` puts them together.

An option is a field: its name is the key in a file and, with dashes, the option on the command line, its description
the help, its limits the check. Nothing else needs to be written to add one.
"""

from pathlib import Path
from typing import Any, Final, Literal

from pydantic import BaseModel, Field, JsonValue

from dalipipe.training.place import new_output

MONITORS: Final = {
    "val_loss": "min",
    "val_acc": "max",
    "val_top5": "max",
    "val_macro_f1": "max",
    "val_calibration_error": "min",
    "train_loss": "min",
    "train_acc": "max",
}
"""The measures of an epoch that can decide which one is best, and which way is better."""


def option(default: Any, text: str, metavar: str = "", shown: str = "", **limits: Any) -> Any:
    """Return a field.

    Args:
        default: Its value where nobody gives one.
        text: What it does, in a line or two, for the help.
        metavar: What its value looks like in the help.
        shown: How the help shows the default, where that isn't the value itself.
        limits: What pydantic checks: ge, gt, le, lt.
    """
    extra: dict[str, JsonValue] = {"metavar": metavar, "shown": shown}
    if callable(default):
        return Field(default_factory=default, description=text, json_schema_extra=extra, **limits)
    return Field(default=default, description=text, json_schema_extra=extra, **limits)


class DataOptions(BaseModel):
    """What the network sees."""

    data: Path | None = option(None, "Folder of images; None for the generated demonstration pictures.", "DATA")
    recipe: str = option(
        "auto", "Augmentation: a name, a TOML file, or what the weights were trained with (auto).", "auto|RECIPE"
    )
    img_size: int | None = option(
        None, "Side of the images of --recipe auto in px, for networks that take several.", "PX",
        "that of the weights", ge=1, le=65535,
    )  # fmt: skip
    batch_size: int = option(32, "Images per batch; with torchrun, of all processes together.", "N", ge=1)
    on_error: Literal["raise", "skip", "substitute"] = option(
        "raise", "A file that can't be used: end the run, leave it out, or take another of its class instead."
    )
    max_bad: str = option(
        "any", "Most files that may be so with skip and substitute: a number, or a share such as 0.01.", "N|X"
    )
    val_fraction: float = option(
        0.2, "Share of each class to validate on, where DATA has no val.", "X", gt=0, lt=1, allow_inf_nan=False
    )
    # It does not follow `seed`, so that runs with different seeds can be compared, and a run that starts from the
    # weights of another never validates on what the other has learnt.
    split_seed: int = option(0, "Seed of that split, and of the folds.", "N", ge=0, lt=2**63)
    folds: int | None = option(None, "Train K times, each time validating on another K-th of DATA.", "K", "off", ge=2)
    check_split: bool = option(True, "Refuse a file that is, by content, in both training and validation data.")
    balance: Literal["none", "sampler", "loss"] = option(
        "none", "Against unequal classes: draw rare ones more often (sampler), or let them weigh more (loss)."
    )
    mixup: float = option(
        0.0, "MixUp of images and labels: alpha of its Beta distribution, 0.2 say.", "ALPHA", "off", ge=0, le=100
    )
    cutmix: float = option(
        0.0, "CutMix likewise, 1.0 say; with both each batch has one of them.", "ALPHA", "off", ge=0, le=100
    )


class NetworkOptions(BaseModel):
    """What is trained, from what start."""

    model: str = option(
        "resnet18", "Any of torchvision's: resnet50, vgg16_bn, efficientnet_b0, ...; or timm/NAME.", "NAME"
    )
    weights: str = option(
        "default", "Start at random (none), from torchvision's or timm's (default) or a file's.", "none|default|FILE"
    )
    head: Literal["linear", "gap"] = option(
        "linear", "Last layer: a new one (linear), or global average pooling and one dense layer (gap)."
    )
    dropout: float = option(0.5, "Before the dense layer of --head gap.", "P", ge=0, lt=1)
    freeze: str = option(
        "none", "Leave the backbone, or the first N of its blocks, as they are.", "none|backbone|N", pattern="^.+$"
    )
    unfreeze_at: int | None = option(None, "Epoch from which on the frozen are trained too.", "EPOCH", "never", ge=2)
    unfreeze: Literal["all", "gradual"] = option(
        "all", "At --unfreeze-at: all at once, or one block more with each epoch, the last first."
    )


class OptimizerOptions(BaseModel):
    """How it learns."""

    epochs: int = option(10, "Passes over the training images.", "N", ge=1)
    optimizer: Literal["sgd", "adamw"] = option("sgd", "The optimizer.")
    lr: float = option(0.005, "Learning rate after the warm-up.", "X", gt=0, allow_inf_nan=False)
    backbone_lr_factor: float = option(
        1.0, "Of the learning rate, for all but the head: 0.1 fine-tunes gently.", "X", gt=0, allow_inf_nan=False
    )
    layer_decay: float = option(1.0, "The same from block to block, from the head down: 0.8 say.", "X", gt=0, le=1)
    momentum: float = option(0.9, "Of SGD; beta 1 of AdamW.", "X", ge=0, lt=1)
    nesterov: bool = option(True, "Nesterov's momentum in SGD.")
    weight_decay: float = option(1e-4, "On weights; not on biases and norms.", "X", ge=0, allow_inf_nan=False)
    schedule: Literal["cosine", "step", "constant"] = option("cosine", "How the learning rate falls.")
    step_epochs: int = option(30, "Of --schedule step: epochs from fall to fall.", "N", ge=1)
    step_factor: float = option(0.1, "Of --schedule step: what is left at each fall.", "X", gt=0, le=1)
    warmup_epochs: float = option(
        0.0, "Epochs in which the learning rate rises to --lr.", "X", ge=0, allow_inf_nan=False
    )
    label_smoothing: float = option(0.0, "Share of each label that is spread over all classes.", "X", ge=0, lt=1)
    accumulate: int = option(1, "Batches whose gradients make one step.", "N", ge=1)
    clip_norm: float | None = option(None, "Most norm of the gradients.", "X", "off", gt=0, allow_inf_nan=False)
    ema: float = option(
        0.0, "Decay of a moving average of the weights, 0.99 say, which is then validated and saved.", "X", "off", ge=0,
        lt=1,
    )  # fmt: skip


class ValidationOptions(BaseModel):
    """Which epoch is best, and when to stop."""

    monitor: str = option("val_loss", f"Measure that decides which epoch is best: {', '.join(MONITORS)}.", "MEASURE")
    patience: int | None = option(
        None, "Epochs without a better one after which to stop; 0 for never.", "N",
        "3 with fewer than 2000 training images, else 0", ge=0,
    )  # fmt: skip
    min_delta: float = option(0.0, "By how much an epoch must be better to count for that.", "X", ge=0)
    tta: bool = option(False, "Validate on the mean over each image and its mirror image.")


class MachineOptions(BaseModel):
    """Where it runs, and where the results go."""

    output: Path = option(new_output, "Directory for checkpoints and metrics.", "DIR", "runs/DATE-TIME")
    report: bool = option(True, "Draw pictures of the run, and report.html with all of them.")
    checkpoint_every: str = option(
        "10min", "How often to save the run within an epoch: after N batches, or 90s, 10min, 1h.", "N|TIME"
    )
    resume: bool = option(False, "Go on with the run in --output, or begin it there.")
    tensorboard: bool = option(False, "Write TensorBoard events too, to OUTPUT/tensorboard.")
    seed: int = option(0, "Seed of first weights, dropout, order and augmentation.", "N", ge=0, lt=2**63)
    backend: str = option("auto", "What loads images: auto, dali-gpu, dali-cpu, dali-cpu-stock or torchvision.", "NAME")
    threads: int | None = option(None, "Threads that load images.", "N", "one per core", ge=1)
    device: str = option("auto", "Where the network runs: auto, cpu, cuda, cuda:1.", "NAME")
    precision: Literal["fp32", "bf16", "fp16"] = option("fp32", "Numbers that the network computes in.")
    channels_last: bool = option(False, "Keep images and weights in channels-last memory.")
    compile: bool = option(False, "torch.compile the network.")
    deterministic: bool = option(False, "Use only algorithms that give the same bits each time.")
