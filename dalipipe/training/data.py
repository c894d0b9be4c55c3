"""What a run trains and validates on: two loaders over images of the same classes."""

from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path

from dalipipe import samples
from dalipipe.errors import RecipeError
from dalipipe.loader import DataLoader
from dalipipe.recipe import Recipe
from dalipipe.sources import Source, require_classes, split_sources
from dalipipe.training.config import TrainConfig
from dalipipe.training.observer import Observer


@dataclass(frozen=True)
class Data:
    """The loaders of a run.

    Attributes:
        root: The folder that the images are in.
        classes: Class names; the index is the label.
        train: Shuffled and augmented, epoch by epoch.
        val: In order, through the evaluation twin of the training recipe.
    """

    root: Path
    classes: tuple[str, ...]
    train: DataLoader
    val: DataLoader

    @property
    def smallest_batch(self) -> int:
        """Images in the smallest batch of a training epoch."""
        images, size = len(self.train.source), self.train.batch_size or 1
        return min(images, size) if self.train.drop_last else images % size or size


@contextmanager
def open_data(cfg: TrainConfig, device_id: int, observer: Observer) -> Iterator[Data]:
    """Open the loaders that the configuration asks for, and close them in the end.

    Raises:
        DalipipeError: folder, recipe or backend can't be used, or there are fewer than two classes.
    """
    recipe = Recipe.load(cfg.recipe)
    eval_recipe = recipe.eval_twin()
    for each in (recipe, eval_recipe):
        _require_float(each)
    root = cfg.data
    if root is None:
        observer.preparing("demonstration pictures, made once")
        root = samples.ensure()
    train_source, val_source = split_sources(root, val_fraction=cfg.val_fraction, seed=cfg.split_seed)
    require_classes(train_source)
    with (
        _open_loader(cfg, train_source, recipe, device_id, training=True) as train,
        _open_loader(cfg, val_source, eval_recipe, device_id, training=False) as val,
    ):
        yield Data(root, tuple(train_source.classes), train, val)


def _open_loader(cfg: TrainConfig, source: Source, recipe: Recipe, device_id: int, *, training: bool) -> DataLoader:
    # Batch norm can't learn from a batch of one, so such a rest is left out. Which image it is changes with the epoch.
    leaves_one = cfg.batch_size > 1 and len(source) % cfg.batch_size == 1
    return DataLoader(
        source,
        batch_size=cfg.batch_size,
        shuffle=training,
        recipe=recipe,
        backend=cfg.backend,
        seed=cfg.seed,
        num_threads=cfg.threads,
        drop_last=training and leaves_one,
        device_id=device_id,
    )


def _require_float(recipe: Recipe) -> None:
    """Refuse a recipe whose images stay integers, which no network takes."""
    last = recipe.shapes()[-1]
    if last.dtype != "float32":
        raise RecipeError(f"recipe {recipe.name}: must give float32 images, got {last}. Add a Normalize at its end.")
