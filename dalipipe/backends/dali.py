"""A recipe as a graph of DALI's stock operators.

The device is an argument: the same lowering runs on the CPU and on a GPU.

item, uniforms, label ─ external_source
item ─ io.file.read ─► encoded ─ peek_image_shape ─► (H, W) ┐   (cut short where that is too many px)
uniforms ───────────────────────────────────────────────────┴─ resolve (Numba, CPU) ─► records, status
encoded, records ─ decoders.image_slice | decoders.image ─► one lowering a row ─► crop_mirror_normalize ─► images
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
    Decoded,
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
from dalipipe.backends.table import Entry, decoded_window
from dalipipe.decisions.geometry import COLUMN
from dalipipe.decisions.program import Program
from dalipipe.recipes import ops
from dalipipe.recipes.primitives import ARGS, DO, IN_H, OUT_H, Primitive, places_of
from dalipipe.recipes.rules import Rule
from dalipipe.recipes.rules import places_of as numbers_of
from dalipipe.sources import Item

OUTPUTS = ["images", "labels", "status"]


def outputs_of(job: Job) -> list[str]:
    """Return the names of what a graph of a job puts out: those of `OUTPUTS`, then "images1" for view 1, and so on."""
    return [*OUTPUTS, *(f"images{number}" for number in range(1, len(job.views)))]


DTYPES = {torch.float32: types.FLOAT, torch.float16: types.FLOAT16, torch.uint8: types.UINT8}


_BOX, _WINDOW, _FLIP = (places_of(one) for one in (Primitive.CROP_RESIZE, Primitive.CROP_PAD, Primitive.FLIP))
_AFFINE, _ERASE, _MAP = (places_of(one) for one in (Primitive.AFFINE, Primitive.ERASE, Primitive.PERSPECTIVE))
_BLUR = places_of(Primitive.BLUR)


@dataclass(frozen=True)
class Context:
    """What the function of a primitive gets to know of its row in a recipe.

    Attributes:
        given: What the recipe's op gives to its rule: the numbers that DALI wants when the graph is built.
        becomes: What a sample may go through here.
        records: (n, RECORD) float64 for each sample, on the CPU.
        row: Its row in `records`.
        device: Where the images are.
        program: The recipe's rows.
        chosen: Which samples go through the primitive; None where all do.
    """

    given: ops.Numbers
    becomes: tuple[Primitive, ...]
    records: DataNode
    row: int
    device: Device
    program: Program
    chosen: DataNode | None = None

    def numbers(self, start: int, stop: int, dtype: types.DALIDataType) -> DataNode:
        """Return numbers `start` to `stop` - 1 of the op's record, as a CPU tensor of the given type."""
        return fn.cast(self.records[self.row, start:stop], dtype=dtype)

    def argument(self, position: int) -> DataNode:
        """Return one of the primitive's fields as a float32."""
        return self.number(ARGS + position, types.FLOAT)

    def size(self) -> DataNode:
        """Return height and width of the images before the primitive."""
        return self.numbers(IN_H, IN_H + 2, types.INT32)

    def constant(self, values: NDArray[Any]) -> DataNode:
        """Return an array for each sample that goes through the primitive, where the images are."""
        node = types.Constant(values, device=self.device)
        if self.chosen is None:
            return node
        return fn._conditional.split(node, predicate=self.chosen, _if_stmt=True)[0]

    def number(self, position: int, dtype: types.DALIDataType) -> DataNode:
        """Return one number of the op's record."""
        return fn.cast(self.records[self.row, position], dtype=dtype)


_FILTERS = {
    "bilinear": types.INTERP_LINEAR,
    "bicubic": types.INTERP_CUBIC,
    "nearest-exact": types.INTERP_NN,
}


def _resize(images: DataNode, context: Context) -> DataNode:
    size = context.numbers(OUT_H, OUT_H + 2, types.FLOAT)
    method, smooth = context.given["interpolation"], context.given["antialias"]
    if method != "nearest":
        kind = _FILTERS[method]
        return fn.resize(images, size=size, interp_type=kind, antialias=smooth and kind != types.INTERP_NN)
    # DALI takes the px below the middle of each output px, torch the one below its first corner: half a px before it.
    box = context.numbers(_BOX.height, _BOX.width + 1, types.FLOAT)
    start = box / size * -0.5
    return fn.resize(images, size=size, interp_type=types.INTERP_NN, roi_start=start, roi_end=start + box)


def _crop_resize(images: DataNode, context: Context) -> DataNode:
    if "scale" not in context.given:
        return _resize(images, context)  # of the whole image
    return _resize(_window(images, context, shape=context.numbers(_BOX.height, _BOX.width + 1, types.INT32)), context)


def _crop_pad(images: DataNode, context: Context) -> DataNode:
    return _window(images, context, shape=context.numbers(OUT_H, OUT_H + 2, types.INT32))


def _window(images: DataNode, context: Context, shape: DataNode) -> DataNode:
    fill = [float(level) for level in context.given.get("fill", (0, 0, 0))]
    start = context.numbers(_WINDOW.top, _WINDOW.left + 1, types.INT32)  # a box begins with the same fields
    return fn.slice(images, start=start, shape=shape, axes=[0, 1], out_of_bounds_policy="pad", fill_values=fill)


def _flip(images: DataNode, context: Context) -> DataNode:
    across, down = context.number(_FLIP.across, types.INT32), context.number(_FLIP.down, types.INT32)
    return fn.flip(images, horizontal=across, vertical=down)


def _affine(images: DataNode, context: Context) -> DataNode:
    matrix = fn.reshape(context.numbers(_AFFINE.matrix, _AFFINE.matrix + 6, types.FLOAT), shape=[2, 3])

    def warp(picture: DataNode, method: types.DALIInterpType, dtype: types.DALIDataType, fill: float) -> DataNode:
        return fn.warp_affine(picture, matrix=matrix, fill_value=fill, interp_type=method, dtype=dtype)

    return _warped(images, context, warp)


def _perspective(images: DataNode, context: Context) -> DataNode:
    eight = context.numbers(_MAP.coefficients, _MAP.coefficients + 8, types.FLOAT)
    one = fn.cast(context.records[context.row, DO : DO + 1] > 0, dtype=types.FLOAT)  # w = g x + h y + 1
    matrix = fn.reshape(fn.cat(eight, one), shape=[3, 3])

    def warp(picture: DataNode, method: types.DALIInterpType, dtype: types.DALIDataType, fill: float) -> DataNode:
        made = fn.cast(picture, dtype=dtype)
        return fn.experimental.warp_perspective(made, matrix=matrix, fill_value=fill, interp_type=method)

    return _warped(images, context, warp)


Warp = Callable[[DataNode, types.DALIInterpType, types.DALIDataType, float], DataNode]


def _warped(images: DataNode, context: Context, warp: Warp) -> DataNode:
    """Return images under a map, as torchvision has them: with bilinear weights the mask of the inside counts twice.

    Source: torchvision.transforms.v2.functional._geometry._apply_grid_transform.
    """
    fill = np.array(context.given["fill"], np.float32)
    if context.given["interpolation"] == "nearest":
        if len(set(fill.tolist())) == 1:
            return warp(images, types.INTERP_NN, types.UINT8, float(fill[0]))
        planes = [
            warp(images[:, :, channel : channel + 1], types.INTERP_NN, types.UINT8, float(fill[channel]))
            for channel in range(3)
        ]
        return fn.cat(*planes, axis=2)
    full = math.max(images[:, :, 0:1], types.Constant(255, dtype=types.UINT8))
    inside, mask = (warp(picture, types.INTERP_LINEAR, types.FLOAT, 0.0) for picture in (images, full))
    share = np.float32(1 / 255)
    if fill.any():
        outside = context.constant(fill.reshape(1, 1, 3))
        return fn.cast((inside - outside) * (mask * share) + outside, dtype=types.UINT8)
    return fn.cast(inside * (mask * share), dtype=types.UINT8)


def _erase(images: DataNode, context: Context, layout: str = "HWC") -> DataNode:
    first = COLUMN.numbers + numbers_of(Rule.ERASING).value
    value = context.program.table[context.row, first : first + 3].tolist()
    anchor = context.numbers(_ERASE.top, _ERASE.left + 1, types.FLOAT)
    shape = context.numbers(_ERASE.height, _ERASE.width + 1, types.FLOAT)
    images = fn.reshape(images, layout=layout)
    return fn.erase(images, anchor=anchor, shape=shape, axis_names="HW", fill_value=value)


def _blur(images: DataNode, context: Context) -> DataNode:
    across, down = context.given["kernel_size"]
    return fn.gaussian_blur(images, window_size=[down, across], sigma=context.number(_BLUR.sigma, types.FLOAT))


Lowering = Callable[[DataNode, Context], DataNode]

TABLE: dict[Primitive, Entry] = {
    Primitive.CROP_RESIZE: Entry(_crop_resize, lambda op: "resize" if op.op == "Resize" else "slice + resize"),
    Primitive.CROP_PAD: Entry(_crop_pad, "slice"),
    Primitive.FLIP: Entry(_flip, "flip"),
    Primitive.AFFINE: Entry(_affine, "warp_affine"),
    Primitive.ERASE: Entry(_erase, "erase"),
    Primitive.PERSPECTIVE: Entry(_perspective, "experimental.warp_perspective"),
    Primitive.BLUR: Entry(_blur, "gaussian_blur"),
    **dali_colour.TABLE,
}
"""What each primitive becomes. The ops of the range end in one crop_mirror_normalize."""


def _routed(images: DataNode, context: Context, chosen: DataNode, lowering: Lowering) -> DataNode:
    """Take the chosen samples through a function and the others past it."""
    through, around = fn._conditional.split(images, predicate=chosen, _if_stmt=True)
    records, _ = fn._conditional.split(context.records, predicate=chosen, _if_stmt=True)
    return fn._conditional.merge(
        lowering(through, replace(context, records=records, chosen=chosen)), around, predicate=chosen
    )


def _take(images: DataNode, context: Context) -> DataNode:
    """Take each sample through the primitive that its record names, or past all where it names none."""
    if len(context.becomes) == 1 and context.program.is_for_all(context.row):
        return TABLE[context.becomes[0]].function(images, context)
    for primitive in context.becomes:
        chosen = context.number(DO, types.INT32) == int(primitive)
        images = _routed(images, context, chosen, TABLE[primitive].function)
    return images


def resolve_node(program: Program, uniforms: DataNode, shape: DataNode) -> tuple[DataNode, DataNode]:
    """Return the records (n, RECORD) float64 and the status (1,) int32 of each sample, computed on the CPU by Numba.

    Args:
        program: The recipe's pixel ops as numbers.
        uniforms: (max(1, total),) float64.
        shape: (3,) int64: height, width, channels of the image as decoded.
    """
    records, status = operator(resolver(), bytes_constant(program.table), uniforms, shape)
    return records, status


def lower(job: Job, loaded: Loaded, records: DataNode, device: Device) -> tuple[DataNode, DataNode]:
    """Return the images that leave the recipe, in the job's form: CHW, or HWC for channels_last; and their status.

    Args:
        job: What to run.
        loaded: The images, on the CPU.
        records: What is done to each sample.
        device: Where the pixels are made.
    """
    program = job.program
    contexts = [
        Context(program.given[row], program.becomes[row], records, row, device, program) for row in range(len(program))
    ]
    contexts, tail = contexts[: len(contexts) - program.tail], contexts[len(contexts) - program.tail :]
    whole = job.recipe.apply_exif_orientation
    if not whole and contexts and decoded_window(program.ops[0]) and program.is_for_all(0):
        first = contexts.pop(0)
        box = first.numbers(_BOX.top, _BOX.width + 1, types.INT32)
        images, failed = loaded.decode(device, {"start": box[0:2], "shape": box[2:4]})
        images = _resize(images, first)
    else:
        images, failed = loaded.decode(device)
    for context in contexts:
        images = _take(images, context)
    if job.levels is None:
        return images if job.channels_last else fn.transpose(images, perm=[2, 0, 1]), failed
    mean, std = [list(level) for level in job.levels]
    layout = "HWC" if job.channels_last else "CHW"
    images = fn.crop_mirror_normalize(images, mean=mean, std=std, dtype=DTYPES[job.dtype], output_layout=layout)
    for context in tail:
        images = _erase(images, context, layout)
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


def _inputs(feed: Feed, kind: str, job: Job) -> tuple[Loaded, DataNode, list[DataNode]]:
    """Return images, labels and, for each view, uniforms."""
    turned = job.recipe.apply_exif_orientation
    bytes_of, pixels_of = (types.UINT8, 1, ""), (types.UINT8, 3, "HWC")
    first = [pixels_of] if kind == "pixels" else [bytes_of]
    if kind.startswith("mixed"):
        first = [bytes_of, pixels_of, (types.BOOL, 0, "")]
    signature = [*first, (types.INT64, 0, ""), *[(types.FLOAT64, 1, "")] * len(job.views)]
    dtypes, ndims, layouts = (list(part) for part in zip(*signature, strict=True))
    nodes = fn.external_source(source=feed, num_outputs=len(signature), layout=layouts, dtype=dtypes, ndim=ndims)
    label, uniforms = nodes[len(first)], list(nodes[len(first) + 1 :])
    if kind == "pixels":
        return InMemory(nodes[0], all_fine()), label, uniforms
    if not kind.startswith("mixed"):
        return load(nodes[0], kind, turned, budget=job.budget), label, uniforms
    kept = nodes[2]
    memory = InMemory(split(nodes[1], kept)[0], split(all_fine(), kept)[0])
    return Mixed(kept, memory, load(nodes[0], kind, turned, kept, job.budget)), label, uniforms


def build(job: Job, kind: str, device: Device, feed: Feed) -> Pipeline:
    """Return the pipeline of a job, not yet built, with outputs images, labels (int64) and status (int32).

    Args:
        job: What to run.
        kind: What the source's items are: "path", "bytes", "pixels", "mixed path" or "mixed bytes".
        device: Where the pixels are made.
        feed: Called for each batch; returns what `prepare` makes of the items, labels and the uniforms of each view, or
            raises StopIteration at the end of an epoch.
    """
    pipeline = Pipeline(
        batch_size=job.batch_size,
        num_threads=job.num_threads,
        device_id=job.device_id if device == "gpu" else None,
        prefetch_queue_depth=job.prefetch,
        exec_dynamic=True,
    )
    with pipeline:
        loaded, label, uniforms = _inputs(feed, kind, job)
        loaded = loaded if len(job.views) == 1 else Decoded(loaded.shape, *loaded.decode(device))
        status, made = all_fine(), []
        for view, drawn in zip(job.views, uniforms, strict=True):
            records, resolved = resolve_node(view.program, drawn, loaded.shape)
            images, failed = lower(view, loaded, records, device)
            status = math.max(status, math.max(resolved, failed))
            made.append(one_channel(images, 2 if job.channels_last else 0) if view.recipe.channels[-1] == 1 else images)
        pipeline.set_outputs(made[0], label.gpu() if device == "gpu" else label, status, *made[1:])
    return pipeline
