"""Whole levels in Numba, eight at a time: weighted by int16 weights, and finished as they leave a recipe.

`Sums8` is LLVM's <8 x i32>. The code says nothing of a processor: LLVM makes pmaddwd of products and their sum on x86,
of 256 bits or twice of 128, and the like elsewhere, and whole numbers are the same everywhere. Offsets count elements
of the array and are not checked. Weights come in pairs: those of two taps that follow each other.
"""

from __future__ import annotations

from typing import Any

from llvmlite import ir
from numba import types
from numba.core import cgutils
from numba.extending import intrinsic, models, register_model

_LANES = 16
_BYTE, _SHORT, _INT, _FLOAT = ir.IntType(8), ir.IntType(16), ir.IntType(32), ir.FloatType()
_SUMS = ir.VectorType(_INT, 8)


class Sums8(types.Type):
    """The type of eight int32 in registers."""

    def __init__(self) -> None:
        super().__init__(name="Sums8")


sums8 = Sums8()


@register_model(Sums8)
class _Sums8Model(models.PrimitiveModel):
    def __init__(self, manager: Any, fe_type: Any) -> None:
        super().__init__(manager, fe_type, _SUMS)


def _pointer(context: Any, builder: Any, array_type: Any, place: tuple[Any, Any], target: Any) -> Any:
    """Return a pointer to `target` at an element of a contiguous array; `place` is (array, offset)."""
    data = context.make_array(array_type)(context, builder, place[0]).data
    return builder.bitcast(builder.gep(data, [place[1]]), target.as_pointer())


def _lanes(builder: Any, a: Any, b: Any, lanes: list[int]) -> Any:
    return builder.shuffle_vector(a, b, ir.Constant(ir.VectorType(_INT, len(lanes)), lanes))


def _nothing(kind: Any) -> Any:
    return ir.Constant(kind, ir.Undefined)


def _splat(builder: Any, value: Any, count: int) -> Any:
    nothing = _nothing(ir.VectorType(value.type, count))
    return _lanes(builder, builder.insert_element(nothing, value, _INT(0)), nothing, [0] * count)


def _store(context: Any, builder: Any, array_type: Any, place: tuple[Any, Any], value: Any) -> None:
    align = array_type.dtype.bitwidth // 8
    builder.store(value, _pointer(context, builder, array_type, place, value.type), align=align)


def _load(context: Any, builder: Any, array_type: Any, place: tuple[Any, Any], kind: Any, align: int = 1) -> Any:
    return builder.load(_pointer(context, builder, array_type, place, kind), align=align)


@intrinsic
def half8(typing: Any, bits: Any) -> Any:
    """Return eight times a half, as numbers that are shifted by `bits` have it."""

    def generate(_context: Any, builder: Any, _signature: Any, args: Any) -> Any:
        return _splat(builder, builder.shl(_INT(1), builder.sub(builder.trunc(args[0], _INT), _INT(1))), 8)

    return sums8(types.int64), generate


def _add_pair(which: range) -> Any:
    """Return what adds the lanes `which` of two rows of sixteen levels, weighted."""
    order = [lane + row * _LANES for lane in which for row in range(2)]
    bytes16, words16, wide = (ir.VectorType(kind, _LANES) for kind in (_BYTE, _SHORT, _INT))

    def generate(context: Any, builder: Any, signature: Any, args: Any) -> Any:
        sums, array, a, b, weights, offset = args
        rows = [_load(context, builder, signature.args[1], (array, at), bytes16) for at in (a, b)]
        pairs = builder.zext(_lanes(builder, rows[0], rows[1], order), words16)
        pair = _load(context, builder, signature.args[4], (weights, offset), _INT, 2)
        both = builder.bitcast(_splat(builder, pair, 8), words16)
        products = builder.mul(builder.sext(pairs, wide), builder.sext(both, wide))
        first = _lanes(builder, products, _nothing(wide), list(range(0, _LANES, 2)))
        second = _lanes(builder, products, _nothing(wide), list(range(1, _LANES, 2)))
        return builder.add(sums, builder.add(first, second))

    return generate


@intrinsic
def add_first8(typing: Any, sums: Any, levels: Any, a: Any, b: Any, weights: Any, offset: Any) -> Any:
    """Return sums + eight levels from a and eight from b on, weighted by the pair at an offset; sixteen are read."""
    return sums8(sums8, levels, types.intp, types.intp, weights, types.intp), _add_pair(range(8))


@intrinsic
def add_second8(typing: Any, sums: Any, levels: Any, a: Any, b: Any, weights: Any, offset: Any) -> Any:
    """Return sums + the eight levels from a and from b on that follow those of `add_first8`, weighted."""
    return sums8(sums8, levels, types.intp, types.intp, weights, types.intp), _add_pair(range(8, 16))


def _to_levels(builder: Any, first: Any, second: Any, bits: Any) -> Any:
    """Return sums shifted by `bits` and clamped, <16 x i8>."""
    shift, halves = _splat(builder, builder.trunc(bits, _INT), 8), []
    for sums in (first, second):
        made = builder.ashr(sums, shift)
        for sign, limit in ((">", 0), ("<", 255)):
            most = ir.Constant(made.type, [limit] * 8)
            made = builder.select(builder.icmp_signed(sign, made, most), made, most)
        halves.append(made)
    return builder.trunc(_lanes(builder, halves[0], halves[1], list(range(_LANES))), ir.VectorType(_BYTE, _LANES))


@intrinsic
def put_row16(typing: Any, levels: Any, at: Any, first: Any, second: Any, bits: Any) -> Any:
    """Write sixteen sums, shifted by `bits` and clamped to 0 to 255, to elements at to at + 15 of a uint8 array."""

    def generate(context: Any, builder: Any, signature: Any, args: Any) -> Any:
        array, at, first, second, bits = args
        made = _to_levels(builder, first, second, bits)
        _store(context, builder, signature.args[0], (array, at), made)
        return context.get_dummy_value()

    return types.void(levels, types.intp, sums8, sums8, types.int64), generate


@intrinsic
def put_pixels16(typing: Any, levels: Any, at: Any, stride: Any, first: Any, second: Any, bits: Any) -> Any:
    """Write sixteen sums, as `put_row16`, as a pixel of four bytes in each of four rows."""

    def generate(context: Any, builder: Any, signature: Any, args: Any) -> Any:
        array, at, stride, first, second, bits = args
        pixels = builder.bitcast(_to_levels(builder, first, second, bits), ir.VectorType(_INT, 4))
        for row in range(4):
            place = builder.add(at, builder.mul(stride, stride.type(row)))
            pixel = builder.extract_element(pixels, _INT(row))
            builder.store(pixel, _pointer(context, builder, signature.args[0], (array, place), _INT), align=1)
        return context.get_dummy_value()

    return types.void(levels, types.intp, types.intp, sums8, sums8, types.int64), generate


def _weave(pixel: int) -> Any:
    """Return what writes four pixels of four rows, those in the same column side by side, four bytes each."""
    order = [pixel * (lane // 4) + min(lane % 4, pixel - 1) for lane in range(_LANES)]
    kind, four = ir.VectorType(_BYTE, 4 * pixel), ir.VectorType(_INT, 4)

    def generate(context: Any, builder: Any, signature: Any, args: Any) -> Any:
        woven, to, pixels, *places = args
        rows = [_load(context, builder, signature.args[2], (pixels, at), kind) for at in places]
        rows = [builder.bitcast(_lanes(builder, row, _nothing(kind), order), four) for row in rows]
        halves = [_lanes(builder, rows[i], rows[i + 1], list(range(8))) for i in (0, 2)]
        columns = [lane // 4 + 4 * (lane % 4) for lane in range(_LANES)]
        made = _lanes(builder, halves[0], halves[1], columns)
        _store(context, builder, signature.args[0], (woven, to), made)
        return context.get_dummy_value()

    return generate


@intrinsic
def weave_threes(typing: Any, woven: Any, to: Any, pixels: Any, a: Any, b: Any, c: Any, d: Any) -> Any:
    """Write four pixels from each of four places on, those of a column side by side; from three bytes to four each."""
    return types.void(woven, types.intp, pixels, *(types.intp,) * 4), _weave(3)


@intrinsic
def weave_fours(typing: Any, woven: Any, to: Any, pixels: Any, a: Any, b: Any, c: Any, d: Any) -> Any:
    """Write four pixels as `weave_threes` does, where they have four bytes already."""
    return types.void(woven, types.intp, pixels, *(types.intp,) * 4), _weave(4)


@intrinsic
def copy_bytes(typing: Any, target: Any, to: Any, source: Any, at: Any, count: Any) -> Any:
    """Copy so many elements of a uint8 array from an offset to an offset of another, or far away in the same."""

    def generate(context: Any, builder: Any, signature: Any, args: Any) -> Any:
        target, to, source, at, count = args
        into = _pointer(context, builder, signature.args[0], (target, to), _BYTE)
        cgutils.raw_memcpy(builder, into, _pointer(context, builder, signature.args[2], (source, at), _BYTE), count, 1)
        return context.get_dummy_value()

    return types.void(target, types.intp, source, types.intp, types.intp), generate


def _finished(builder: Any, levels: Any, finish: Any) -> Any:
    """Return (level / unit - mean) / std, each step rounded to float32; `finish` are mean, std, 1 / std and 1 / unit.

    Two steps from a product with the rounded inverse give the rounded quotient: the first leaves less than a unit in
    the last place, from where the second is exact.

    Source: P. Markstein, Computation of elementary functions on the IBM RISC System/6000 processor, 1990.
    """
    mean, std, inverse, part = finish
    kind, name = levels.type, f"llvm.fma.v{levels.type.count}f32"
    fma = cgutils.get_or_insert_function(builder.module, ir.FunctionType(kind, [kind] * 3), name)
    value = builder.fsub(builder.fmul(levels, part), mean)
    quotient = builder.fmul(value, inverse)
    for _ in range(2):
        rest = builder.call(fma, [builder.fneg(quotient), std, value])
        quotient = builder.call(fma, [rest, inverse, quotient])
    return quotient


def _numbers(context: Any, builder: Any, array_type: Any, finish: Any, channel: Any, lanes: int) -> list[Any]:
    """Return what `_finished` needs of a channel, `lanes` times; of all channels side by side where it is None."""
    size = ir.IntType(64)
    if channel is None:
        four = ir.VectorType(_FLOAT, 4)
        return [_load(context, builder, array_type, (finish, size(4 * row)), four, 4) for row in range(4)]
    places = [(finish, builder.add(channel, size(4 * row))) for row in range(4)]
    return [_splat(builder, _load(context, builder, array_type, place, _FLOAT, 4), lanes) for place in places]


def _as_output(builder: Any, levels: Any, dtype: Any, numbers: Any) -> Any:
    """Return levels, a vector of int32, as bytes or finished."""
    if dtype == types.uint8:
        return builder.trunc(levels, ir.VectorType(_BYTE, levels.type.count))
    return _finished(builder, builder.uitofp(levels, ir.VectorType(_FLOAT, levels.type.count)), numbers())


@intrinsic
def put_channel8(typing: Any, out: Any, to: Any, row: Any, at: Any, finish: Any, channel: Any) -> Any:
    """Write a channel of eight pixels of a row of levels, four bytes each, from `at` on: finished, or as bytes."""

    def generate(context: Any, builder: Any, signature: Any, args: Any) -> Any:
        out, to, row, at, finish, channel = args
        eight = ir.VectorType(_INT, 8)
        pixels = _load(context, builder, signature.args[2], (row, at), eight)
        shift = builder.trunc(builder.mul(channel, channel.type(8)), _INT)
        levels = builder.and_(builder.lshr(pixels, _splat(builder, shift, 8)), ir.Constant(eight, [255] * 8))
        made = _as_output(
            builder,
            levels,
            signature.args[0].dtype,
            lambda: _numbers(context, builder, signature.args[4], finish, channel, 8),
        )
        _store(context, builder, signature.args[0], (out, to), made)
        return context.get_dummy_value()

    return types.void(out, types.intp, row, types.intp, finish, types.intp), generate


@intrinsic
def put_pixel4(typing: Any, out: Any, to: Any, row: Any, at: Any, finish: Any) -> Any:
    """Write a pixel of a row of levels: its channels side by side, and one element behind them that means nothing."""

    def generate(context: Any, builder: Any, signature: Any, args: Any) -> Any:
        out, to, row, at, finish = args
        pixel = _load(context, builder, signature.args[2], (row, at), ir.VectorType(_BYTE, 4))
        levels, dtype = builder.zext(pixel, ir.VectorType(_INT, 4)), signature.args[0].dtype
        made = _as_output(
            builder, levels, dtype, lambda: _numbers(context, builder, signature.args[4], finish, None, 4)
        )
        _store(context, builder, signature.args[0], (out, to), made)
        return context.get_dummy_value()

    return types.void(out, types.intp, row, types.intp, finish), generate


@intrinsic
def finished(typing: Any, level: Any, finish: Any, channel: Any) -> Any:
    """Return a level of a channel as it leaves the recipe, float32."""

    def generate(context: Any, builder: Any, signature: Any, args: Any) -> Any:
        level, finish, channel = args
        numbers = _numbers(context, builder, signature.args[1], finish, channel, 4)
        return builder.extract_element(_finished(builder, _splat(builder, level, 4), numbers), _INT(0))

    return types.float32(types.float32, finish, types.intp), generate
