"""Backends: one recipe, compiled for DALI on a GPU, DALI on a CPU, or torchvision."""

from __future__ import annotations

import importlib.util
import logging
from collections.abc import Mapping
from dataclasses import replace
from functools import cache
from typing import TYPE_CHECKING, Literal

from dalipipe.backends.base import (
    ONE_PIXEL,
    CacheMode,
    Dtype,
    Finish,
    Job,
    MemoryFormat,
    Output,
    of_view,
    uniforms_of,
)
from dalipipe.backends.results import Executor, Outcome, Result, failures_of, in_parts
from dalipipe.backends.table import Backend, Table, decoded_window
from dalipipe.errors import BackendError, ConfigError, nearest
from dalipipe.recipes import Recipe
from dalipipe.sources import Item, Source

if TYPE_CHECKING:
    import torch

    from dalipipe.sampling import Batch

__all__ = [
    "BACKENDS",
    "ONE_PIXEL",
    "Backend",
    "CacheMode",
    "Dtype",
    "Executor",
    "Finish",
    "Job",
    "MemoryFormat",
    "Outcome",
    "Output",
    "Result",
    "compile_recipe",
    "dali_is_there",
    "describe_step",
    "failures_of",
    "in_parts",
    "of_view",
    "reference_sample",
    "require_dali",
    "resolve_backend",
    "why_not",
    "with_cache",
]

_log = logging.getLogger("dalipipe")


@cache
def _say_once(message: str) -> None:
    _log.info(message)


def cuda_works() -> bool:
    """Return whether a CUDA device can be used from this process."""
    import torch

    return torch.cuda.is_available()


@cache
def dali_is_there() -> bool:
    """Return whether DALI is installed: there are builds for Linux only."""
    try:
        return importlib.util.find_spec("nvidia.dali") is not None
    except ModuleNotFoundError:  # there is no "nvidia" either
        return False


def require_dali(who: str) -> None:
    """Raise where DALI is not installed.

    Raises:
        BackendError: what needs it, and what to do.
    """
    if not dali_is_there():
        raise BackendError(
            f"{who}: needs NVIDIA DALI, which is not installed. On Linux, pip install "
            '"nvidia-dali-cuda120>=2.1.1,<2.2"; elsewhere use backend "torchvision" or "auto".'
        )


@cache
def _warn_once(message: str) -> None:
    _log.warning(message)


def _gpu_works() -> None:
    require_dali("dali-gpu")
    if not cuda_works():
        raise BackendError(
            'dali-gpu: needs a CUDA device, and none works here. Use "dali-cpu", "dali-cpu-stock" or "auto".'
        )


def _stock_table() -> Table:
    require_dali("DALI's stock operators")
    from dalipipe.backends.dali import TABLE

    return TABLE


def _stock(job: Job, device: Literal["cpu", "gpu"]) -> Executor:
    from dalipipe.backends import dali
    from dalipipe.backends.dali_executor import DaliExecutor, Graph

    return DaliExecutor(job, device, Graph(dali.build, dali.prepare))


def _fused_table() -> Table:
    require_dali("dali-cpu")
    from dalipipe.backends.kernels import TABLE

    return TABLE


def _fused(job: Job) -> Executor:
    from dalipipe.backends import dali_fused
    from dalipipe.backends.dali_executor import DaliExecutor, Graph

    return DaliExecutor(job, "cpu", Graph(dali_fused.build, dali_fused.prepare))


def _reference_table() -> Table:
    from dalipipe.backends.torchvision import TABLE

    return TABLE


def _reference(job: Job) -> Executor:
    from dalipipe.backends.torchvision import TorchvisionExecutor

    return TorchvisionExecutor(job)


_GPU = Backend(
    "dali-gpu",
    "DALI's operators on a GPU, JPEG decoding included",
    available=_gpu_works,
    table=_stock_table,
    run=lambda job: _stock(job, "gpu"),
    last="crop_mirror_normalize",
    prefix="fn.",
    within="split, {}, merge",
    first=decoded_window,
)

BACKENDS: Mapping[str, Backend] = {
    backend.name: backend
    for backend in (
        _GPU,
        Backend(
            "dali-cpu",
            "DALI decodes on the CPU, fused kernels do the rest",
            available=lambda: require_dali("dali-cpu"),
            table=_fused_table,
            run=_fused,
            last="last kernel",
        ),
        replace(
            _GPU,
            name="dali-cpu-stock",
            sentence="DALI's operators on the CPU",
            available=lambda: require_dali("dali-cpu-stock"),
            run=lambda job: _stock(job, "cpu"),
        ),
        Backend(
            "torchvision",
            "the reference: Pillow and torchvision's kernels on tensors, in threads",
            available=lambda: None,
            table=_reference_table,
            run=_reference,
            last="normalize",
            prefix="v2.functional.",
        ),
    )
}
"""The backends by name. What supports what, `dalipipe show` and the page of differences are read off these."""


def resolve_backend(name: str) -> str:
    """Return the name of a backend that can run here.

    "auto" is dali-gpu where CUDA works and DALI on the CPU otherwise; torchvision where DALI is not installed.

    The choice for "auto" is logged once, at level INFO of the logger "dalipipe"; as a warning where DALI is missing.

    Raises:
        ConfigError: no such backend; the nearest name is suggested.
        BackendError: dali-gpu where no CUDA device works; one of DALI's where that is not installed.
    """
    if name == "auto" and not dali_is_there():
        _warn_once("backend auto: torchvision, since NVIDIA DALI is not installed (it is there for Linux only)")
        return "torchvision"
    if name == "auto":
        chosen = "dali-gpu" if cuda_works() else "dali-cpu"
        _say_once(f"backend auto: {chosen} ({BACKENDS[chosen].sentence})")
        return chosen
    if name not in BACKENDS:
        known = ", ".join(("auto", *BACKENDS))
        raise ConfigError(f"backend: unknown name {name!r}. {nearest(name, BACKENDS)}There are: {known}.")
    BACKENDS[name].available()
    return name


def compile_recipe(job: Job, backend: str) -> Executor:
    """Return an executor for a job.

    Raises:
        BackendError: the backend can't run here, or lacks a primitive that an op of the recipe may become.
        ConfigError: no such backend.
    """
    name = resolve_backend(backend)
    for view in job.views:
        view.recipe.shapes()
        if view.levels is None and view.program.tail:
            raise ConfigError(
                'dtype: "uint8" is whole levels, which RandomErasing after Normalize or ToDtype has no place in, got'
                ' both. Put RandomErasing before them, or choose "float32" or "float16".'
            )
    if job.output.dtype == "uint8" and len({view.recipe.levels for view in job.views}) > 1:
        raise ConfigError(
            'dtype: "uint8" leaves it to loader.finish to rescale and normalise, and the views of the recipe do so'
            ' differently. Give them the same Normalize, or choose "float32" or "float16".'
        )
    if not job.recipe.calls:
        return BACKENDS[name].compile(job)
    from dalipipe.backends.python_steps import finished_in_python

    return finished_in_python(job, BACKENDS[name].compile)


def describe_step(recipe: Recipe, backend: str) -> list[str]:
    """Return what stands for each op of a recipe on a backend, as `dalipipe show` prints it.

    Raises:
        BackendError: the backend is one of DALI's where that is not installed.
    """
    return BACKENDS[backend].describe(recipe)


def reference_sample(job: Job, batch: Batch) -> torch.Tensor | str:
    """Return what the reference makes of one image, (C, H, W), or why it can't be used.

    Args:
        job: Its recipe and output count.
        batch: Of one sample, which brings its item.

    Raises:
        ResourceError: it can't be used, and that is not its fault.
    """
    from dalipipe.backends.torchvision import views_of

    assert batch.items is not None
    if job.recipe.calls:
        from dalipipe.backends.python_steps import finished_sample

        return finished_sample(job, batch, lambda begun: reference_sample(begun, batch))
    made = views_of(job, batch.items[0], [drawn[0] for drawn in uniforms_of(job, batch)])
    return made if isinstance(made, str) else made[0]


def why_not(item: Item | None, error: Exception) -> str:
    """Return in a few words why an image can't be used over which Pillow raised an error.

    Raises:
        ResourceError, BackendError: it is not the image's fault.
    """
    from dalipipe.backends import pillow

    if item is None:
        return str(getattr(error, "strerror", None) or error).lower()
    return pillow.why_not("data set", item, error)


def with_cache(
    source: Source, recipe: Recipe, mode: CacheMode | None, budget_gb: float | None, num_threads: int
) -> Source:
    """Return a source that keeps decoded images in memory, or the source itself where `mode` is None.

    The images are kept as they reach the first op of the recipe.

    Raises:
        ConfigError: no such mode, or the images do not fit with mode "ram".
    """
    if mode is None:
        return source
    if mode not in ("ram", "auto"):
        raise ConfigError(f'cache: must be "ram", "auto" or None, got {mode!r}. Choose one of them.')
    from dalipipe.backends.ram_cache import RamCache

    return RamCache(source, mode, budget_gb, num_threads, apply_exif_orientation=recipe.apply_exif_orientation)
