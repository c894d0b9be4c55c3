"""Pillow inside a graph of DALI's: operators that DALI's threads run for the files that Pillow is to decode.

An operator is a C callback into Python, which takes the GIL; Pillow's decoders let go of it. So these files are
decoded in the same threads as the others, as many at once, and as far ahead.
"""

from __future__ import annotations

import ctypes
from dataclasses import dataclass
from functools import cache
from typing import Any

import numpy as np
from nvidia.dali import types

from dalipipe.backends import pillow
from dalipipe.backends.compiled import SETUP_SIGNATURE, Compiled, shape_of
from dalipipe.compilation import callback
from dalipipe.decisions.status import Status

_Run = ctypes.CFUNCTYPE(
    None,
    ctypes.c_uint64,
    ctypes.c_uint64,
    ctypes.c_uint64,
    ctypes.c_int32,
    ctypes.c_uint64,
    ctypes.c_uint64,
    ctypes.c_uint64,
    ctypes.c_int32,
)
"""As `compiled.RUN_SIGNATURE`."""


@dataclass(frozen=True)
class _Callback:
    """A C callback into Python, which lives as long as this does."""

    function: Any

    @property
    def address(self) -> int:
        """Where C finds it."""
        return int(ctypes.cast(self.function, ctypes.c_void_p).value or 0)


def _numbers(address: int, count: int) -> Any:
    return (ctypes.c_int64 * count).from_address(address)


def _size_callback(turned: bool) -> _Callback:
    def run(outs: int, _shapes: int, _dims: int, _count: int, ins: int, in_shapes: int, _in_dims: int, _n: int) -> None:
        size = (ctypes.c_int32 * 4).from_address(_numbers(outs, 1)[0])
        try:
            height, width = pillow.shown_size(_bytes(ins, in_shapes), turned)
        except BaseException:  # none may leave a callback; what is wrong comes out when the pixels are asked for
            height, width = 1, 1
        size[0], size[1], size[2], size[3] = height, width, 3, 0

    return _Callback(_Run(run))


def _pixel_callback(turned: bool) -> _Callback:
    def run(outs: int, shapes: int, _dims: int, _count: int, ins: int, in_shapes: int, _in_dims: int, _n: int) -> None:
        into, status = _numbers(outs, 2)
        failed = (ctypes.c_int32 * 1).from_address(status)
        failed[0] = Status.UNREADABLE
        try:
            pixels = np.ascontiguousarray(pillow.decode(_bytes(ins, in_shapes), turned))
            if pixels.shape == tuple(_numbers(_numbers(shapes, 1)[0], 3)):
                ctypes.memmove(into, pixels.ctypes.data, pixels.size)
                failed[0] = Status.OK
        except BaseException:  # none may leave a callback; the executor asks Pillow again for the reason
            pass

    return _Callback(_Run(run))


def _bytes(ins: int, in_shapes: int) -> bytes:
    """Return a copy of input 0."""
    return ctypes.string_at(_numbers(ins, 1)[0], _numbers(_numbers(in_shapes, 1)[0], 1)[0])


def _size_setup(out_shapes, out_ndims, num_outs, in_shapes, in_ndims, num_ins, samples):
    for sample in range(samples):
        shape_of(out_shapes, 0, sample, samples, 1)[0] = 4


def _pixels_setup(out_shapes, out_ndims, num_outs, in_shapes, in_ndims, num_ins, samples):
    for sample in range(samples):
        image, sides = shape_of(out_shapes, 0, sample, samples, 3), shape_of(in_shapes, 1, sample, samples, 4)
        image[0], image[1], image[2] = sides[0], sides[1], sides[2]
        shape_of(out_shapes, 1, sample, samples, 1)[0] = 1


@cache
def sizer(turned: bool) -> Compiled:
    """Return the operator that reads the header of an encoded image; `turned`: whether photos are turned.

    Bytes (n,) uint8 -> (4,) int32: height, width, 3, 0; ones for height and width where the header can't be read.
    """
    return Compiled(
        callback(SETUP_SIGNATURE)(_size_setup),
        _size_callback(turned),
        outputs=((types.INT32, 1),),
        inputs=((types.UINT8, 1),),
    )


@cache
def reader(turned: bool) -> Compiled:
    """Return the operator that decodes an image; `turned`: whether photos are turned.

    Bytes (n,) uint8, blank (H, W, 3, 0) -> pixels (H, W, 3) uint8, (1,) int32 `Status`: UNREADABLE where they could
    not be had.
    """
    return Compiled(
        callback(SETUP_SIGNATURE)(_pixels_setup),
        _pixel_callback(turned),
        outputs=((types.UINT8, 3), (types.INT32, 1)),
        inputs=((types.UINT8, 1), (types.UINT8, 4)),
    )
