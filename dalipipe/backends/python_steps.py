"""Steps of a recipe that are functions of the user's: what they make of each image, behind what a backend has made.

    recipe ─┬─ up to the first Python step ─► backend ─► rows
            └─ that step and what follows ─► here, row by row, in the thread that iterates

What a step draws from the global generators is seeded for each sample.
"""

from __future__ import annotations

import importlib
from collections.abc import Callable, Iterable, Iterator
from dataclasses import replace
from functools import partial
from typing import Any

import numpy as np
import torch

from dalipipe.backends.base import Job, Output, of_view
from dalipipe.backends.results import Executor, Result
from dalipipe.decisions import randomness
from dalipipe.decisions.generators import lent, seed_all
from dalipipe.errors import ConfigError, DalipipeError, RecipeError, shown
from dalipipe.recipes import Recipe
from dalipipe.recipes.ops import Normalize, Op, Python, ToDtype
from dalipipe.sampling import Batch

Step = Callable[[torch.Tensor], torch.Tensor]


def finished_in_python(job: Job, compile_job: Callable[[Job], Executor]) -> Executor:
    """Return an executor for a job with Python steps, which run behind what a backend makes.

    Args:
        job: What to run.
        compile_job: Returns the backend's executor for a job without Python steps.

    Raises:
        RecipeError: what a step calls can't be imported or made.
        ConfigError: whole levels are wanted, and a step takes floats.
    """
    rest = Rest(job)
    return PythonExecutor(compile_job(_begun(job)), rest)


def _begun(job: Job) -> Job:
    """Return what a backend is to run of a job: each view up to its first Python step."""
    recipe = Recipe.of_views(job.recipe.name, [view.beginning for view in job.recipe.views])
    output = Output("uint8" if job.output.dtype == "uint8" else None, job.output.memory_format)
    return replace(job, recipe=recipe, output=output)


class Rest:
    """What is left of a job where its backend ends.

    Args:
        job: The whole.

    Raises:
        RecipeError: what a step calls can't be imported or made.
        ConfigError: whole levels are wanted, and a step takes floats.
    """

    def __init__(self, job: Job) -> None:
        self.job = job
        self._steps = [list(_steps(job, view.recipe)) for view in job.views]

    def of(self, result: Result) -> Result:
        """Return what becomes of a batch; the global generators of random numbers stay as they are."""
        good = [at for at in range(len(result.batch)) if at not in result.failures]
        with lent():
            images, *others = (self._view(number, view, result.batch, good) for number, view in enumerate(result.views))
        return replace(result, images=images, others=tuple(others))

    def _view(self, number: int, images: torch.Tensor, batch: Batch, good: list[int]) -> torch.Tensor:
        job, steps = self.job.views[number], self._steps[number]
        if steps and good:
            occurrences = of_view(batch.occurrences[good], number).tolist()
            indices = batch.indices[good].tolist()
            words = randomness.words(
                self.job.seed_of(batch), batch.epoch, indices, occurrences, randomness.CALL_POSITION
            )
            rows = []
            for row, own in zip(images.cpu(), words, strict=True):
                seed_all(own)
                for step in steps:
                    row = step(row)
                rows.append(row)
            images = torch.stack(rows).to(images.device)
        form = torch.channels_last if job.channels_last else torch.contiguous_format
        return images.to(job.dtype).contiguous(memory_format=form)


def finished_sample(job: Job, batch: Batch, make: Callable[[Job], torch.Tensor | str]) -> torch.Tensor | str:
    """Return one image, (C, H, W), behind its Python steps, or why it can't be used.

    Args:
        job: Of one view.
        batch: Of one sample.
        make: Returns the image for a job without Python steps, or why it can't be used.
    """
    row = make(_begun(job))
    if isinstance(row, str):
        return row
    return Rest(job).of(Result(batch, row[None], torch.zeros(1, dtype=torch.int64))).images[0]


class PythonExecutor:
    """An executor whose images go through Python at the end.

    Args:
        executor: The backend's.
        rest: What follows.
    """

    def __init__(self, executor: Executor, rest: Rest) -> None:
        self._executor, self._rest = executor, rest
        self.device = executor.device

    def run(self, batches: Iterable[Batch]) -> Iterator[Result]:
        """Yield one result for each batch, in order. See `Executor`."""
        results: Any = self._executor.run(batches)
        try:
            for result in results:
                yield self._rest.of(result)
        finally:
            results.close()

    def none(self, batch: Batch) -> Result:
        """Return what becomes of a batch without samples."""
        return self._rest.job.nothing(batch, self.device)

    def close(self) -> None:
        """Release threads and memory."""
        self._executor.close()


def _steps(job: Job, recipe: Recipe) -> Iterator[Step]:
    """Yield what is done to a row, step by step."""
    begin = len(recipe.beginning.ops)
    floats = any(op.stage == "range" for op in recipe.ops[:begin])
    for position, op in enumerate(recipe.ops[begin:], begin + 1):
        if isinstance(op, Python):
            if floats and job.output.dtype == "uint8":
                raise ConfigError(
                    f'dtype: "uint8" is whole levels, and op {position} (Python) takes floats. Put it before the ops'
                    ' that rescale or normalise, or choose "float32" or "float16".'
                )
            yield partial(_called, op, position, called(op, position))
            continue
        if job.output.dtype != "uint8":
            yield partial(_ranged, op)
        floats = True


def _ranged(op: Op, row: torch.Tensor) -> torch.Tensor:
    """Return a row behind ToDtype or Normalize; before the latter, levels become fractions."""
    from torchvision.transforms.v2 import functional  # seconds to import

    if isinstance(op, ToDtype):
        return torch.as_tensor(functional.to_dtype(row, torch.float32, scale=op.scale))
    assert isinstance(op, Normalize)
    channels = row.shape[0]
    fractions = functional.to_dtype(row, torch.float32, scale=True)  # floats stay as they are
    return torch.as_tensor(functional.normalize(fractions, list(op.mean[:channels]), list(op.std[:channels])))


def called(op: Python, position: int) -> Callable[[Any], Any]:
    """Return what a step calls with each image.

    Raises:
        RecipeError: it can't be imported, is not there, or takes other arguments.
    """
    where, (module, _, name) = f"op {position} (Python)", op.call.partition(":")
    try:
        found: Any = importlib.import_module(module)
        for part in name.split("."):
            found = getattr(found, part)
        return found(**op.given) if isinstance(found, type) else partial(found, **op.given)
    except DalipipeError:
        raise
    except Exception as error:
        raise RecipeError(
            f"{where}: {op.call} can't be had: {type(error).__name__}: {error}. Check the name and the arguments, and"
            " that its package can be imported here."
        ) from error


def _called(op: Python, position: int, function: Callable[[Any], Any], row: torch.Tensor) -> torch.Tensor:
    """Return what a function of the user's makes of a row.

    Raises:
        RecipeError: it gives something else than an image of the same shape and dtype.
    """
    from torchvision.transforms.v2.functional import pil_to_tensor, to_pil_image  # seconds to import

    given = function(to_pil_image(row) if op.takes == "pil" else row)
    if isinstance(given, np.ndarray):
        made: Any = torch.from_numpy(np.ascontiguousarray(given if given.ndim == 3 else given[..., None]))
        made = made.permute(2, 0, 1) if op.takes == "pil" else made
    else:
        made = given if isinstance(given, torch.Tensor) else pil_to_tensor(given) if hasattr(given, "mode") else None
    if made is None or made.shape != row.shape or made.dtype != row.dtype:
        got = type(given).__name__ if made is None else f"{tuple(made.shape)} {made.dtype}"
        raise RecipeError(
            f"op {position} (Python): {op.call} must give back an image as it gets one, {tuple(row.shape)} {row.dtype},"
            f" got {shown(got)}. Correct it."
        )
    return torch.as_tensor(made)
