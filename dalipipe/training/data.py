"""What a run trains and validates on: two loaders over images of the same classes."""

from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Final

import torch
from torch import Tensor
from torch.utils.data import WeightedRandomSampler

from dalipipe import samples
from dalipipe.errors import RecipeError
from dalipipe.loading import DataLoader, available_threads
from dalipipe.recipes import Recipe
from dalipipe.sources import Source, fold_sources, require_classes, require_disjoint, split_sources
from dalipipe.training.choice import choose_recipes
from dalipipe.training.config import QUARANTINE, TrainConfig
from dalipipe.training.launch import Launch
from dalipipe.training.observer import Observer

ALONE: Final = Launch()

_UNEQUAL: Final = 5  # times as many images as the smallest class: from there on the largest decides the accuracy


@dataclass(frozen=True)
class Data:
    """The loaders of a run.

    Attributes:
        root: The folder that the images are in.
        classes: Class names; the index is the label.
        train: Shuffled and augmented, epoch by epoch.
        val: In order, through the evaluation twin of the training recipe.
        class_weights: (classes,) float32, for a loss in which all classes count the same; None where none is wanted.
        recipe_words: Why it is these recipes, for people; empty where they were named.
    """

    root: Path
    classes: tuple[str, ...]
    train: DataLoader
    val: DataLoader
    class_weights: Tensor | None = None
    recipe_words: str = ""

    @property
    def smallest_batch(self) -> int:
        """Images in the smallest batch of a training epoch."""
        images, size = len(self.train.source), (self.train.batch_size or 1) * self.train.shard.world_size
        return min(images, size) if self.train.drop_last else images % size or size


@contextmanager
def open_data(
    cfg: TrainConfig, device_id: int, observer: Observer, fold: int | None = None, launch: Launch = ALONE
) -> Iterator[Data]:
    """Open the loaders that the configuration asks for, and close them in the end.

    Args:
        cfg: Every option.
        device_id: CUDA device of dali-gpu.
        observer: Is told what takes a while.
        fold: Which of `cfg.folds`, from 0, validates; None for the usual division.
        launch: Which process this is: each gets its part of every batch.

    Raises:
        DalipipeError: folder, recipe or backend can't be used, there are fewer than two classes, or an image is in both
            training and validation.
    """
    chosen = choose_recipes(cfg)
    chosen.train.require_one_view("training")
    for each in (chosen.train, chosen.evaluation):
        _require_float(each)
    if chosen.warning and launch.is_first and not fold:
        observer.warning(chosen.warning)
    if chosen.train.calls and launch.is_first and not fold:
        called = ", ".join(chosen.train.calls)
        observer.warning(f"--recipe {cfg.recipe}: {called} is code of your own, and runs here for each image.")
    root = cfg.data
    if root is None:
        observer.preparing("demonstration pictures, made once")
        root = samples.ensure()
    train_source, val_source = _divide(cfg, root, fold)
    require_classes(train_source)
    if (unequal := _unequal(cfg, train_source)) and launch.is_first and not fold and not cfg.resume:
        observer.warning(unequal)
    if cfg.check_split:
        observer.preparing("looking for images in both training and validation data")
        require_disjoint(train_source, val_source)
    with (
        _open_loader(cfg, (train_source, chosen.train), device_id, launch, training=True) as train,
        _open_loader(cfg, (val_source, chosen.evaluation), device_id, launch, training=False) as val,
    ):
        weights = class_weights(train_source).float() if cfg.balance == "loss" else None
        yield Data(root, tuple(train_source.classes), train, val, weights, chosen.words)


def _divide(cfg: TrainConfig, root: Path, fold: int | None) -> tuple[Source, Source]:
    if fold is not None and cfg.folds is not None:
        return fold_sources(root, cfg.folds, cfg.split_seed)[fold]
    return split_sources(root, val_fraction=cfg.val_fraction, seed=cfg.split_seed)


def _unequal(cfg: TrainConfig, source: Source) -> str:
    """Return what to do about classes of which some are far larger than others; empty where all is well, or done."""
    counts = torch.bincount(torch.from_numpy(source.labels), minlength=len(source.classes))
    least, most = int(counts.argmin()), int(counts.argmax())
    if cfg.balance != "none" or cfg.monitor == "val_macro_f1" or int(counts[most]) <= _UNEQUAL * int(counts[least]):
        return ""
    few, many = (f"{source.classes[label]!r} has {int(counts[label]):,}" for label in (least, most))
    return (
        f"the classes are unequal: {many} training images, {few}. An accuracy may be high for the largest alone: add "
        "--balance sampler (or loss) and --monitor val_macro_f1."
    )


def class_weights(source: Source) -> Tensor:
    """Return what makes all classes count the same: images / (classes * images of the class), (classes,) float64."""
    counts = torch.bincount(torch.from_numpy(source.labels), minlength=len(source.classes))
    return len(source) / (len(source.classes) * counts.double())


def balanced_sampler(source: Source, seed: int) -> WeightedRandomSampler:
    """Return a sampler that draws each class as often as any other, as many images as there are, with replacement.

    The seed decides; ranks with the same one draw the same.
    """
    weights = class_weights(source)[torch.from_numpy(source.labels)]
    generator = torch.Generator().manual_seed(seed)
    return WeightedRandomSampler(weights.tolist(), len(source), replacement=True, generator=generator)


def _open_loader(
    cfg: TrainConfig, what: tuple[Source, Recipe], device_id: int, launch: Launch, *, training: bool
) -> DataLoader:
    source, recipe = what
    # Batch norm can't learn from a batch of one, so such a rest is left out. Which image it is changes with the epoch.
    leaves_one = cfg.batch_size > 1 and len(source) % cfg.batch_size == 1
    balanced = training and cfg.balance == "sampler"
    return DataLoader(
        source,
        batch_size=cfg.batch_size // launch.size,
        shuffle=training and not balanced,
        sampler=balanced_sampler(source, cfg.seed) if balanced else None,
        recipe=recipe,
        backend=cfg.backend,
        seed=cfg.seed,
        num_threads=cfg.threads or max(1, available_threads() // launch.local_size),
        drop_last=training and leaves_one,
        device_id=device_id,
        memory_format="channels_last" if cfg.channels_last else "contiguous",
        rank=launch.rank,
        world_size=launch.size,
        pad=training,  # all have the same number of steps
        **_on_error(cfg, launch, training=training),
    )


def _on_error(cfg: TrainConfig, launch: Launch, *, training: bool) -> dict[str, Any]:
    """Return what the loader is to do about bad files. In validation no image stands for another."""
    if cfg.on_error == "raise":
        return {}
    return {
        "on_error": cfg.on_error if training else "skip",
        "max_bad": cfg.most_bad,
        "quarantine": cfg.output / QUARANTINE["train" if training else "val"] if launch.is_first else None,
    }


def _require_float(recipe: Recipe) -> None:
    """Refuse a recipe whose images stay integers, which no network takes."""
    last = recipe.shapes()[-1]
    if last.dtype != "float32":
        raise RecipeError(f"recipe {recipe.name}: must give float32 images, got {last}. Add a Normalize at its end.")
