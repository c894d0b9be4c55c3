"""A recipe as a graph of DALI's stock operators.

The device is an argument: the same lowering runs on the CPU and on a GPU.

item, uniforms, label ─ external_source
item ─ io.file.read ─► encoded ─ peek_image_shape ─► (H, W) ┐   (cut short where that is too many px)
uniforms ───────────────────────────────────────────────────┴─ resolve (Numba, CPU) ─► records, status
encoded, records ─ decoders.image_slice | decoders.image ─► one lowering a step ─► crop_mirror_normalize ─► images
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray
from nvidia.dali import fn, math, types
from nvidia.dali.data_node import DataNode
from nvidia.dali.pipeline import Pipeline

from dalipipe.backends import dali_colour
from dalipipe.backends.base import Job
from dalipipe.backends.compiled import operator, resolver
from dalipipe.backends.dali_input import (
    Device,
    InMemory,
    Loaded,
    Mixed,
    all_fine,
    bytes_constant,
    encode,
    load,
    one_channel,
    split,
    stand_in,
)
from dalipipe.decisions.geometry import ARGUMENTS, GREY
from dalipipe.decisions.program import Program
from dalipipe.decisions.records import ARGS, DO, IN_H, OUT_H, Do
from dalipipe.errors import BackendError
from dalipipe.recipes import Recipe, ops
from dalipipe.sources import Item

OUTPUTS = ["images", "labels", "status"]
DTYPES = {torch.float32: types.FLOAT, torch.float16: types.FLOAT16, torch.uint8: types.UINT8}


@dataclass(frozen=True)
class Step:
    """What a lowering gets to know.

    Attributes:
        op: The recipe's op.
        records: (n, RECORD) float64 for each sample, on the CPU.
        row: The op's row in `records`.
        device: Where the images are.
        program: The recipe's rows.
        chosen: Which samples go through the step; None where all do.
    """

    op: ops.Op
    records: DataNode
    row: int
    device: Device
    program: Program
    chosen: DataNode | None = None

    def numbers(self, start: int, stop: int, dtype: types.DALIDataType) -> DataNode:
        """Return numbers `start` to `stop` - 1 of the op's record, as a CPU tensor of the given type."""
        return fn.cast(self.records[self.row, start:stop], dtype=dtype)

    def argument(self, position: int) -> DataNode:
        """Return one of the record's arguments as a float32."""
        return self.number(ARGS + position, types.FLOAT)

    def size(self) -> DataNode:
        """Return height and width of the images before the step."""
        return self.numbers(IN_H, IN_H + 2, types.INT32)

    def constant(self, values: NDArray[Any]) -> DataNode:
        """Return an array for each sample that goes through the step, where the images are."""
        node = types.Constant(values, device=self.device)
        if self.chosen is None:
            return node
        return fn._conditional.split(node, predicate=self.chosen, _if_stmt=True)[0]

    def number(self, position: int, dtype: types.DALIDataType) -> DataNode:
        """Return one number of the op's record."""
        return fn.cast(self.records[self.row, position], dtype=dtype)


def _resize(images: DataNode, step: Step) -> DataNode:
    assert isinstance(step.op, ops.RandomResizedCrop | ops.Resize)
    size = step.numbers(OUT_H, OUT_H + 2, types.FLOAT)
    return fn.resize(images, size=size, interp_type=types.INTERP_LINEAR, antialias=step.op.antialias)


def _resized_crop(images: DataNode, step: Step) -> DataNode:
    return _resize(_window(images, step, shape=step.numbers(ARGS + 2, ARGS + 4, types.INT32)), step)


def _crop(images: DataNode, step: Step) -> DataNode:
    return _window(images, step, shape=step.numbers(OUT_H, OUT_H + 2, types.INT32))


def _window(images: DataNode, step: Step, shape: DataNode) -> DataNode:
    fill = step.op.fill if isinstance(step.op, ops.RandomCrop | ops.Pad) else (0, 0, 0)
    start = step.numbers(ARGS, ARGS + 2, types.INT32)
    return fn.slice(
        images, start=start, shape=shape, axes=[0, 1], out_of_bounds_policy="pad", fill_values=[float(v) for v in fill]
    )


def _flip(images: DataNode, step: Step) -> DataNode:
    mirror = {"horizontal": step.number(ARGS, types.INT32), "vertical": step.number(ARGS + 1, types.INT32)}
    return fn.flip(images, **mirror)


def _affine(images: DataNode, step: Step) -> DataNode:
    assert isinstance(step.op, ops.RandomRotation | ops.RandomAffine | ops.Policy)
    matrix = fn.reshape(step.numbers(ARGS, ARGS + 6, types.FLOAT), shape=[2, 3])
    fill = np.array(step.op.fill, np.float32)
    if step.op.interpolation == "bilinear":
        return _warp_bilinear(images, matrix, fill, step)

    def warp(picture: DataNode, level: float) -> DataNode:
        return fn.warp_affine(picture, matrix=matrix, fill_value=level, interp_type=types.INTERP_NN)

    if len(set(fill.tolist())) == 1:
        return warp(images, float(fill[0]))
    planes = [warp(images[:, :, channel : channel + 1], float(fill[channel])) for channel in range(3)]
    return fn.cat(*planes, axis=2)


def _warp_bilinear(images: DataNode, matrix: DataNode, fill: NDArray[np.float32], step: Step) -> DataNode:
    """Return images under a map, as torchvision has them: at the border the mask of the inside counts twice.

    Source: torchvision.transforms.v2.functional._geometry._apply_grid_transform.
    """
    warp = {"matrix": matrix, "fill_value": 0.0, "interp_type": types.INTERP_LINEAR, "dtype": types.FLOAT}
    full = math.max(images[:, :, 0:1], types.Constant(255, dtype=types.UINT8))
    inside, mask = fn.warp_affine(images, **warp), fn.warp_affine(full, **warp)
    share = np.float32(1 / 255)
    if fill.any():
        outside = step.constant(fill.reshape(1, 1, 3))
        return fn.cast((inside - outside) * (mask * share) + outside, dtype=types.UINT8)
    return fn.cast(inside * (mask * share), dtype=types.UINT8)


def _erase(images: DataNode, step: Step, layout: str = "HWC") -> DataNode:
    row = step.row
    value = step.program.table[row, ARGUMENTS + 5 : ARGUMENTS + 8].tolist()
    box = {"anchor": step.numbers(ARGS, ARGS + 2, types.FLOAT), "shape": step.numbers(ARGS + 2, ARGS + 4, types.FLOAT)}
    return fn.erase(fn.reshape(images, layout=layout), **box, axis_names="HW", fill_value=value)


def _blur(images: DataNode, step: Step) -> DataNode:
    assert isinstance(step.op, ops.GaussianBlur)
    across, down = step.op.kernel_size
    return fn.gaussian_blur(images, window_size=[down, across], sigma=step.number(ARGS + 2, types.FLOAT))


Lowering = Callable[[DataNode, Step], DataNode]

PRIMITIVES: dict[Do, Lowering] = {
    Do.AFFINE: _affine,
    Do.BRIGHTNESS: dali_colour.brightness,
    Do.CONTRAST: dali_colour.contrast,
    Do.CONTRAST_GREY: dali_colour.contrast_grey,
    Do.SATURATION: dali_colour.saturation,
    Do.HUE: dali_colour.hue,
    Do.SHARPNESS: dali_colour.sharpness,
    Do.SOLARIZE: dali_colour.solarize,
    Do.POSTERIZE: dali_colour.posterize,
    Do.GRAYSCALE: dali_colour.grayscale,
    Do.INVERT: dali_colour.invert,
    Do.AUTOCONTRAST: dali_colour.autocontrast,
    Do.EQUALIZE: dali_colour.equalize,
}
"""What each primitive becomes that a sample goes through, or not, as its record says."""

_SPACE = (Do.AFFINE, Do.BRIGHTNESS, Do.CONTRAST, Do.SATURATION, Do.SHARPNESS, Do.SOLARIZE, Do.POSTERIZE)


def _choices(op: ops.Op) -> tuple[Do, ...]:
    """Return the primitives that a step of an op may be; none where its lowering takes every sample."""
    match op:
        case ops.ColorJitter():
            return tuple(Do[name.upper()] for name, _ in op.active)
        case ops.AutoAugment():
            return (*_SPACE, Do.AUTOCONTRAST, Do.EQUALIZE, Do.INVERT)
        case ops.Policy():
            return (*_SPACE, Do.AUTOCONTRAST, Do.EQUALIZE)
    return _CHANCES.get(type(op), ())


_CHANCES: dict[type[ops.Op], tuple[Do, ...]] = {
    ops.Grayscale: (Do.GRAYSCALE,),
    ops.RandomGrayscale: (Do.GRAYSCALE,),
    ops.RandomInvert: (Do.INVERT,),
    ops.RandomSolarize: (Do.SOLARIZE,),
    ops.RandomPosterize: (Do.POSTERIZE,),
    ops.RandomAutocontrast: (Do.AUTOCONTRAST,),
    ops.RandomEqualize: (Do.EQUALIZE,),
    ops.RandomAdjustSharpness: (Do.SHARPNESS,),
}


def _routed(images: DataNode, step: Step, chosen: DataNode, lowering: Lowering) -> DataNode:
    """Take the chosen samples through a lowering and the others past it."""
    through, around = fn._conditional.split(images, predicate=chosen, _if_stmt=True)
    records, _ = fn._conditional.split(step.records, predicate=chosen, _if_stmt=True)
    return fn._conditional.merge(
        lowering(through, replace(step, records=records, chosen=chosen)), around, predicate=chosen
    )


def _chosen(images: DataNode, step: Step) -> DataNode:
    """Take each sample through the primitive that its record names, and past the others."""
    choices = _choices(step.op)
    if step.program.channels[step.row] == 1:
        choices = tuple(do for do in (GREY.get(do, do) for do in choices) if do is not Do.NOTHING)
    for do in choices:
        images = _routed(images, step, step.number(DO, types.INT32) == int(do), PRIMITIVES[do])
    return images


LOWERINGS: dict[type[ops.Op], tuple[Lowering, str]] = {
    ops.RandomResizedCrop: (_resized_crop, "slice + resize"),
    ops.Resize: (_resize, "resize"),
    ops.CenterCrop: (_crop, "slice"),
    ops.RandomCrop: (_crop, "slice"),
    ops.RandomHorizontalFlip: (_flip, "flip"),
    ops.RandomVerticalFlip: (_flip, "flip"),
    ops.RandomRotation: (_affine, "warp_affine"),
    ops.RandomAffine: (_affine, "warp_affine"),
    ops.RandomErasing: (_erase, "erase"),
    ops.Pad: (_crop, "slice"),
    ops.GaussianBlur: (_blur, "gaussian_blur"),
    ops.ColorJitter: (_chosen, "arithmetic"),
    **dict.fromkeys(_CHANCES, (_chosen, "arithmetic")),
    ops.RandomAutocontrast: (_chosen, "reductions, arithmetic"),
    ops.RandomEqualize: (_chosen, "reductions, arithmetic"),
    ops.RandomAdjustSharpness: (_chosen, "filter, arithmetic"),
    **dict.fromkeys(
        (ops.RandAugment, ops.TrivialAugmentWide, ops.AutoAugment),
        (_chosen, "warp_affine, filter, reductions, arithmetic"),
    ),
}
"""What each pixel op becomes, and how `dalipipe show` calls it. The ops of the range end in one
crop_mirror_normalize."""


def _name(op: ops.Op) -> str:
    return LOWERINGS[type(op)][1] if type(op) in LOWERINGS else "refused"


def describe(recipe: Recipe) -> list[str]:
    """Return the operator that stands for each op of the recipe."""
    names = []
    for position, op in enumerate(recipe.ops):
        if recipe.stages[position] == "range":
            names.append("crop_mirror_normalize")
        elif isinstance(op, ops.Container):
            names.append(f"split, {', '.join(dict.fromkeys(_name(leaf) for leaf in ops.leaves(op)))}, merge")
        elif position == 0 and isinstance(op, ops.RandomResizedCrop):
            names.append("decoders.image_slice + resize")
        else:
            names.append(_name(op))
    return names


def require_supported(recipe: Recipe, backend: str) -> None:
    """Refuse a recipe with an op that has no lowering.

    Raises:
        BackendError: names the op, the backend and what the backend has.
    """
    for op in [leaf for outer in recipe.ops for leaf in ops.leaves(outer)]:
        if op.stage == "pixels" and type(op) not in LOWERINGS:
            known = ", ".join(model.__name__ for model in LOWERINGS)
            raise BackendError(
                f'{backend}: no lowering for {op.op}. It has: {known}. Use backend "dali-cpu" or "torchvision".'
            )


def resolve_node(program: Program, uniforms: DataNode, shape: DataNode) -> tuple[DataNode, DataNode]:
    """Return the records (n, RECORD) float64 and the status (1,) int32 of each sample, computed on the CPU by Numba.

    Args:
        program: The recipe's pixel ops as numbers.
        uniforms: (max(1, total),) float64.
        shape: (3,) int64: height, width, channels of the image as decoded.
    """
    records, status = operator(resolver(), bytes_constant(program.table), uniforms, shape)
    return records, status


def _take(images: DataNode, step: Step) -> DataNode:
    """Take images through a step; through one that not every sample goes through only those that do."""
    lowering = LOWERINGS[type(step.op)][0]
    if not step.program.gated(step.row):
        return lowering(images, step)
    if _choices(step.op):
        return lowering(images, step)  # which tells apart where nothing is done as well
    return _routed(images, step, step.number(DO, types.BOOL), lowering)


def lower(job: Job, loaded: Loaded, records: DataNode, device: Device) -> tuple[DataNode, DataNode]:
    """Return the images that leave the recipe, in the job's form: CHW, or HWC for channels_last; and their status.

    Args:
        job: What to run.
        loaded: The images, on the CPU.
        records: What is done to each sample.
        device: Where the pixels are made.
    """
    program = job.program
    steps = [Step(op, records, row, device, program) for row, op in enumerate(program.ops)]
    steps, tail = steps[: len(steps) - program.tail], steps[len(steps) - program.tail :]
    whole = job.recipe.apply_exif_orientation
    if not whole and steps and isinstance(steps[0].op, ops.RandomResizedCrop) and not program.gated(0):
        first = steps.pop(0)
        box = first.numbers(ARGS, ARGS + 4, types.INT32)
        images, failed = loaded.decode(device, {"start": box[0:2], "shape": box[2:4]})
        images = _resize(images, first)
    else:
        images, failed = loaded.decode(device)
    for step in steps:
        images = _take(images, step)
    if job.levels is None:
        return images if job.channels_last else fn.transpose(images, perm=[2, 0, 1]), failed
    mean, std = [list(level) for level in job.levels]
    layout = "HWC" if job.channels_last else "CHW"
    images = fn.crop_mirror_normalize(images, mean=mean, std=std, dtype=DTYPES[job.dtype], output_layout=layout)
    for step in tail:
        images = _erase(images, step, layout)
    return images, failed


Feed = Callable[[], tuple[Any, ...]]


def prepare(items: Sequence[Item], kind: str) -> tuple[tuple[Any, ...], Any]:
    """Return what the graph gets for some items, and what must stay alive.

    That is the bytes of paths or images, or pixels; of mixed items the bytes, the pixels and which have pixels, with
    stand-ins in the place of what an item lacks.
    """
    if kind.startswith("mixed"):
        kept = [isinstance(item, np.ndarray) for item in items]
        none, dot = stand_in(kind), np.zeros((1, 1, 3), np.uint8)
        encoded = [none if isinstance(item, np.ndarray) else encode(item) for item in items]
        pixels = [np.ascontiguousarray(item) if isinstance(item, np.ndarray) else dot for item in items]
        return (encoded, pixels, np.array(kept)), items
    return ([np.ascontiguousarray(item) if kind == "pixels" else encode(item) for item in items],), items


def _inputs(feed: Feed, kind: str, job: Job) -> tuple[Loaded, DataNode, DataNode]:
    """Return images, uniforms and labels."""
    turned = job.recipe.apply_exif_orientation
    bytes_of, pixels_of = (types.UINT8, 1, ""), (types.UINT8, 3, "HWC")
    first = [pixels_of] if kind == "pixels" else [bytes_of]
    if kind.startswith("mixed"):
        first = [bytes_of, pixels_of, (types.BOOL, 0, "")]
    signature = [*first, (types.FLOAT64, 1, ""), (types.INT64, 0, "")]
    dtypes, ndims, layouts = (list(part) for part in zip(*signature, strict=True))
    nodes = fn.external_source(source=feed, num_outputs=len(signature), layout=layouts, dtype=dtypes, ndim=ndims)
    if kind == "pixels":
        return InMemory(nodes[0], all_fine()), nodes[-2], nodes[-1]
    if not kind.startswith("mixed"):
        return load(nodes[0], kind, turned, budget=job.budget), nodes[-2], nodes[-1]
    kept = nodes[2]
    memory = InMemory(split(nodes[1], kept)[0], split(all_fine(), kept)[0])
    return Mixed(kept, memory, load(nodes[0], kind, turned, kept, job.budget)), nodes[-2], nodes[-1]


def build(job: Job, kind: str, device: Device, feed: Feed) -> Pipeline:
    """Return the pipeline of a job, not yet built, with outputs images, labels (int64) and status (int32).

    Args:
        job: What to run.
        kind: What the source's items are: "path", "bytes", "pixels", "mixed path" or "mixed bytes".
        device: Where the pixels are made.
        feed: Called for each batch; returns what `prepare` makes of the items, uniforms and labels, or raises
            StopIteration at the end of an epoch.
    """
    pipeline = Pipeline(
        batch_size=job.batch_size,
        num_threads=job.num_threads,
        device_id=job.device_id if device == "gpu" else None,
        prefetch_queue_depth=job.prefetch,
        exec_dynamic=True,
    )
    with pipeline:
        loaded, uniforms, label = _inputs(feed, kind, job)
        records, status = resolve_node(job.program, uniforms, loaded.shape)
        images, failed = lower(job, loaded, records, device)
        if job.recipe.channels[-1] == 1:
            images = one_channel(images, 2 if job.channels_last else 0)
        pipeline.set_outputs(images, label.gpu() if device == "gpu" else label, math.max(status, failed))
    return pipeline
