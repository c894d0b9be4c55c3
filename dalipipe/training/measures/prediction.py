"""What a trained network says of image files: those that can't be read cost only themselves."""

from __future__ import annotations

import glob
import os
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import torch

from dalipipe.backends import Job, compile_recipe, resolve_backend
from dalipipe.errors import SourceError
from dalipipe.loading import available_threads
from dalipipe.sampling import batched
from dalipipe.sources import IMG_EXTENSIONS
from dalipipe.sources.clutter import LeftOut, advice_on_archive, archives_in
from dalipipe.sources.derived import SampleSource
from dalipipe.sources.folder import expand, list_images, tell
from dalipipe.training.network.trained import TrainedModel


@dataclass(frozen=True)
class Guess:
    """One of the classes that an image may be of.

    Attributes:
        name: Of the class.
        probability: The network's softmax, 0 to 1.
    """

    name: str
    probability: float


@dataclass(frozen=True)
class Prediction:
    """What a network says of one file.

    Attributes:
        file: Its path.
        guesses: The most likely classes, the likeliest first; none where the file can't be used.
        error: Why the file can't be used; empty where it can.
    """

    file: str
    guesses: tuple[Guess, ...] = ()
    error: str = ""


def find_images(paths: Sequence[str | os.PathLike[str]]) -> tuple[list[str], list[Prediction]]:
    """Return the image files that paths stand for, each once, and an entry for each path that stands for none.

    A folder stands for the images below it, to any depth; a pattern for the files that match it (`**` for any depth),
    unless there is a file of that very name. Files given by name count as images whatever they are called.

    Raises:
        SourceError: a folder can't be read, or a path is empty.
    """
    if "" in map(expand, paths):
        raise SourceError("predict: every path must name something, got ''. The current directory is '.'.")
    files: dict[str, None] = {}
    problems: list[Prediction] = []
    for path in map(expand, paths):
        if Path(path).is_dir():
            left_out = LeftOut(path.rstrip(os.sep) or os.sep)
            found = list_images(left_out.root, left_out)
            tell(left_out.words)
            missing = f"no image in this folder ({' '.join(IMG_EXTENSIONS)})"
        elif not os.path.lexists(path) and glob.has_magic(path):
            matches = sorted(glob.glob(path, recursive=True))  # noqa: PTH207 - Path.glob takes no absolute pattern
            found = [match for match in matches if Path(match).is_file()]
            missing = "no file matches this pattern"
        elif archives_in([path]) and Path(path).exists():
            found, missing = [], f"an archive. {advice_on_archive(path)}"
        else:
            found = [path] if Path(path).is_file() else []
            missing = "a pipe, a device or a socket, and no file" if Path(path).exists() else "no such file"
        files.update(dict.fromkeys(found))
        if not found:
            problems.append(Prediction(path, error=missing))
    return list(files), problems


def predict_files(
    trained: TrainedModel,
    files: Sequence[str],
    *,
    top_k: int = 1,
    batch_size: int = 32,
    backend: str = "auto",
    threads: int | None = None,
) -> Iterator[Prediction]:
    """Yield what the network says of each file, in their order.

    Args:
        trained: The network, its classes and its recipe.
        files: Paths of images.
        top_k: Number of guesses for each, >= 1; at most one for each class.
        batch_size: Images at once, >= 1.
        backend: What loads images, see `dalipipe.backends`.
        threads: Threads that load them; None for one for each CPU.

    Raises:
        SourceError: no file is given.
        BackendError: the backend can't run here, or lacks an op.
    """
    if not files:
        raise SourceError("predict: needs at least one image, got none. Give files, folders or patterns.")
    source = SampleSource(files, np.zeros(len(files), np.int64), trained.classes)
    device = next(trained.model.parameters()).device
    job = Job(
        source,
        trained.recipe,
        batch_size=batch_size,
        num_threads=threads or available_threads(),
        device_id=device.index or 0,
    )
    executor = compile_recipe(job, resolve_backend(backend))
    try:
        for result in executor.run(batched(range(len(files)), batch_size, epoch=0, drop_last=False)):
            rows = iter(_classify(trained, result.images.to(device), top_k))
            for position, index in enumerate(result.batch.indices.tolist()):
                reason = result.failures.get(position)
                if reason is None:
                    yield Prediction(files[index], next(rows))
                else:
                    yield Prediction(files[index], error=reason)
    finally:
        executor.close()


@torch.inference_mode()
def _classify(trained: TrainedModel, images: torch.Tensor, top_k: int) -> list[tuple[Guess, ...]]:
    """Return the guesses for each image of a batch; a batch in which every file was bad is empty."""
    if not len(images):
        return []
    probabilities = trained.model(images).float().softmax(dim=1)
    values, labels = probabilities.topk(min(top_k, len(trained.classes)), dim=1)
    return [
        tuple(Guess(trained.classes[label], value) for value, label in zip(row, names, strict=True))
        for row, names in zip(values.tolist(), labels.tolist(), strict=True)
    ]
