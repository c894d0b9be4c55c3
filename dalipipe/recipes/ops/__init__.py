"""The ops of image recipes, a class each. `OPS` maps a name to its class: all of a module's `__all__` are in it."""

from __future__ import annotations

from typing import Final

from dalipipe.recipes.ops import colour, containers, erasing, geometric, policies, ranges, sizing
from dalipipe.recipes.ops.base import ImageSpec, Numbers, Op
from dalipipe.recipes.ops.calls import Python
from dalipipe.recipes.ops.colour import *  # noqa: F403
from dalipipe.recipes.ops.containers import *  # noqa: F403
from dalipipe.recipes.ops.containers import Container, leaves
from dalipipe.recipes.ops.erasing import *  # noqa: F403
from dalipipe.recipes.ops.geometric import *  # noqa: F403
from dalipipe.recipes.ops.policies import *  # noqa: F403
from dalipipe.recipes.ops.policies import Policy
from dalipipe.recipes.ops.ranges import *  # noqa: F403
from dalipipe.recipes.ops.sizing import *  # noqa: F403

_MODULES = (sizing, geometric, colour, erasing, containers, policies, ranges)
_NO_OPS = (Container, Policy)

OPS: Final[dict[str, type[Op]]] = {
    name: model
    for module in _MODULES
    for name, model in vars(module).items()
    if name in module.__all__ and isinstance(model, type) and model not in _NO_OPS
}

__all__ = ["OPS", "Container", "ImageSpec", "Numbers", "Op", "Policy", "Python", "leaves", *OPS]
