"""Python: the one op that is a function of the user's, named in a recipe; it runs behind what a backend makes."""

from __future__ import annotations

import re
from typing import Any, ClassVar, Literal

from pydantic import ConfigDict, field_validator

from dalipipe.recipes.ops.base import ImageSpec, Op

_NAME = re.compile(r"[^\W\d]\w*(\.[^\W\d]\w*)*:[^\W\d]\w*(\.[^\W\d]\w*)*")


class Python(Op):
    """Call a function with each image, in Python, one image after the other.

    It gets the image as torchvision would hand it to a step at this place, and gives back one of the same shape and
    dtype. Random numbers that it draws from Python's, NumPy's and torch's global generators belong to the sample.

    Args:
        call: "package.module:name" of a function, or of a class whose object is called. It is imported as `import`
            does, never from a path.
        takes: "tensor" or "pil": what it gets before the ops that rescale or normalise. Behind them it is a tensor.

    Further arguments go to the class, or to the function after the image.

    Shapes: (C, H, W) uint8 -> (C, H, W) uint8 (or an RGB or L image -> an image); behind the range float32 -> float32.
    """

    model_config = ConfigDict(frozen=True, extra="allow", validate_default=True, strict=True, allow_inf_nan=False)

    op: Literal["Python"] = "Python"
    anywhere: ClassVar[bool] = True
    call: str
    takes: Literal["tensor", "pil"] = "tensor"

    @field_validator("call")
    @classmethod
    def _dotted(cls, call: str) -> str:
        if _NAME.fullmatch(call) is None:
            raise ValueError('call must be "package.module:name", as in an import')
        return call

    @property
    def given(self) -> dict[str, Any]:
        """The further arguments."""
        return dict(self.model_extra or {})

    def check(self, spec: ImageSpec) -> ImageSpec:
        """See `Op`."""
        self.require(
            spec.height is not None and spec.width is not None,
            f"must get images of one size, got {spec}",
            "Put it behind a CenterCrop, a RandomResizedCrop or a Resize to (height, width)",
        )
        self.require(
            spec.dtype == "uint8" or self.takes == "tensor",
            'takes = "pil" needs levels, got floats',
            "Put it before the ops that rescale or normalise",
        )
        return spec
