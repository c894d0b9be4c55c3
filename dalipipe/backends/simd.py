"""Four floats at a time in Numba: one pixel, its three channels and a lane to spare, in one register.

Numba has no vector type and leaves loops over three channels to scalar code. `Float4` is LLVM's <4 x float>; the
functions below are each one or two instructions. Offsets count elements of the array and are not checked.
"""

from __future__ import annotations

from typing import Any

from llvmlite import ir
from numba import types
from numba.core import cgutils
from numba.extending import intrinsic, models, register_model

_FLOAT = ir.FloatType()
_VECTOR = ir.VectorType(_FLOAT, 4)
_INT = ir.IntType(32)


class Float4(types.Type):
    """The type of four float32 in a register."""

    def __init__(self) -> None:
        super().__init__(name="Float4")


float4 = Float4()


@register_model(Float4)
class _Float4Model(models.PrimitiveModel):
    def __init__(self, manager: Any, fe_type: Any) -> None:
        super().__init__(manager, fe_type, _VECTOR)


def _pointer(context: Any, builder: Any, array_type: Any, place: tuple[Any, Any], target: Any) -> Any:
    """Return a pointer to `target` at an element of a contiguous array; `place` is (array, offset)."""
    data = context.make_array(array_type)(context, builder, place[0]).data
    return builder.bitcast(builder.gep(data, [place[1]]), target.as_pointer())


def _splat(builder: Any, value: Any) -> Any:
    first = builder.insert_element(ir.Constant(_VECTOR, ir.Undefined), value, _INT(0))
    return builder.shuffle_vector(
        first, ir.Constant(_VECTOR, ir.Undefined), ir.Constant(ir.VectorType(_INT, 4), [0] * 4)
    )


@intrinsic
def zero4(typing: Any) -> Any:
    """Return four zeros."""

    def generate(_context: Any, _builder: Any, _signature: Any, _args: Any) -> Any:
        return ir.Constant(_VECTOR, [0.0] * 4)

    return float4(), generate


@intrinsic
def splat4(typing: Any, value: Any) -> Any:
    """Return a float32 four times."""

    def generate(_context: Any, builder: Any, _signature: Any, args: Any) -> Any:
        return _splat(builder, args[0])

    return float4(types.float32), generate


@intrinsic
def load4(typing: Any, array: Any, offset: Any) -> Any:
    """Return elements offset to offset + 3 of a float32 array."""

    def generate(context: Any, builder: Any, signature: Any, args: Any) -> Any:
        return builder.load(_pointer(context, builder, signature.args[0], (args[0], args[1]), _VECTOR), align=4)

    return float4(array, types.intp), generate


@intrinsic
def load4_bytes(typing: Any, array: Any, offset: Any) -> Any:
    """Return elements offset to offset + 3 of a uint8 array as floats."""

    def generate(context: Any, builder: Any, signature: Any, args: Any) -> Any:
        source = ir.VectorType(ir.IntType(8), 4)
        levels = builder.load(_pointer(context, builder, signature.args[0], (args[0], args[1]), source), align=1)
        return builder.uitofp(builder.zext(levels, ir.VectorType(_INT, 4)), _VECTOR)

    return float4(array, types.intp), generate


def _call(name: str) -> Any:
    def generate(_context: Any, builder: Any, _signature: Any, args: Any) -> Any:
        function = cgutils.get_or_insert_function(
            builder.module, ir.FunctionType(_VECTOR, [_VECTOR] * len(args)), f"llvm.{name}.v4f32"
        )
        return builder.call(function, args)

    return generate


@intrinsic
def fma4(typing: Any, a: Any, b: Any, c: Any) -> Any:
    """Return a * b + c, rounded once."""
    return float4(float4, float4, float4), _call("fma")


@intrinsic
def round4(typing: Any, value: Any) -> Any:
    """Return the nearest whole numbers, half to even."""
    return float4(float4), _call("rint")


@intrinsic
def put4(typing: Any, array: Any, offset: Any, value: Any) -> Any:
    """Write four whole levels to elements offset to offset + 3 of a uint8 array."""

    def generate(context: Any, builder: Any, signature: Any, args: Any) -> Any:
        target = ir.VectorType(ir.IntType(8), 4)
        levels = builder.trunc(builder.fptosi(args[2], ir.VectorType(_INT, 4)), target)
        place = _pointer(context, builder, signature.args[0], (args[0], args[1]), target)
        builder.store(levels, place, align=1)
        return context.get_dummy_value()

    return types.void(array, types.intp, float4), generate
