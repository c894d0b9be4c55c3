"""A trained network, out of its checkpoint and ready to be used."""

from __future__ import annotations

import os
from collections.abc import Mapping
from pathlib import Path
from typing import Any, NamedTuple

import torch
from torch import nn

from dalipipe.errors import ConfigError, RecipeError, SourceError, WeightsError
from dalipipe.recipes import Recipe
from dalipipe.sources import FolderSource, find_parts, split_sources
from dalipipe.sources.derived import SampleSource
from dalipipe.sources.folder import is_folder, scan_folder
from dalipipe.training.network.checkpoint import Checkpoint, load_checkpoint
from dalipipe.training.network.models import create_model, fill, resolve_device


class TrainedModel(NamedTuple):
    """What is needed to use a trained network.

    Attributes:
        model: The network in evaluation mode. Shapes: (N, 3, H, W) float32 -> (N, K) logits.
        classes: The K class names; the index is the label.
        recipe: What new images go through before the network; `recipe.output_shape` is its (3, H, W).
    """

    model: nn.Module
    classes: tuple[str, ...]
    recipe: Recipe


def load_model(path: str | os.PathLike[str], device: str | torch.device = "cpu") -> TrainedModel:
    """Return the network in a checkpoint of `dalipipe train`, its class names and its evaluation recipe.

        model, classes, recipe = dalipipe.load_model("runs/flowers/best.pt")

    Args:
        path: A best.pt or last.pt. No code in it is run.
        device: Where the network goes: "auto", or what `torch.device` takes.

    Raises:
        WeightsError: no such file, or one that isn't a checkpoint of dalipipe.
        ConfigError: no such device here.
    """
    return trained_model(load_checkpoint(Path(path)), str(path), device)


def trained_model(checkpoint: Checkpoint, where: str, device: str | torch.device = "cpu") -> TrainedModel:
    """Return what `load_model` does for a checkpoint that is loaded already; `where` is its name in errors."""
    try:
        recipe = Recipe.from_toml(checkpoint.eval_recipe, where=f"{where}: evaluation recipe")
    except RecipeError as error:
        raise WeightsError(str(error)) from error
    model = restore(checkpoint, where)
    return TrainedModel(model.to(resolve_device(str(device))), checkpoint.classes, recipe)


def restore(checkpoint: Checkpoint, where: str) -> nn.Module:
    """Return the checkpoint's network with its weights, in evaluation mode, on the CPU.

    Raises:
        WeightsError: the weights are not of the network that the checkpoint names.
    """
    with torch.random.fork_rng(devices=[]):  # the first weights are drawn, and the caller's generator left alone
        config = checkpoint.config
        head, dropout = str(config.get("head", "linear")), float(config.get("dropout", 0.5))
        try:
            model = create_model(checkpoint.model, len(checkpoint.classes), head, dropout)
        except (ConfigError, ValueError) as error:  # ValueError: a dropout out of its range
            raise WeightsError(f"{where}: must hold a network that can be built, got: {error}") from error
    try:
        fill(model, checkpoint.state_dict)
    except RuntimeError as error:
        raise WeightsError(
            f"{where}: must hold all weights of a {checkpoint.model}, got others. It was made by another version of "
            "torchvision, or changed since: train again."
        ) from error
    return model.eval()


def labelled_source(
    data: Path, classes: tuple[str, ...], config: Mapping[str, Any] | None = None
) -> tuple[SampleSource, str]:
    """Return the labelled images of a folder under the labels of a trained network, and words for which they are.

    A network is not measured on what it learnt from: of the folder that it was trained on, the images that validated it
    are taken.

    Args:
        data: Folder of one folder of images per class, of which some may be missing; or one of train and val, of which
            val is taken, or of train and test, of which test is.
        classes: Class names of the network; the index is the label.
        config: The options that it was trained with, see `Checkpoint`.

    Raises:
        SourceError: the folder can't be used, or it has a class that the network doesn't know.
    """
    options = config or {}
    parts = find_parts(data)
    # What is kept for the end, unlabelled as that of a contest may be, is for whoever gives no images to validate on.
    part = None if parts is None else parts.val or _labelled(parts.test)
    try:
        folder = FolderSource((data if parts is None else parts.train) if part is None else part, classes)
    except SourceError as error:
        error.add_note("The classes are those of the checkpoint.")
        raise
    words, chosen = str(folder.root), list(range(len(folder)))
    trained_on = options.get("data")
    if part is None and trained_on and Path(trained_on).expanduser().resolve() == data.expanduser().resolve():
        if options.get("folds"):
            raise SourceError(
                f"folder {str(data)!r}: must hold images that the network did not learn from, got those that it was"
                " trained on in folds. Take the measures of its summary.json, or give other images."
            )
        _, val = split_sources(data, float(options["val_fraction"]), int(options["split_seed"]))
        words = f"{data}, those that validated it; it learnt from the others"
        names = {val.item(index) for index in range(len(val))}
        chosen = [index for index in range(len(folder)) if folder.item(index) in names]
    return SampleSource([folder.item(index) for index in chosen], folder.labels[chosen], classes), words


def _labelled(folder: str | None) -> str | None:
    """Return a folder that holds folders, as one does whose images are labelled; None otherwise."""
    return folder if folder and any(is_folder(entry) for entry in scan_folder(folder)) else None
