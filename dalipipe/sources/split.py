"""Which images are for training and which for validation."""

import hashlib
import os

import numpy as np
from numpy.typing import NDArray

from dalipipe.errors import ConfigError, SourceError
from dalipipe.sources.base import SubsetSource, list_names
from dalipipe.sources.folder import FolderSource, expand, is_folder, is_image_name, scan_folder

_PART_NAMES = frozenset({"train", "training", "val", "valid", "validation", "test", "testing", "dev"})


def split_sources(
    root: str | os.PathLike[str], val_fraction: float = 0.2, seed: int = 0
) -> tuple[FolderSource | SubsetSource, FolderSource | SubsetSource]:
    """Return the sources for training and for validation below a folder.

    A folder that holds `train` and `val` is taken as it is divided. Any other is taken as one folder of classes, and a
    part of each class is drawn for validation: the nearest whole number to `val_fraction` of it, at least one image and
    never all. What is drawn of a class depends on the seed, its name and the number of its images, not on the other
    classes.

    Args:
        root: The folder.
        val_fraction: Share of each class for validation, above 0 and below 1. Only for one folder of classes.
        seed: Seed of the draw, >= 0. Only for one folder of classes.

    Raises:
        ConfigError: `val_fraction` or `seed` is out of range.
        SourceError: The folder cannot be used (see `FolderSource`), it is divided into other parts than `train` and
            `val`, these two differ in their classes, or a class to be divided has one image.
    """
    if not 0 < val_fraction < 1:
        raise ConfigError(f"val_fraction: must be above 0 and below 1, got {val_fraction}. Use 0.2 for a fifth.")
    if seed < 0:
        raise ConfigError(f"seed: must be 0 or more, got {seed}. Use 0 for the default.")
    folder = expand(root)
    inside = {entry.name: entry.path for entry in scan_folder(folder) if is_folder(entry)}
    if "train" in inside and "val" in inside:
        return _matching(FolderSource(inside["train"]), FolderSource(inside["val"]))
    _refuse_other_parts(folder, inside)
    source = FolderSource(folder)
    val = _draw_val(source, val_fraction, seed)
    return SubsetSource(source, np.flatnonzero(~val)), SubsetSource(source, np.flatnonzero(val))


def fold_sources(root: str | os.PathLike[str], folds: int, seed: int = 0) -> list[tuple[SubsetSource, SubsetSource]]:
    """Return `folds` pairs of sources for training and for validation: each image validates in exactly one of them.

    Every fold has its share of each class, to within one image.

    Args:
        root: The folder, with one folder per class.
        folds: Number of pairs, >= 2.
        seed: Seed of the draw, >= 0.

    Raises:
        ConfigError: `folds` or `seed` is out of range.
        SourceError: The folder cannot be used, is divided into parts already, or a class has fewer images than `folds`.
    """
    if folds < 2 or seed < 0:
        raise ConfigError(f"folds: must be 2 or more, with a seed of 0 or more, got {folds} and {seed}. Use 5 and 0.")
    folder = expand(root)
    inside = {entry.name: entry.path for entry in scan_folder(folder) if is_folder(entry)}
    if "train" in inside and "val" in inside:
        raise SourceError(
            f"folder {folder!r}: must hold one folder per class to be divided into folds, got 'train' and 'val'."
            " Give its folder 'train', or leave folds out."
        )
    _refuse_other_parts(folder, inside)
    source = FolderSource(folder)
    counts = np.bincount(source.labels, minlength=len(source.classes))
    few = [name for name, count in zip(source.classes, counts, strict=True) if count < folds]
    if few:
        raise SourceError(
            f"folder {folder!r}: a class needs an image for each of the {folds} folds, got fewer in {list_names(few)}."
            " Add images or use fewer folds."
        )
    shuffled = np.concatenate([_shuffle(source, label, seed) for label in range(len(source.classes))])
    fold_of = np.empty(len(source), dtype=np.int64)
    fold_of[shuffled] = np.arange(len(source)) % folds
    return [
        (SubsetSource(source, np.flatnonzero(fold_of != fold)), SubsetSource(source, np.flatnonzero(fold_of == fold)))
        for fold in range(folds)
    ]


def _matching(train: FolderSource, val: FolderSource) -> tuple[FolderSource, FolderSource]:
    for one, other in ((val, train), (train, val)):
        extra = sorted(set(one.classes) - set(other.classes))
        if extra:
            raise SourceError(
                f"folder {str(one.root)!r}: must have the same classes as {str(other.root)!r},"
                f" got {list_names(extra)} in addition. Remove that here or add it there."
            )
    return train, val


def _refuse_other_parts(folder: str, inside: dict[str, str]) -> None:
    """Refuse a folder such as {train, test} or {training, validation}, whose parts would pass for classes."""
    if inside and all(name.lower() in _PART_NAMES and _holds_only_folders(path) for name, path in inside.items()):
        raise SourceError(
            f"folder {folder!r}: must hold one folder per class, or 'train' and 'val' with those in them,"
            f" got {list_names(sorted(inside))}. Name the parts 'train' and 'val', or give one part to have it divided."
        )


def _holds_only_folders(folder: str) -> bool:
    entries = scan_folder(folder)
    return any(is_folder(entry) for entry in entries) and not any(
        is_image_name(entry.name) and not is_folder(entry) for entry in entries
    )


def _draw_val(source: FolderSource, fraction: float, seed: int) -> NDArray[np.bool_]:
    """Return which images are for validation, (N,) bool."""
    counts = np.bincount(source.labels, minlength=len(source.classes))
    lone = [name for name, count in zip(source.classes, counts, strict=True) if count < 2]
    if lone:
        raise SourceError(
            f"folder {str(source.root)!r}: a class needs 2 images to be divided into training and validation,"
            f" got 1 in {list_names(lone)}. Add images, or make the folders 'train' and 'val' yourself."
        )
    val = np.zeros(len(source), dtype=np.bool_)
    for label, total in enumerate(counts.tolist()):
        count = min(max(1, int(total * fraction + 0.5)), total - 1)
        val[_shuffle(source, label, seed)[:count]] = True
    return val


def _shuffle(source: FolderSource, label: int, seed: int) -> NDArray[np.int64]:
    """Return the images of a class in an order that depends on the seed, the class' name and their number."""
    members: NDArray[np.int64] = np.flatnonzero(source.labels == label)
    digest = hashlib.sha256(source.classes[label].encode("utf-8", "surrogatepass")).digest()
    rng = np.random.default_rng([seed, int.from_bytes(digest[:8], "little")])
    # Raw bits, for numpy promises to keep those the same for ever, and `permutation` not.
    return members[np.argsort(rng.bit_generator.random_raw(len(members)), kind="stable")]
