"""The data sets that people have, torchvision's above all, become sources."""

from __future__ import annotations

import operator
import os
import sys
from collections.abc import Callable, Iterable, Sequence
from typing import Any, TypeAlias

import numpy as np
from numpy.typing import NDArray

from dalipipe.errors import RecipeError, SourceError
from dalipipe.recipes.ops.base import Channels
from dalipipe.recipes.translation import ops_of
from dalipipe.sources import ArraySource, FolderSource, Source
from dalipipe.sources.array import numbered
from dalipipe.sources.base import SubsetSource
from dalipipe.sources.derived import ConcatSource, LabelledSource, SampleSource

Transform: TypeAlias = Callable[..., Any]

LOADERS = ("default_loader", "pil_loader")
"""torchvision's functions that open a file as an RGB image, as every backend does."""

PLAIN = frozenset({"DatasetFolder", "CIFAR10", "MNIST", "SVHN", "STL10"})
"""torchvision's classes whose `__getitem__` is known to give what their files or arrays hold, and so is not asked."""

ACCEPTED = (
    "a folder, torchvision's ImageFolder, DatasetFolder, CIFAR10, CIFAR100, MNIST, FashionMNIST, SVHN and the like, "
    "anything with .samples as (path, label) or with .data (uint8 images) and .targets, Subset, random_split and "
    "ConcatDataset of these, or a Source"
)
HOW_TO_WRITE = (
    "A Source needs three things: __len__(), labels (one int a sample), and item(index), which returns a path, the "
    "bytes of an image file, or pixels as a uint8 array (height, width, 3) or (height, width, 1)"
)

ADVICE = (
    "Do what it does in the data set's transform or on the batch, or make it a Source:"
    f" {HOW_TO_WRITE[:1].lower()}{HOW_TO_WRITE[1:]}"
)


def as_source(dataset: object, *, with_transform: bool = True) -> tuple[Source, Transform | None]:
    """Return a data set as a source, and the transform that it was given for its images.

    Labels are asked for once, now: `target_transform` is called once for each sample.

    Args:
        dataset: A folder, a data set of torchvision or like one, a Subset or ConcatDataset of such, or a `Source`,
            which is returned as it is.
        with_transform: Whether the transform matters. If not, None is returned for it and parts may differ in theirs.

    Raises:
        SourceError: a data set that has neither files, nor arrays, nor the methods of a Source; one that does more
            than read files or arrays; or parts of a ConcatDataset with different transforms.
    """
    source = _source_of(dataset)
    return source, transform_of(dataset) if with_transform else None


def transform_of(dataset: Any) -> Transform | None:
    """Return the transform that a data set was given for its images, None where it has none.

    Raises:
        SourceError: parts of a ConcatDataset with different ones, or one that takes image and label together.
    """
    if isinstance(dataset, str | os.PathLike) or _is_source(dataset):
        return None
    if _is_a(dataset, "Subset"):
        return transform_of(dataset.dataset)
    if not _is_a(dataset, "ConcatDataset"):
        return _transform(dataset)
    transforms = [transform_of(part) for part in dataset.datasets]
    for position, transform in enumerate(transforms):
        if not _same(transforms[0], transform):
            raise SourceError(
                "ConcatDataset: all parts must have the same transform, got another in"
                f" datasets[{position}] than in datasets[0]. Give them one transform, or give recipe=."
            )
    return transforms[0]


def _source_of(dataset: Any) -> Source:
    if isinstance(dataset, str | os.PathLike):
        return FolderSource(dataset)
    if _is_a(dataset, "Subset"):
        _refuse_override(dataset)
        whole = _source_of(dataset.dataset)
        return SubsetSource(whole, np.asarray(dataset.indices, dtype=np.int64))
    if _is_a(dataset, "ConcatDataset"):
        _refuse_override(dataset)
        return ConcatSource([_source_of(part) for part in dataset.datasets])
    if _is_source(dataset):
        return _as_written(dataset)
    if not hasattr(dataset, "__len__") or isinstance(dataset, type):
        raise _unknown(dataset)
    source: Source
    if isinstance(getattr(dataset, "samples", None), Sequence):
        source = _of_samples(dataset)
    elif _array(dataset) is not None:
        source = _of_array(dataset)
    else:
        raise _unknown(dataset)
    _require_same(dataset, source)
    return source


def _is_source(dataset: object) -> bool:
    """Return whether a data set was written as a `Source`."""
    return callable(getattr(dataset, "item", None)) and hasattr(dataset, "labels") and hasattr(dataset, "__len__")


def known_size(source: Source) -> tuple[int, int] | None:
    """Return the (height, width) of every image of a source where that is known without opening one, else None."""
    if isinstance(source, SubsetSource):
        return known_size(source.source)
    if isinstance(source, ConcatSource):
        sizes = {known_size(part) for part in source.sources if len(part)}
        return sizes.pop() if len(sizes) == 1 else None
    return source.size if isinstance(source, ArraySource) else None


def known_channels(source: Source) -> Channels:
    """Return 1 where every image of a source is a grey array, else 3."""
    if isinstance(source, SubsetSource):
        return known_channels(source.source)
    if isinstance(source, ConcatSource):
        return 1 if {known_channels(part) for part in source.sources if len(part)} == {1} else 3
    return source.channels if isinstance(source, ArraySource) else 3


def _is_a(dataset: object, name: str) -> bool:
    """Return whether a data set is one of torch's own of that name; torch is not imported to find out."""
    module = sys.modules.get("torch.utils.data")
    return module is not None and isinstance(dataset, getattr(module, name))


def _as_written(dataset: Any) -> Source:
    labels = dataset.labels
    whole = isinstance(labels, np.ndarray) and labels.dtype == np.int64 and hasattr(dataset, "classes")
    source: Source = dataset if whole else LabelledSource(dataset)
    return source


def _same(one: Transform | None, other: Transform | None) -> bool:
    """Return whether two transforms are one object, or mean the same recipe."""
    if one is other:
        return True
    try:
        return one is not None and other is not None and ops_of(one) == ops_of(other)
    except RecipeError:
        return False


def _owner(dataset: object) -> type | None:
    """Return the class that says what `dataset[index]` is."""
    return next((kind for kind in type(dataset).__mro__ if "__getitem__" in vars(kind)), None)


def _refuse_override(dataset: Any) -> None:
    """Refuse a class that derives from torch's Subset or ConcatDataset and changes which samples there are."""
    for name in ("__getitem__", "__getitems__", "__len__"):
        kinds = [kind for kind in type(dataset).__mro__ if name in vars(kind)]
        if kinds and not kinds[0].__module__.startswith("torch.utils.data"):
            base = next(kind for kind in type(dataset).__mro__ if kind.__module__.startswith("torch.utils.data"))
            raise SourceError(
                f"{type(dataset).__name__}: must read samples as {base.__name__} does, got a {name} of its own, which"
                f" would never be called. {ADVICE}."
            )


def _require_same(dataset: Any, source: Source) -> None:
    """Refuse a data set that may not be what its files or arrays say: its own `__getitem__` would never be called.

    Raises:
        SourceError: it has a `__getitem__` or a length of its own.
    """
    where = type(dataset).__name__
    if len(dataset) != len(source):
        raise SourceError(
            f"{where}: must be as long as its list of samples, got {len(dataset)} as its length and {len(source)}"
            f" samples. {ADVICE}."
        )
    owner = _owner(dataset)
    if owner is None or (owner.__name__ == "Dataset" and owner.__module__ == "torch.utils.data.dataset"):
        return
    if owner.__name__ in PLAIN and owner.__module__.startswith("torchvision.datasets."):
        return
    raise SourceError(
        f"{where}: must give (image, label) as its files or arrays hold them, got a __getitem__ of its own, which would"
        f" never be called. {ADVICE}."
    )


def _of_samples(dataset: Any) -> Source:
    """Return the source of a data set that lists its files as (path, label)."""
    where = type(dataset).__name__
    owner = _owner(dataset)
    if owner is not None and owner.__module__.startswith("torchvision.datasets") and owner.__name__ != "DatasetFolder":
        raise _unknown(dataset)
    loader = getattr(dataset, "loader", None)
    module = sys.modules.get("torchvision.datasets.folder")
    if loader is not None and not any(loader is getattr(module, name, None) for name in LOADERS):
        name = getattr(loader, "__name__", repr(loader))
        raise SourceError(
            f"{where}: loader must be torchvision's default_loader or pil_loader, got {name}. Leave it out;"
            f" if its files are no ordinary images, make it a Source: {_lower(HOW_TO_WRITE)}."
        )
    paths, labels = [], []
    for position, sample in enumerate(dataset.samples):
        if not isinstance(sample, tuple | list) or len(sample) != 2 or not isinstance(sample[0], str | os.PathLike):
            raise SourceError(
                f"{where}: samples must be (path, label) pairs, got {sample!r} as samples[{position}]. {HOW_TO_WRITE}."
            )
        paths.append(os.fsdecode(sample[0]))
        labels.append(sample[1])
    return SampleSource(paths, *_labels(dataset, labels))


def _array(dataset: object) -> NDArray[Any] | None:
    """Return the images of a data set that holds them in one array, else None."""
    data: Any = getattr(dataset, "data", None)
    if not isinstance(data, np.ndarray):
        data = data.numpy() if type(data).__module__.startswith("torch") and hasattr(data, "numpy") else None
    labelled = hasattr(dataset, "targets") or hasattr(dataset, "labels")
    return data if labelled and isinstance(data, np.ndarray) else None


def _of_array(dataset: Any) -> ArraySource:
    """Return the source of a data set that holds its images in one array, as torchvision's small ones do."""
    where = type(dataset).__name__
    data = _array(dataset)
    assert data is not None
    if data.dtype != np.uint8 or data.ndim not in (3, 4):
        raise _wrong_data(where, data)
    if data.ndim == 3:
        data = data[..., None]
    elif data.shape[3] not in (1, 3) and data.shape[1] in (1, 3):
        data = data.transpose(0, 2, 3, 1)
    elif data.shape[3] not in (1, 3):
        raise _wrong_data(where, data)
    own = dataset.targets if hasattr(dataset, "targets") else dataset.labels
    labels, classes = _labels(dataset, own.tolist() if hasattr(own, "tolist") else list(own))
    return ArraySource(data, labels, classes)  # a view: pixels that are changed in place are seen


def _wrong_data(where: str, data: NDArray[Any]) -> SourceError:
    return SourceError(
        f"{where}: data must be uint8 images (N, H, W), (N, H, W, 1 or 3) or (N, 1 or 3, H, W), got"
        f" {data.dtype} {data.shape}. {HOW_TO_WRITE}."
    )


def _labels(dataset: Any, own: Iterable[Any]) -> tuple[NDArray[np.int64], tuple[str, ...]]:
    """Return the labels that the data set hands out, and the class names: numbers where labels are not its own."""
    where = type(dataset).__name__
    change = getattr(dataset, "target_transform", None)
    labels, changed = [], False
    for position, label in enumerate(own):
        try:
            final = operator.index(label if change is None else change(label))
        except TypeError as error:
            got = repr(label) if change is None else f"{label!r} before target_transform ({error})"
            raise SourceError(
                f"{where}: every label must be an int, got {got} for sample {position}. Number the classes from 0."
            ) from error
        labels.append(final)
        changed = changed or final != label
    array = np.array(labels, dtype=np.int64)
    classes = getattr(dataset, "classes", None)
    if changed or not classes or len(classes) <= array.max(initial=-1):
        return array, numbered(array)
    return array, tuple(name if isinstance(name, str) else ", ".join(map(str, name)) for name in classes)


def _transform(dataset: Any) -> Transform | None:
    """Return the transform for images; refuse one that takes the label as well."""
    transform: Transform | None = getattr(dataset, "transform", None)
    joint = getattr(dataset, "transforms", None)
    if joint is not None and type(joint).__name__ != "StandardTransform":
        raise SourceError(
            f"{type(dataset).__name__}: transforms=, which gets image and label together, can't be used,"
            f" got {type(joint).__name__}. Give it as transform=, or give recipe=."
        )
    return transform


def _lower(sentence: str) -> str:
    return sentence[:1].lower() + sentence[1:]


def _unknown(dataset: object) -> SourceError:
    kind = dataset if isinstance(dataset, type) else type(dataset)
    what = f"the class {kind.__name__} itself" if isinstance(dataset, type) else f"a {kind.__name__}"
    return SourceError(f"DataLoader: the data set must be {ACCEPTED}, got {what}. {HOW_TO_WRITE}.")
