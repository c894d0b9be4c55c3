"""Numba functions as DALI operators, compiled once a machine.

DALI's own `numba_function` compiles anew for each pipeline, seconds each time, since what it compiles is a closure.
Here an operator is a pair of C callbacks without closure, which Numba keeps on disk: whatever depends on the recipe
comes in as an input. The callbacks' signature is that of DALI's NumbaFuncImpl: addresses of arrays of addresses, one
for each tensor.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from functools import cache
from typing import Any

import numpy as np
from numba import carray
from numba import types as nb
from nvidia.dali import types
from nvidia.dali.data_node import DataNode
from nvidia.dali.plugin.numba import NumbaFunction

from dalipipe.backends.look import form_of, is_dalis
from dalipipe.compilation import address_as_void_pointer, callback, compiled
from dalipipe.decisions.geometry import COLUMNS, resolve
from dalipipe.decisions.orientation import orientation_of, turns
from dalipipe.recipes.primitives import RECORD

SETUP_SIGNATURE = nb.void(nb.uint64, nb.uint64, nb.int32, nb.uint64, nb.uint64, nb.int32, nb.int32)
ROW_BYTES = 8 * COLUMNS
BUDGET_UNIT = 1000  # bytes: DALI's sides are int32
RUN_SIGNATURE = nb.void(nb.uint64, nb.uint64, nb.uint64, nb.int32, nb.uint64, nb.uint64, nb.uint64, nb.int32)


@dataclass(frozen=True)
class Compiled:
    """A Numba function that DALI can call.

    Attributes:
        setup: C callback that writes the output shapes of a batch.
        run: C callback that computes one sample, called from DALI's threads without the GIL.
        outputs: (type, dimensions) of each output.
        inputs: (type, dimensions) of each input.
    """

    setup: Any
    run: Any
    outputs: Sequence[tuple[types.DALIDataType, int]]
    inputs: Sequence[tuple[types.DALIDataType, int]]


class _Operator(NumbaFunction):  # type: ignore[misc]
    """DALI's Numba operator with callbacks that are compiled already."""

    def _get_run_fn_cpu(self, run_fn: Any, *_types: Any) -> int:
        return int(run_fn.address)

    def _get_setup_fn_cpu(self, setup_fn: Any) -> int:
        return int(setup_fn.address)


def operator(compiled: Compiled, *inputs: DataNode) -> Any:
    """Return the outputs of a compiled function in the current pipeline; it always runs on the CPU."""
    instance = _Operator(
        run_fn=compiled.run,
        setup_fn=compiled.setup,
        out_types=[dtype for dtype, _ in compiled.outputs],
        outs_ndim=[ndim for _, ndim in compiled.outputs],
        in_types=[dtype for dtype, _ in compiled.inputs],
        ins_ndim=[ndim for _, ndim in compiled.inputs],
        device="cpu",
    )
    return instance(*inputs)


@compiled
def addresses(pointer, count):
    """Return `count` addresses, or sizes, as an int64 array that begins at an address."""
    return carray(address_as_void_pointer(pointer), count, dtype=np.int64)


@compiled
def shape_of(shapes, tensor, sample, samples, ndim):
    """Return the shape of one tensor of one sample as a writable int64 array.

    Args:
        shapes: Address of the addresses of all shapes, tensor by tensor.
        tensor: Which input or output.
        sample: Which sample.
        samples: How many samples there are.
        ndim: Dimensions of the tensor.
    """
    return addresses(addresses(shapes, (tensor + 1) * samples)[tensor * samples + sample], ndim)


@compiled
def integers(pointer, count):
    """Return `count` int32 numbers that begin at an address."""
    return carray(address_as_void_pointer(pointer), count, dtype=np.int32)


@compiled
def floats(pointer, count):
    """Return `count` float64 numbers that begin at an address."""
    return carray(address_as_void_pointer(pointer), count, dtype=np.float64)


@compiled
def table_of(pointer, byte_count):
    """Return a Program's table (n, COLUMNS) whose bytes begin at an address."""
    return carray(address_as_void_pointer(pointer), (byte_count // ROW_BYTES, COLUMNS), dtype=np.float64)


@compiled
def set_records_shape(out_shapes, in_shapes, sample, samples):
    """Write the shape of records (output 0), whose Program is input 0."""
    records = shape_of(out_shapes, 0, sample, samples, 2)
    records[0] = max(1, shape_of(in_shapes, 0, sample, samples, 1)[0] // ROW_BYTES)
    records[1] = RECORD


@compiled
def resolve_sample(outs, ins, in_shapes):
    """Resolve one sample from inputs 0 to 2 (table, uniforms, shape) into outputs 0 and 1 (records, status).

    Returns the records and the height and width of the image.
    """
    table = table_of(ins[0], shape_of(in_shapes, 0, 0, 1, 1)[0])
    uniforms = floats(ins[1], shape_of(in_shapes, 1, 0, 1, 1)[0])
    size = addresses(ins[2], 2)
    records = carray(address_as_void_pointer(outs[0]), (len(table), RECORD), dtype=np.float64)
    status = carray(address_as_void_pointer(outs[1]), 1, dtype=np.int32)
    status[0] = resolve(table, uniforms, size[0], size[1], records)
    return records, size[0], size[1]


def _turn_setup(out_shapes, out_ndims, num_outs, in_shapes, in_ndims, num_ins, samples):
    for sample in range(samples):
        shape_of(out_shapes, 0, sample, samples, 1)[0] = 3
        shape_of(out_shapes, 1, sample, samples, 1)[0] = 3


def _turn_run(outs, out_shapes, out_ndims, num_outs, ins, in_shapes, in_ndims, num_ins):
    out, into = addresses(outs, 2), addresses(ins, 2)
    turn, turned, size = integers(out[0], 3), addresses(out[1], 3), addresses(into[1], 3)
    count = shape_of(in_shapes, 0, 0, 1, 1)[0]
    across, down, exchanged = turns(orientation_of(carray(address_as_void_pointer(into[0]), count, dtype=np.uint8)))
    turn[0], turn[1], turn[2] = across, down, exchanged
    turned[0], turned[1], turned[2] = size[1] if exchanged else size[0], size[0] if exchanged else size[1], size[2]


@cache
def turner() -> Compiled:
    """Return the operator that reads how an encoded image is to be turned.

    Bytes (n,) uint8, size (3,) int64 as it is stored -> (3,) int32: whether to mirror left and right, top and bottom,
    and to exchange rows and columns; (3,) int64: size as it is shown.
    """
    return Compiled(
        callback(SETUP_SIGNATURE)(_turn_setup),
        callback(RUN_SIGNATURE)(_turn_run),
        outputs=((types.INT32, 1), (types.INT64, 1)),
        inputs=((types.UINT8, 1), (types.INT64, 1)),
    )


def _resolve_setup(out_shapes, out_ndims, num_outs, in_shapes, in_ndims, num_ins, samples):
    for sample in range(samples):
        set_records_shape(out_shapes, in_shapes, sample, samples)
        shape_of(out_shapes, 1, sample, samples, 1)[0] = 1


def _resolve_run(outs, out_shapes, out_ndims, num_outs, ins, in_shapes, in_ndims, num_ins):
    resolve_sample(addresses(outs, 2), addresses(ins, 3), in_shapes)


@cache
def resolver() -> Compiled:
    """Return the operator that resolves a sample.

    The bytes of a Program's table, uniforms (total,) float64, size (2 or more,) int64
    -> records (n, RECORD) float64, status (1,) int32.
    """
    return Compiled(
        callback(SETUP_SIGNATURE)(_resolve_setup),
        callback(RUN_SIGNATURE)(_resolve_run),
        outputs=((types.FLOAT64, 2), (types.INT32, 1)),
        inputs=((types.UINT8, 1), (types.FLOAT64, 1), (types.INT64, 1)),
    )


def _scalar_setup(out_shapes, out_ndims, num_outs, in_shapes, in_ndims, num_ins, samples):
    """Write nothing: a scalar has no sides."""


def _look_run(outs, out_shapes, out_ndims, num_outs, ins, in_shapes, in_ndims, num_ins):
    into = addresses(ins, 2)
    data = carray(address_as_void_pointer(into[0]), shape_of(in_shapes, 0, 0, 1, 1)[0], dtype=np.uint8)
    mine = is_dalis(form_of(data, addresses(into[1], 1)[0]))
    carray(address_as_void_pointer(addresses(outs, 1)[0]), 1, dtype=np.bool_)[0] = mine


@cache
def looker() -> Compiled:
    """Return the operator that says whether an encoded image is DALI's to decode; see `forms.FORMS`.

    Bytes (n,) uint8, the bytes of the most px that it may claim as int64, negative for any number -> bool ().
    """
    return Compiled(
        callback(SETUP_SIGNATURE)(_scalar_setup),
        callback(RUN_SIGNATURE)(_look_run),
        outputs=((types.BOOL, 0),),
        inputs=((types.UINT8, 1), (types.UINT8, 1)),
    )


def _ration_setup(out_shapes, out_ndims, num_outs, in_shapes, in_ndims, num_ins, samples):
    held = 0
    for sample in range(samples):
        sides, most = shape_of(in_shapes, 0, sample, samples, 3), shape_of(in_shapes, 1, sample, samples, 2)
        need = 3 * sides[0] * sides[1]
        fits = held == 0 or held + need <= most[0] * BUDGET_UNIT
        held += need if fits else 0
        shape_of(out_shapes, 0, sample, samples, 1)[0] = 1 if fits else 0


def _nothing_run(outs, out_shapes, out_ndims, num_outs, ins, in_shapes, in_ndims, num_ins):
    """Write nothing: a shape says all."""


@cache
def rationer() -> Compiled:
    """Return the operator that says which images of a batch may be decoded at once; only its setup sees a whole batch.

    Empty (H, W, 0) uint8 of the size of an image, empty (n, 0) uint8 for a budget of n * BUDGET_UNIT bytes
    -> uint8 of one element where the image and those before it are within the budget, as the first one always is;
    of none where not.
    """
    return Compiled(
        callback(SETUP_SIGNATURE)(_ration_setup),
        callback(RUN_SIGNATURE)(_nothing_run),
        outputs=((types.UINT8, 1),),
        inputs=((types.UINT8, 3), (types.UINT8, 2)),
    )
