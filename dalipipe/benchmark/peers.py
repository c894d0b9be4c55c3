"""What people write today: torch's DataLoader over an ImageFolder, with torchvision's transforms and worker processes.

The transforms are torchvision's own classes with the recipe's arguments, and take their own random decisions.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator
from contextlib import contextmanager
from typing import Any, Literal

import numpy as np
import torch
from numpy.typing import NDArray
from torch.utils.data import DataLoader, Subset
from torchvision import io
from torchvision.datasets import ImageFolder
from torchvision.transforms import AutoAugmentPolicy, InterpolationMode, v2

from dalipipe.benchmark.meter import Batch
from dalipipe.benchmark.work import Work
from dalipipe.errors import BackendError
from dalipipe.recipes import Recipe, ops

Form = Literal["pil", "tensor"]

_CLASSES: dict[type[ops.Op], Any] = {
    model: getattr(v2, name)
    for name, model in ops.OPS.items()
    if not issubclass(model, ops.Container | ops.ToDtype | ops.Normalize)
}
"""What each op on pixels is called in torchvision: by the same name."""


def transforms_of(recipe: Recipe, form: Form) -> Any:
    """Return the recipe as a torchvision transform, as people write it.

    Args:
        recipe: What to do.
        form: Whether it starts from Pillow images, turned into tensors after the ops on pixels, or from tensors.

    Raises:
        BackendError: an op that has no counterpart here.
    """
    if recipe.apply_exif_orientation:
        raise BackendError(
            f"torchvision-{form}: can't be made for a recipe with apply_exif_orientation. Leave it out of --backends."
        )
    steps = [_pixel_step(op, form) for op, at in zip(recipe.ops, recipe.stages, strict=True) if at == "pixels"]
    if form == "pil":
        steps.append(v2.PILToTensor())
    floating = False
    for op, stage in zip(recipe.ops, recipe.stages, strict=True):
        if isinstance(op, ops.ToDtype):
            steps.append(v2.ToDtype(torch.float32, scale=op.scale))
        elif isinstance(op, ops.Normalize):
            if not floating:
                steps.append(v2.ToDtype(torch.float32, scale=True))
            steps.append(v2.Normalize(list(op.mean), list(op.std)))
        elif stage == "tail":
            steps.append(_pixel_step(op, form))
        floating = floating or stage == "range"
    return v2.Compose(steps)


def _pixel_step(op: ops.Op, form: Form) -> Any:
    if isinstance(op, ops.Container):
        inner = [_pixel_step(child, form) for child in op.ops]
        return v2.RandomApply(inner, p=op.p) if isinstance(op, ops.RandomApply) else _choice(op, inner)
    if type(op) not in _CLASSES:
        raise _missing(op, form)
    arguments = {name: value for name, value in op.model_dump(exclude={"op"}).items() if value is not None}
    if "interpolation" in arguments:
        arguments["interpolation"] = InterpolationMode(arguments["interpolation"])
    if "padding" in arguments:
        arguments["padding"] = list(arguments["padding"])
    if "policy" in arguments:
        arguments["policy"] = AutoAugmentPolicy(arguments["policy"])
    if "fill" in arguments:
        arguments["fill"] = [int(level) for level in arguments["fill"]]
    return _CLASSES[type(op)](**arguments)


def _choice(op: ops.Op, inner: list[Any]) -> Any:
    assert isinstance(op, ops.RandomChoice)
    return v2.RandomChoice(inner, p=None if op.p is None else list(op.p))


def _missing(op: ops.Op, form: Form) -> BackendError:
    known = ", ".join([*(model.__name__ for model in _CLASSES), "ToDtype", "Normalize"])
    return BackendError(f"torchvision-{form}: can't be made for {op.op}. It has: {known}. Leave it out of --backends.")


def load_tensor(path: str) -> torch.Tensor:
    """Return the pixels of a file, (3, H, W) uint8 RGB, decoded by torchvision itself."""
    image: torch.Tensor = io.decode_image(io.read_file(path), mode=io.ImageReadMode.RGB)
    return image


class TorchPeer:
    """A torch DataLoader with as many worker processes as the others have threads.

    Args:
        work: What to load.
        form: "pil" (ImageFolder as it is) or "tensor" (decoded into tensors by torchvision.io).
    """

    def __init__(self, work: Work, form: Form) -> None:
        self._work = work
        self._form: Form = form
        loader: dict[str, Callable[[str], Any]] = {"loader": load_tensor} if form == "tensor" else {}
        self._folder = ImageFolder(work.root, **loader)

    @contextmanager
    def open(self, recipe: Recipe, indices: NDArray[np.int64]) -> Iterator[Iterable[Batch]]:
        """Open a loader over some images, in that order."""
        self._folder.transform = transforms_of(recipe, self._form)
        yield DataLoader(
            Subset(self._folder, indices.tolist()),
            batch_size=self._work.batch_size,
            num_workers=self._work.threads,
        )
