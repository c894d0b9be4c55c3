"""Which images are for training and which for validation."""

from __future__ import annotations

import hashlib
import os
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from dalipipe.errors import ConfigError, SourceError
from dalipipe.sources.base import SubsetSource, list_names
from dalipipe.sources.clutter import is_clutter, is_run
from dalipipe.sources.folder import FolderSource, expand, is_folder, is_image_name, scan_folder, tell
from dalipipe.sources.roles import Role, role_of


@dataclass(frozen=True)
class Parts:
    """The folders that a data set is divided into.

    Attributes:
        train: The one to train on.
        val: The one to validate on; None where a part of train is to be drawn for that.
        test: The one that is kept for the end, if any.
        others: Names of further folders, which are neither.
    """

    train: str
    val: str | None
    test: str | None
    others: tuple[str, ...] = ()


def find_parts(root: str | os.PathLike[str]) -> Parts | None:
    """Return how a folder is divided by the names of its folders, in any case; None where they are classes.

    `train` or `training`; `val`, `valid`, `validation` or `dev`; `test` or `testing`. A folder is divided if it has one
    for training and another of these, or one for training alone that holds folders only.

    Raises:
        SourceError: the folder can't be read, two folders have the same part, or none is for training.
    """
    folder = expand(root)
    inside = {entry.name: entry.path for entry in scan_folder(folder) if is_folder(entry)}
    inside = {name: path for name, path in sorted(inside.items()) if not _is_none(name, path)}
    names: dict[Role, list[str]] = {"train": [], "val": [], "test": []}
    for name in inside:
        role = role_of(name)
        if role is not None:
            names[role].append(name)
    others = tuple(name for name in inside if role_of(name) is None)
    train, val, test = names["train"], names["val"], names["test"]
    if not train or not (val or test):
        alone = not others and inside and all(_holds_only_folders(path) for path in inside.values())
        if alone and not train:
            raise SourceError(
                f"folder {folder!r}: must hold one folder per class, or 'train' and 'val' with those in them,"
                f" got {list_names(list(inside))}. Name the part to train on 'train', or give one part to have it"
                " divided."
            )
        if not alone:
            return None
    for role, found in names.items():
        if len(found) > 1:
            raise SourceError(
                f"folder {folder!r}: must hold one folder as {role!r}, got {list_names(found)}. Rename or remove one."
            )
    first = [inside[found[0]] if found else None for found in (train, val, test)]
    assert first[0] is not None
    return Parts(first[0], first[1], first[2], others)


def _is_none(name: str, path: str) -> bool:
    """Return whether a folder is neither a part nor a class."""
    return is_clutter(name) or is_run(path, [entry.name for entry in scan_folder(path)])


def split_sources(
    root: str | os.PathLike[str], val_fraction: float = 0.2, seed: int = 0
) -> tuple[FolderSource | SubsetSource, FolderSource | SubsetSource]:
    """Return the sources for training and for validation below a folder.

    A folder that is divided into parts, see `find_parts`, is taken as it is: `test` is left alone. The classes are
    those of its `train`, of which `val` may lack some. Where there is no `val`, and in a folder of classes, a part of
    each class is drawn for validation: the nearest whole number to `val_fraction` of it, at least one image and never
    all. What is drawn of a class depends on the seed, its name and the number of its images, not on the other classes.

    Args:
        root: The folder.
        val_fraction: Share of each class for validation, above 0 and below 1. Only where it is drawn.
        seed: Seed of the draw, >= 0. Only where it is drawn.

    Raises:
        ConfigError: `val_fraction` or `seed` is out of range.
        SourceError: The folder cannot be used (see `FolderSource` and `find_parts`), `val` has a class that `train`
            lacks, or a class to be divided has one image.
    """
    if not 0 < val_fraction < 1:
        raise ConfigError(f"val_fraction: must be above 0 and below 1, got {val_fraction}. Use 0.2 for a fifth.")
    if seed < 0:
        raise ConfigError(f"seed: must be 0 or more, got {seed}. Use 0 for the default.")
    parts = find_parts(root)
    if parts is not None and parts.val is not None:
        _tell_of_the_rest(root, parts)
        return _matching(FolderSource(parts.train), parts.val)
    source = _whole(root, parts)
    val = _draw_val(source, val_fraction, seed)
    return SubsetSource(source, np.flatnonzero(~val)), SubsetSource(source, np.flatnonzero(val))


def _whole(root: str | os.PathLike[str], parts: Parts | None) -> FolderSource:
    """Return the images that are to be divided."""
    if parts is None:
        return FolderSource(root)
    _tell_of_the_rest(root, parts)
    return FolderSource(parts.train)


def _tell_of_the_rest(root: str | os.PathLike[str], parts: Parts) -> None:
    """Say once which folders beside the parts are not looked at."""
    rest = [*([_name(parts.test)] if parts.test else []), *parts.others]
    if parts.val is None:
        alone = f", and {list_names(rest)} left alone" if rest else ""
        tell(f"folder {expand(root)!r}: a part of {_name(parts.train)!r} is taken to validate on{alone}")
    elif rest:
        taken = list_names([_name(parts.train), _name(parts.val)])
        tell(f"folder {expand(root)!r}: {taken} are taken, and {list_names(rest)} left alone")


def _name(path: str) -> str:
    return path.rpartition(os.sep)[2]


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
    folder, parts = expand(root), find_parts(root)
    if parts is not None and parts.val is not None:
        both = f"{_name(parts.train)!r} and {_name(parts.val)!r}"
        raise SourceError(
            f"folder {folder!r}: must hold one folder per class to be divided into folds, got {both}."
            f" Give its folder {_name(parts.train)!r}, or leave folds out."
        )
    source = _whole(root, parts)
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


def _matching(train: FolderSource, val_folder: str) -> tuple[FolderSource, FolderSource]:
    """Return train and val with train's labels."""
    try:
        val = FolderSource(val_folder, train.classes)
    except SourceError as error:
        error.add_note(f"The classes are those of {str(train.root)!r}.")
        raise
    counts = np.bincount(val.labels, minlength=len(train.classes))
    lacking = [name for name, count in zip(train.classes, counts, strict=True) if count == 0]
    if lacking:
        tell(f"folder {val_folder!r}: has no image of {list_names(lacking)}, which training has")
    return train, val


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
