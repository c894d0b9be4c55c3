"""The fast CPU backend: DALI decodes the window that a sample needs, one Numba operator does all that follows.

    item, uniforms, label ─ external_source
    item ─ io.file.read ─► encoded ─ peek_image_shape ─► (H, W) ┐   (cut short where that is too many px)
    uniforms ───────────────────────────────────────────────────┴─ window ─► records, status, start, extent
    encoded, start, extent ─ decoders.image_slice ─► pixels ┐
    records, start ─────────────────────────────────────────┴─ runner ─► images

Pixels that are in memory already are read where they lie: their address goes in, nothing is copied.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from functools import cache, reduce
from typing import Any

import numpy as np
import torch
from numba import carray
from numpy.typing import NDArray
from nvidia.dali import fn, math, types
from nvidia.dali.data_node import DataNode
from nvidia.dali.pipeline import Pipeline

from dalipipe.backends.base import Job
from dalipipe.backends.compiled import (
    RUN_SIGNATURE,
    SETUP_SIGNATURE,
    Compiled,
    addresses,
    floats,
    integers,
    operator,
    resolve_sample,
    set_records_shape,
    shape_of,
)
from dalipipe.backends.dali import Feed
from dalipipe.backends.dali_input import (
    Device,
    all_fine,
    bytes_constant,
    encode,
    load,
    merge,
    one_channel,
    split,
    split_window,
    stand_in,
)
from dalipipe.backends.kernels import finish_of, output_in, run_steps, view_in
from dalipipe.compilation import address_as_void_pointer, callback, compiled
from dalipipe.decisions.regions import regions
from dalipipe.recipes.primitives import OUT_H, OUT_W, RECORD
from dalipipe.sources import Item

_FINISH = 16  # numbers of the finish; the strides and the size of the output follow


def _window_setup(out_shapes, out_ndims, num_outs, in_shapes, in_ndims, num_ins, samples):
    for sample in range(samples):
        set_records_shape(out_shapes, in_shapes, sample, samples)
        shape_of(out_shapes, 1, sample, samples, 1)[0] = 1
        shape_of(out_shapes, 2, sample, samples, 1)[0] = 2
        shape_of(out_shapes, 3, sample, samples, 1)[0] = 2


def _window_run(outs, out_shapes, out_ndims, num_outs, ins, in_shapes, in_ndims, num_ins):
    out = addresses(outs, 4)
    records, _height, _width = resolve_sample(out, addresses(ins, 3), in_shapes)
    start, extent = integers(out[2], 2), integers(out[3], 2)
    needed = np.empty((len(records) + 1, 4), np.int64)
    regions(records, int(records[-1, OUT_H]), int(records[-1, OUT_W]), needed)
    start[0], start[1], extent[0], extent[1] = needed[0, 0], needed[0, 1], needed[0, 2], needed[0, 3]


@cache
def window() -> Compiled:
    """Return the operator that resolves a sample and finds the window to decode.

    A Program's table, uniforms, size (2,) int64 -> records, status, start (2,) and extent (2,) int32 of the window, px.
    """
    return Compiled(
        callback(SETUP_SIGNATURE)(_window_setup),
        callback(RUN_SIGNATURE)(_window_run),
        outputs=((types.FLOAT64, 2), (types.INT32, 1), (types.INT32, 1), (types.INT32, 1)),
        inputs=((types.UINT8, 1), (types.FLOAT64, 1), (types.INT64, 1)),
    )


@compiled
def _arguments(ins, in_shapes):
    """Return what `run_steps` takes, but for the output its finish, form and number of values: view, records, these.

    The pixels are the decoded ones or, if the address in input 5 is not zero, those that lie there.
    """
    zero = np.int64(0)
    into = addresses(ins, 6)
    size, place, start = shape_of(in_shapes, 0, 0, 1, 3), addresses(into[5], 3), integers(into[2], 2)
    address, height, width, top, left = into[0], size[0], size[1], np.int64(start[0]), np.int64(start[1])
    if place[0] != 0:
        address, height, width, top, left = place[0], place[1], place[2], zero, zero
    pixels = carray(address_as_void_pointer(address), height * width * 3, dtype=np.uint8)
    records = carray(address_as_void_pointer(into[1]), (shape_of(in_shapes, 1, 0, 1, 2)[0], RECORD), dtype=np.float64)
    numbers = floats(into[3], shape_of(in_shapes, 3, 0, 1, 1)[0] // 8)
    form = numbers[_FINISH:].astype(np.int64)
    view = view_in(pixels, height, width, top, left)
    return view, records, numbers[:_FINISH].astype(np.float32), form, 3 * form[3] * form[4]


def _run_setup(out_shapes, out_ndims, num_outs, in_shapes, in_ndims, num_ins, samples):
    """Write the shape of images: the first three sides of the empty tensor that is input 4."""
    for sample in range(samples):
        image, sides = shape_of(out_shapes, 0, sample, samples, 3), shape_of(in_shapes, 4, sample, samples, 4)
        image[0], image[1], image[2] = sides[0], sides[1], sides[2]


def _run_to_floats(outs, out_shapes, out_ndims, num_outs, ins, in_shapes, in_ndims, num_ins):
    view, records, finish, form, count = _arguments(ins, in_shapes)
    values = carray(address_as_void_pointer(addresses(outs, 1)[0]), count, dtype=np.float32)
    run_steps(view, records, output_in(values, finish, form))


def _run_to_levels(outs, out_shapes, out_ndims, num_outs, ins, in_shapes, in_ndims, num_ins):
    view, records, finish, form, count = _arguments(ins, in_shapes)
    values = carray(address_as_void_pointer(addresses(outs, 1)[0]), count, dtype=np.uint8)
    run_steps(view, records, output_in(values, finish, form))


@cache
def runner(dtype: torch.dtype) -> Compiled:
    """Return the operator that takes pixels through their steps.

    Pixels (H, W, 3) uint8, records, start (2,) int32, finish and form, blank (a, b, c, 0), place (3,) int64 (address,
    height and width of pixels in memory, or zeros) -> images (a, b, c), uint8 or float32.
    """
    levels = dtype == torch.uint8
    return Compiled(
        callback(SETUP_SIGNATURE)(_run_setup),
        callback(RUN_SIGNATURE)(_run_to_levels if levels else _run_to_floats),
        outputs=((types.UINT8 if levels else types.FLOAT, 3),),
        inputs=(
            (types.UINT8, 3),
            (types.FLOAT64, 2),
            (types.INT32, 1),
            (types.UINT8, 1),
            (types.UINT8, 4),
            (types.INT64, 1),
        ),
    )


def finish_and_form(job: Job) -> tuple[DataNode, DataNode]:
    """Return the numbers that finish the output and lay it out, and the empty tensor that has its shape."""
    _, height, width = job.recipe.output_shape
    scaling = None if job.levels is None else job.recipe.scaling
    unit, mean, std = scaling or (1.0, (0.0,) * 3, (1.0,) * 3)
    finish = finish_of(unit, mean, std)
    strides, sides = ([height * width, width, 1], (3, height, width))
    if job.channels_last:
        strides, sides = ([1, 3 * width, 3], (height, width, 3))
    numbers = np.array([*finish, *strides, height, width], dtype=np.float64)
    blank = types.Constant(np.zeros((*sides, 0), np.uint8), dtype=types.UINT8, device="cpu")
    return bytes_constant(numbers), blank


def prepare(items: Sequence[Item], kind: str) -> tuple[tuple[Any, ...], Any]:
    """Return what the graph gets for some items, and what must stay alive until the batch is done.

    "pixels": where they lie, (n, 3) int64 of address, height, width. "mixed path"
    and "mixed bytes": the same, with zeros for an item that must be decoded, and its bytes; the bytes of a stand-in
    for one that need not be.
    """
    if kind in ("path", "bytes"):
        return ([encode(item) for item in items],), items
    arrays = [np.ascontiguousarray(item) if isinstance(item, np.ndarray) else None for item in items]
    place = np.array([(0, 0, 0) if a is None else (a.ctypes.data, *a.shape[:2]) for a in arrays], dtype=np.int64)
    if kind == "pixels":
        return (place,), arrays
    none = stand_in(kind)
    return ([none if isinstance(item, np.ndarray) else encode(item) for item in items], place), arrays


def _inputs(feed: Feed, kind: str, views: int) -> tuple[DataNode, DataNode, DataNode, list[DataNode]]:
    """Return item, place (zeros where every image is decoded), labels and uniforms; without item, place twice."""
    item, place = (types.UINT8, 1), (types.INT64, 1)
    mixed = kind.startswith("mixed")
    first = [item, place] if mixed else [place] if kind == "pixels" else [item]
    signature = [*first, (types.INT64, 0), *[(types.FLOAT64, 1)] * views]
    nodes = fn.external_source(
        source=feed,
        num_outputs=len(signature),
        dtype=[dtype for dtype, _ in signature],
        ndim=[ndim for _, ndim in signature],
    )
    items, label, uniforms = nodes[: len(first)], nodes[len(first)], list(nodes[len(first) + 1 :])
    if kind == "pixels" or mixed:
        return items[0], items[-1], label, uniforms
    return items[0], types.Constant(np.zeros(3, np.int64), dtype=types.INT64, device="cpu"), label, uniforms


@dataclass(frozen=True)
class _Resolved:
    """What is done to the samples of a batch in one view.

    Attributes:
        records: See `resolve_sample`.
        status: Whether that can be done.
        start: First row and column of what it needs, px.
        extent: Rows and columns of that.
    """

    records: DataNode
    status: DataNode
    start: DataNode
    extent: DataNode


def _resolved(job: Job, uniforms: list[DataNode], size: DataNode) -> list[_Resolved]:
    pairs = zip(job.views, uniforms, strict=True)
    return [_Resolved(*operator(window(), bytes_constant(view.program.table), drawn, size)) for view, drawn in pairs]


def _union(views: list[_Resolved]) -> tuple[DataNode, DataNode]:
    """Return start and extent of what all views need."""
    start, stop = views[0].start, views[0].start + views[0].extent
    for view in views[1:]:
        start, stop = math.min(start, view.start), math.max(stop, view.start + view.extent)
    return start, stop - start


def _decode_windows(
    item: DataNode, place: DataNode, uniforms: list[DataNode], job: Job, kind: str
) -> tuple[DataNode, list[_Resolved], DataNode, DataNode]:
    """Return pixels, what is done to them in each view, status and start, decoded as far as the views need them.

    Where `place` says that pixels are in memory, one px stands for them. Photos that are turned are decoded whole.
    """
    turned = job.recipe.apply_exif_orientation
    mixed = kind.startswith("mixed")
    kept = place[0] != 0
    loaded = load(item, kind, turned, kept if mixed else None, job.budget)
    size = merge(split(place[1:3], kept)[0], loaded.shape[0:2], kept) if mixed else loaded.shape
    views = _resolved(job, uniforms, size)
    start, extent = (views[0].start, views[0].extent) if len(views) == 1 else _union(views)
    box = None if turned else {"start": start, "shape": extent}
    pixels, failed = loaded.decode("cpu", split_window(box, kept)[1] if mixed else box)
    if mixed:
        pixels = merge(split(_constant(np.zeros((1, 1, 3), np.uint8), layout="HWC"), kept)[0], pixels, kept)
        failed = merge(split(all_fine(), kept)[0], failed, kept)
    start = _constant(np.zeros(2, np.int32)) if turned else start
    return pixels, views, _worst([failed, *(view.status for view in views)]), start


def _worst(statuses: list[DataNode]) -> DataNode:
    """Return the greatest status of each sample."""
    return reduce(math.max, statuses)


def _constant(numbers: NDArray[Any], layout: str | None = None) -> DataNode:
    dtype = types.UINT8 if numbers.dtype == np.uint8 else types.INT32
    return types.Constant(numbers, dtype=dtype, device="cpu", layout=layout)


def build(job: Job, kind: str, _device: Device, feed: Feed) -> Pipeline:
    """Return the pipeline of a job, not yet built; as `dali.build`, on the CPU."""
    pipeline = Pipeline(
        batch_size=job.batch_size,
        num_threads=job.num_threads,
        device_id=None,
        prefetch_queue_depth=job.prefetch,
        exec_dynamic=True,
    )
    with pipeline:
        item, place, label, uniforms = _inputs(feed, kind, len(job.views))
        if kind == "pixels":
            views = _resolved(job, uniforms, place[1:3])
            pixels, start = _constant(np.zeros((1, 1, 3), np.uint8)), views[0].start
            status = _worst([view.status for view in views])
        else:
            pixels, views, status, start = _decode_windows(item, place, uniforms, job, kind)
        made = [_made(one, pixels, view, start, place) for one, view in zip(job.views, views, strict=True)]
        pipeline.set_outputs(made[0], label, status, *made[1:])
    return pipeline


def _made(job: Job, pixels: DataNode, view: _Resolved, start: DataNode, place: DataNode) -> DataNode:
    """Return the images of one view."""
    images = operator(runner(job.dtype), pixels, view.records, start, *finish_and_form(job), place)
    if job.recipe.channels[-1] == 1:
        images = one_channel(images, 2 if job.channels_last else 0)
    return fn.cast(images, dtype=types.FLOAT16) if job.dtype == torch.float16 else images
