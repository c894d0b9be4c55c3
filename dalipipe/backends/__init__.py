"""Backends: one recipe, compiled for DALI on a GPU, DALI on a CPU, or torchvision."""

from __future__ import annotations

import importlib.util
import logging
from functools import cache

from dalipipe.backends.base import CacheMode, Dtype, Executor, Finish, Job, MemoryFormat, Output, Result
from dalipipe.errors import BackendError, ConfigError, nearest
from dalipipe.recipes import ops
from dalipipe.recipes.recipe import Recipe
from dalipipe.sources import Source

BACKENDS = {
    "dali-gpu": "DALI's operators on a GPU, JPEG decoding included",
    "dali-cpu": "DALI decodes on the CPU, fused kernels do the rest",
    "dali-cpu-stock": "DALI's operators on the CPU",
    "torchvision": "the reference: Pillow and torchvision's kernels on tensors, in threads",
}
"""The backends and a phrase for each."""

__all__ = [
    "BACKENDS",
    "CacheMode",
    "Dtype",
    "Executor",
    "Finish",
    "Job",
    "MemoryFormat",
    "Output",
    "Result",
    "compile_recipe",
    "dali_is_there",
    "describe_step",
    "require_dali",
    "resolve_backend",
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
        _say_once(f"backend auto: {chosen} ({BACKENDS[chosen]})")
        return chosen
    if name not in BACKENDS:
        known = ", ".join(("auto", *BACKENDS))
        raise ConfigError(f"backend: unknown name {name!r}. {nearest(name, BACKENDS)}There are: {known}.")
    if name != "torchvision":
        require_dali(name)
    if name == "dali-gpu" and not cuda_works():
        raise BackendError(
            'dali-gpu: needs a CUDA device, and none works here. Use "dali-cpu", "dali-cpu-stock" or "auto".'
        )
    return name


def compile_recipe(job: Job, backend: str) -> Executor:
    """Return an executor for a job.

    Raises:
        BackendError: the backend can't run here, or lacks an op of the recipe.
        ConfigError: no such backend.
    """
    name = resolve_backend(backend)
    job.recipe.shapes()
    if job.levels is None and job.program.tail:
        raise ConfigError(
            'dtype: "uint8" is whole levels, which RandomErasing after Normalize or ToDtype has no place in, got both. '
            'Put RandomErasing before them, or choose "float32" or "float16".'
        )
    if name == "torchvision":
        from dalipipe.backends.torchvision import TorchvisionExecutor

        return TorchvisionExecutor(job)
    from dalipipe.backends import dali
    from dalipipe.backends.dali_executor import DaliExecutor, Graph

    if name == "dali-cpu":
        from dalipipe.backends import dali_fused

        return DaliExecutor(job, "cpu", Graph(dali_fused.build, dali_fused.prepare))
    dali.require_supported(job.recipe, name)
    return DaliExecutor(job, "gpu" if name == "dali-gpu" else "cpu", Graph(dali.build, dali.prepare))


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


def describe_step(recipe: Recipe, backend: str) -> list[str]:
    """Return what stands for each op of the recipe on a backend, as `dalipipe show` prints it.

    Raises:
        BackendError: the backend lacks an op, or is one of DALI's where that is not installed.
    """
    if backend == "torchvision":
        return [_functional(op) for op in recipe.ops]
    require_dali(backend)
    if backend == "dali-cpu":
        from dalipipe.backends import dali_fused

        return dali_fused.describe(recipe)
    from dalipipe.backends import dali

    return [f"fn.{name}" for name in dali.describe(recipe)]


def _functional(op: ops.Op) -> str:
    names = {
        ops.Pad: "pad",
        ops.RandomPerspective: "perspective",
        ops.GaussianBlur: "gaussian_blur",
        ops.ColorJitter: "adjust_brightness, _contrast, _saturation, _hue",
        ops.Grayscale: "rgb_to_grayscale",
        ops.RandomGrayscale: "rgb_to_grayscale",
        ops.RandomInvert: "invert",
        ops.RandomSolarize: "solarize",
        ops.RandomPosterize: "posterize",
        ops.RandomAutocontrast: "autocontrast",
        ops.RandomEqualize: "equalize",
        ops.RandomAdjustSharpness: "adjust_sharpness",
        ops.RandAugment: "affine, adjust_... and others",
        ops.TrivialAugmentWide: "affine, adjust_... and others",
        ops.AutoAugment: "affine, adjust_... and others",
        ops.RandomResizedCrop: "resized_crop",
        ops.Resize: "resize",
        ops.CenterCrop: "crop",
        ops.RandomCrop: "pad + crop",
        ops.RandomHorizontalFlip: "horizontal_flip",
        ops.RandomVerticalFlip: "vertical_flip",
        ops.RandomRotation: "affine",
        ops.RandomAffine: "affine",
        ops.RandomErasing: "erase",
    }
    found = (f"v2.functional.{names.get(type(leaf), 'normalize')}" for leaf in ops.leaves(op))
    return ", ".join(dict.fromkeys(found))
