"""A trained network, out of its checkpoint and ready to be used."""

from __future__ import annotations

import os
from pathlib import Path
from typing import NamedTuple

import numpy as np
import torch
from torch import nn

from dalipipe.adapt import SampleSource
from dalipipe.errors import SourceError, WeightsError
from dalipipe.recipe import Recipe
from dalipipe.sources import FolderSource
from dalipipe.sources.base import list_names
from dalipipe.sources.folder import expand, is_folder, scan_folder
from dalipipe.training.checkpoint import Checkpoint, load_checkpoint
from dalipipe.training.models import create_model, resolve_device


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
    checkpoint = load_checkpoint(Path(path))
    model = restore(checkpoint, str(path))
    recipe = Recipe.from_toml(checkpoint.eval_recipe, where=f"{path}: evaluation recipe")
    return TrainedModel(model.to(resolve_device(str(device))), checkpoint.classes, recipe)


def restore(checkpoint: Checkpoint, where: str) -> nn.Module:
    """Return the checkpoint's network with its weights, in evaluation mode, on the CPU.

    Raises:
        WeightsError: the weights are not of the network that the checkpoint names.
    """
    with torch.random.fork_rng(devices=[]):  # the first weights are drawn, and the caller's generator left alone
        config = checkpoint.config
        head, dropout = str(config.get("head", "linear")), float(config.get("dropout", 0.5))
        model = create_model(checkpoint.model, len(checkpoint.classes), head, dropout)
    try:
        model.load_state_dict(dict(checkpoint.state_dict))
    except RuntimeError as error:
        raise WeightsError(
            f"{where}: must hold all weights of a {checkpoint.model}, got others. It was made by another version of "
            "torchvision, or changed since: train again."
        ) from error
    return model.eval()


def labelled_source(data: Path, classes: tuple[str, ...]) -> tuple[SampleSource, Path]:
    """Return the labelled images of a folder under the labels of a trained network, and the folder that they are in.

    Args:
        data: Folder of one folder of images per class, of which some may be missing; or one of train and val, of which
            val is taken.
        classes: Class names of the network; the index is the label.

    Raises:
        SourceError: the folder can't be used, or it has a class that the network doesn't know.
    """
    parts = {entry.name for entry in scan_folder(expand(data)) if is_folder(entry)}
    folder = FolderSource(data / "val" if {"train", "val"} <= parts else data)
    unknown = [name for name in folder.classes if name not in classes]
    if unknown:
        raise SourceError(
            f"folder {str(folder.root)!r}: must hold classes of the checkpoint ({list_names(classes)}),"
            f" got {list_names(unknown)}. Rename or remove what it has not learnt."
        )
    labels = [classes.index(folder.classes[label]) for _, label in folder.samples]
    return SampleSource([path for path, _ in folder.samples], np.array(labels, np.int64), classes), folder.root
