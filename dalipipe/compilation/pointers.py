"""Memory by its address, in compiled code."""

from __future__ import annotations

from typing import Any

from numba import types
from numba.core import cgutils
from numba.extending import intrinsic


@intrinsic
def address_as_void_pointer(typing: Any, address: Any) -> Any:
    """Return a pointer to an address, a whole number, for numba.carray."""

    def generate(_context: Any, builder: Any, _signature: Any, args: Any) -> Any:
        return builder.inttoptr(args[0], cgutils.voidptr_t)

    return types.voidptr(address), generate
