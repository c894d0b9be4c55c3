"""The fast CPU backend: DALI decodes the window that a sample needs, one Numba operator does all that follows.

    item, uniforms, label ─ external_source
    item ─ io.file.read ─► encoded ─ peek_image_shape ─► (H, W) ┐
    uniforms ───────────────────────────────────────────────────┴─ WINDOW ─► records, status, start, extent
    encoded, start, extent ─ decoders.image_slice ─► pixels ┐
    records, start ─────────────────────────────────────────┴─ RUN ─► images

Pixels that are in memory already are read where they lie: their address goes in, nothing is copied.
"""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np
import torch
from numba import carray, cfunc, njit
from nvidia.dali import fn, math, types
from nvidia.dali.data_node import DataNode
from nvidia.dali.pipeline import Pipeline
from nvidia.dali.plugin.numba import address_as_void_pointer

from dalipipe import ops
from dalipipe.backends.base import Job
from dalipipe.backends.compiled import (
    RUN_SIGNATURE,
    SETUP_SIGNATURE,
    Compiled,
    addresses,
    floats,
    operator,
    resolve_sample,
    set_records_shape,
    shape_of,
    table_of,
)
from dalipipe.backends.dali import Device, Feed, bytes_constant, decode, encode, load
from dalipipe.backends.kernels import run_steps
from dalipipe.geometry import OUT_H, OUT_W, RECORD, regions, resolve
from dalipipe.recipe import Recipe
from dalipipe.sources.base import Item

_TABLE, _VECTOR = (types.UINT8, 1), (types.FLOAT64, 1)
_STAND_IN = Path(__file__).with_name("pixel.ppm")
_FINISH = 6  # numbers of the finish: scale and shift of each channel; the strides and the size of the output follow


@cfunc(SETUP_SIGNATURE, cache=True)
def _window_setup(out_shapes, out_ndims, num_outs, in_shapes, in_ndims, num_ins, samples):
    for sample in range(samples):
        set_records_shape(out_shapes, in_shapes, sample, samples)
        shape_of(out_shapes, 1, sample, samples, 1)[0] = 1
        shape_of(out_shapes, 2, sample, samples, 1)[0] = 2
        shape_of(out_shapes, 3, sample, samples, 1)[0] = 2


@cfunc(RUN_SIGNATURE, cache=True)
def _window_run(outs, out_shapes, out_ndims, num_outs, ins, in_shapes, in_ndims, num_ins):
    out = addresses(outs, 4)
    records, _height, _width = resolve_sample(out, addresses(ins, 3), in_shapes)
    start = carray(address_as_void_pointer(out[2]), 2, dtype=np.int32)
    extent = carray(address_as_void_pointer(out[3]), 2, dtype=np.int32)
    needed = np.empty((len(records) + 1, 4), np.int64)
    regions(records, int(records[-1, OUT_H]), int(records[-1, OUT_W]), needed)
    start[0], start[1], extent[0], extent[1] = needed[0, 0], needed[0, 1], needed[0, 2], needed[0, 3]


WINDOW = Compiled(
    _window_setup,
    _window_run,
    outputs=((types.FLOAT64, 2), (types.INT32, 1), (types.INT32, 1), (types.INT32, 1)),
    inputs=(_TABLE, _VECTOR, (types.INT64, 1)),
)
"""A Program's table, uniforms, shape (3,) int64 -> records, status, start (2,) and extent (2,) of the window to
decode, px."""


@njit(cache=True)
def _run(pixels, height, width, corner, records, numbers, out):
    """Run the steps; `numbers` are the finish and the output plan."""
    finish = numbers[:_FINISH].astype(np.float32)
    plan = numbers[_FINISH:].astype(np.int64)
    run_steps(pixels, height, width, corner, records, finish, out, (plan[0], plan[1], plan[2], plan[3], plan[4], 0, 0))


@njit(cache=True)
def _set_image_shape(out_shapes, in_shapes, blank, sample, samples):
    """Write the shape of images (output 0): the first three sides of the empty tensor that is input `blank`."""
    image, sides = shape_of(out_shapes, 0, sample, samples, 3), shape_of(in_shapes, blank, sample, samples, 4)
    image[0], image[1], image[2] = sides[0], sides[1], sides[2]


@njit(cache=True)
def _run_decoded(out, into, in_shapes):
    """Take decoded pixels through their steps; inputs: pixels, records, start, numbers, blank."""
    size = shape_of(in_shapes, 0, 0, 1, 3)
    pixels = carray(address_as_void_pointer(into[0]), size[0] * size[1] * 3, dtype=np.uint8)
    steps = shape_of(in_shapes, 1, 0, 1, 2)[0]
    records = carray(address_as_void_pointer(into[1]), (steps, RECORD), dtype=np.float64)
    start = carray(address_as_void_pointer(into[2]), 2, dtype=np.int32)
    numbers = floats(into[3], shape_of(in_shapes, 3, 0, 1, 1)[0] // 8)
    _run(pixels, size[0], size[1], (start[0], start[1]), records, numbers, out)


@cfunc(SETUP_SIGNATURE, cache=True)
def _decoded_setup(out_shapes, out_ndims, num_outs, in_shapes, in_ndims, num_ins, samples):
    for sample in range(samples):
        _set_image_shape(out_shapes, in_shapes, 4, sample, samples)


@njit(cache=True)
def _volume(out_shapes):
    sides = shape_of(out_shapes, 0, 0, 1, 3)
    return sides[0] * sides[1] * sides[2]


@cfunc(RUN_SIGNATURE, cache=True)
def _decoded_float_run(outs, out_shapes, out_ndims, num_outs, ins, in_shapes, in_ndims, num_ins):
    out = carray(address_as_void_pointer(addresses(outs, 1)[0]), _volume(out_shapes), dtype=np.float32)
    _run_decoded(out, addresses(ins, 5), in_shapes)


@cfunc(RUN_SIGNATURE, cache=True)
def _decoded_byte_run(outs, out_shapes, out_ndims, num_outs, ins, in_shapes, in_ndims, num_ins):
    out = carray(address_as_void_pointer(addresses(outs, 1)[0]), _volume(out_shapes), dtype=np.uint8)
    _run_decoded(out, addresses(ins, 5), in_shapes)


_DECODED_INPUTS = ((types.UINT8, 3), (types.FLOAT64, 2), (types.INT32, 1), (types.UINT8, 1), (types.UINT8, 4))
RUN = {
    types.FLOAT: Compiled(_decoded_setup, _decoded_float_run, ((types.FLOAT, 3),), _DECODED_INPUTS),
    types.UINT8: Compiled(_decoded_setup, _decoded_byte_run, ((types.UINT8, 3),), _DECODED_INPUTS),
}
"""Pixels (H, W, 3) uint8, records, start (2,), finish and plan, blank (.., .., .., 0) -> images of the shape of
blank."""


@njit(cache=True)
def _run_mixed(out, into, in_shapes):
    """Take pixels through their steps, decoded or, if the address in input 5 is not zero, where they lie."""
    place = addresses(into[5], 3)
    if place[0] == 0:
        _run_decoded(out, into, in_shapes)
        return
    pixels = carray(address_as_void_pointer(place[0]), place[1] * place[2] * 3, dtype=np.uint8)
    records = carray(address_as_void_pointer(into[1]), (shape_of(in_shapes, 1, 0, 1, 2)[0], RECORD), dtype=np.float64)
    numbers = floats(into[3], shape_of(in_shapes, 3, 0, 1, 1)[0] // 8)
    _run(pixels, place[1], place[2], (0, 0), records, numbers, out)


@cfunc(RUN_SIGNATURE, cache=True)
def _mixed_float_run(outs, out_shapes, out_ndims, num_outs, ins, in_shapes, in_ndims, num_ins):
    out = carray(address_as_void_pointer(addresses(outs, 1)[0]), _volume(out_shapes), dtype=np.float32)
    _run_mixed(out, addresses(ins, 6), in_shapes)


@cfunc(RUN_SIGNATURE, cache=True)
def _mixed_byte_run(outs, out_shapes, out_ndims, num_outs, ins, in_shapes, in_ndims, num_ins):
    out = carray(address_as_void_pointer(addresses(outs, 1)[0]), _volume(out_shapes), dtype=np.uint8)
    _run_mixed(out, addresses(ins, 6), in_shapes)


RUN_MIXED = {
    types.FLOAT: Compiled(_decoded_setup, _mixed_float_run, ((types.FLOAT, 3),), (*_DECODED_INPUTS, (types.INT64, 1))),
    types.UINT8: Compiled(_decoded_setup, _mixed_byte_run, ((types.UINT8, 3),), (*_DECODED_INPUTS, (types.INT64, 1))),
}
"""As RUN, and place (3,) int64: address, height, width of pixels in memory, or zeros."""


@njit(cache=True)
def _run_in_memory(out, status, into, in_shapes):
    """Take pixels through their steps where they lie; inputs: table, uniforms, location, numbers, blank."""
    table = table_of(into[0], shape_of(in_shapes, 0, 0, 1, 1)[0])
    uniforms = floats(into[1], shape_of(in_shapes, 1, 0, 1, 1)[0])
    place = addresses(into[2], 3)
    height, width = place[1], place[2]
    pixels = carray(address_as_void_pointer(place[0]), height * width * 3, dtype=np.uint8)
    records = np.empty((len(table), RECORD))
    status[0] = resolve(table, uniforms, height, width, records)
    numbers = floats(into[3], shape_of(in_shapes, 3, 0, 1, 1)[0] // 8)
    _run(pixels, height, width, (0, 0), records, numbers, out)


@cfunc(SETUP_SIGNATURE, cache=True)
def _memory_setup(out_shapes, out_ndims, num_outs, in_shapes, in_ndims, num_ins, samples):
    for sample in range(samples):
        _set_image_shape(out_shapes, in_shapes, 4, sample, samples)
        shape_of(out_shapes, 1, sample, samples, 1)[0] = 1


@cfunc(RUN_SIGNATURE, cache=True)
def _memory_float_run(outs, out_shapes, out_ndims, num_outs, ins, in_shapes, in_ndims, num_ins):
    out = carray(address_as_void_pointer(addresses(outs, 2)[0]), _volume(out_shapes), dtype=np.float32)
    status = carray(address_as_void_pointer(addresses(outs, 2)[1]), 1, dtype=np.int32)
    _run_in_memory(out, status, addresses(ins, 5), in_shapes)


@cfunc(RUN_SIGNATURE, cache=True)
def _memory_byte_run(outs, out_shapes, out_ndims, num_outs, ins, in_shapes, in_ndims, num_ins):
    out = carray(address_as_void_pointer(addresses(outs, 2)[0]), _volume(out_shapes), dtype=np.uint8)
    status = carray(address_as_void_pointer(addresses(outs, 2)[1]), 1, dtype=np.int32)
    _run_in_memory(out, status, addresses(ins, 5), in_shapes)


_MEMORY_INPUTS = (_TABLE, _VECTOR, (types.INT64, 1), (types.UINT8, 1), (types.UINT8, 4))
RUN_IN_MEMORY = {
    types.FLOAT: Compiled(_memory_setup, _memory_float_run, ((types.FLOAT, 3), (types.INT32, 1)), _MEMORY_INPUTS),
    types.UINT8: Compiled(_memory_setup, _memory_byte_run, ((types.UINT8, 3), (types.INT32, 1)), _MEMORY_INPUTS),
}
"""Table, uniforms, location (3,) int64 (address, height, width), finish and plan, blank -> images, status."""


_KERNELS: dict[type[ops.Op], str] = {
    ops.RandomResizedCrop: "resize kernel",
    ops.Resize: "resize kernel",
    ops.CenterCrop: "view",
    ops.RandomCrop: "view, or copy kernel where it pads",
    ops.RandomHorizontalFlip: "view",
    ops.RandomVerticalFlip: "view",
    ops.RandomRotation: "affine kernel",
    ops.RandomAffine: "affine kernel",
}
"""What does each pixel op, as `dalipipe show` calls it: a view is a change of coordinates and costs nothing."""


def describe(recipe: Recipe) -> list[str]:
    """Return what stands for each op of the recipe."""
    return [_KERNELS.get(type(op), "last kernel") for op in recipe.ops]


def finish_and_plan(job: Job) -> tuple[DataNode, DataNode]:
    """Return the numbers that finish the output and lay it out, and the empty tensor that has its shape."""
    _, height, width = job.recipe.output_shape
    levels = job.levels
    scale, shift = [1.0] * 3, [0.0] * 3
    if levels is not None:
        scale = [1.0 / std for std in levels[1]]
        shift = [-mean / std for mean, std in zip(*levels, strict=True)]
    strides, sides = ([height * width, width, 1], (3, height, width))
    if job.channels_last:
        strides, sides = ([1, 3 * width, 3], (height, width, 3))
    numbers = np.array([*scale, *shift, *strides, height, width], dtype=np.float64)
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
    stand_in = encode(str(_STAND_IN) if kind == "mixed path" else _STAND_IN.read_bytes())
    return ([stand_in if isinstance(item, np.ndarray) else encode(item) for item in items], place), arrays


def _inputs(feed: Feed, kind: str) -> tuple[DataNode, DataNode | None, DataNode, DataNode]:
    """Return item, place (None where every image is decoded), uniforms and labels."""
    item, place = (types.UINT8, 1), (types.INT64, 1)
    mixed = kind.startswith("mixed")
    first = [item, place] if mixed else [place] if kind == "pixels" else [item]
    signature = [*first, (types.FLOAT64, 1), (types.INT64, 0)]
    nodes = fn.external_source(
        source=feed,
        num_outputs=len(signature),
        dtype=[dtype for dtype, _ in signature],
        ndim=[ndim for _, ndim in signature],
    )
    return nodes[0], nodes[1] if mixed else None, nodes[-2], nodes[-1]


def _decoded(item: DataNode, uniforms: DataNode, form: tuple[Any, ...], kind: str) -> tuple[DataNode, DataNode]:
    """Return images and status of a batch whose every image is decoded."""
    dtype, table, numbers, blank = form
    encoded, shape = load(item, kind)
    records, status, start, extent = operator(WINDOW, table, uniforms, shape)
    pixels = decode(encoded, kind, "cpu", window={"start": start, "shape": extent})
    return operator(RUN[dtype], pixels, records, start, numbers, blank), status


def _mixed(
    item: DataNode, place: DataNode, uniforms: DataNode, form: tuple[Any, ...], kind: str
) -> tuple[DataNode, DataNode]:
    """Return images and status of a batch some of whose images are in memory.

    For those the item is a stand-in of one px, so that all samples pass through the same operators.
    """
    dtype, table, numbers, blank = form
    encoded, shape = load(item, kind)
    peeked = fn.cast(shape[0:2], dtype=types.INT32)
    size = fn.cast(math.max(shape[0:2], place[1:3]), dtype=types.INT64)
    records, status, start, extent = operator(WINDOW, table, uniforms, size)
    extent = math.min(extent, peeked)
    pixels = decode(encoded, kind, "cpu", window={"start": math.min(start, peeked - extent), "shape": extent})
    return operator(RUN_MIXED[dtype], pixels, records, start, numbers, blank, place), status


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
        item, place, uniforms, label = _inputs(feed, kind)
        dtype = types.UINT8 if job.dtype == torch.uint8 else types.FLOAT
        form = (dtype, bytes_constant(job.program.table), *finish_and_plan(job))
        if kind == "pixels":
            images, status = operator(RUN_IN_MEMORY[dtype], form[1], uniforms, item, *form[2:])
        elif place is not None:
            images, status = _mixed(item, place, uniforms, form, kind.removeprefix("mixed "))
        else:
            images, status = _decoded(item, uniforms, form, kind)
        if job.dtype == torch.float16:
            images = fn.cast(images, dtype=types.FLOAT16)
        pipeline.set_outputs(images, label, status)
    return pipeline
