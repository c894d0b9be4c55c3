"""Ops that do other ops at random: which, is drawn for each sample."""

from __future__ import annotations

from abc import abstractmethod
from collections.abc import Iterator
from itertools import accumulate, pairwise
from typing import Annotated, Any, Literal

from pydantic import Field, SerializeAsAny, field_validator, model_validator

from dalipipe.recipes.ops.base import ImageSpec, Op, Probability, tables_of
from dalipipe.recipes.ops.calls import Python

__all__ = ["Container", "RandomApply", "RandomChoice", "leaves"]

DEPTH = 3
"""How deep containers may stand in one another."""

Children = Annotated[tuple[SerializeAsAny[Op], ...], Field(min_length=1)]


class Container(Op):
    """What RandomApply and RandomChoice have in common."""

    ops: Children

    @field_validator("ops")
    @classmethod
    def _pixels_only(cls, children: tuple[Op, ...]) -> tuple[Op, ...]:
        for position, child in enumerate(children, 1):
            if child.stage != "pixels" or isinstance(child, Python):
                raise ValueError(
                    f"op {position} must be one on uint8 pixels, got {child.op}, which can't be left to chance here"
                )
        return children

    @model_validator(mode="after")
    def _not_too_deep(self) -> Container:
        if self.depth > DEPTH:
            raise ValueError(f"containers may stand in one another {DEPTH} deep, got {self.depth}")
        return self

    @property
    def depth(self) -> int:
        """How many containers stand in one another here, this one included."""
        return 1 + max((child.depth for child in self.ops if isinstance(child, Container)), default=0)

    @property
    def uniforms(self) -> int:
        """The choice, and all that the inner ops draw, chosen or not."""
        return 1 + sum(child.uniforms for child in self.ops)

    @abstractmethod
    def branches(self) -> Iterator[tuple[Op, float, float]]:
        """Yield each inner op and the range [low, high) of the first uniform in which it is done."""

    def arguments(self) -> dict[str, Any]:
        """Return the arguments that differ from their defaults, ready for TOML."""
        return {**super().arguments(), "ops": tables_of(self.ops)}


class RandomApply(Container):
    """Do all of the inner ops, in order, with probability `p`, or none of them.

    Args:
        ops: What to do: ops on uint8 pixels. In TOML a list of tables `[[ops.ops]]`.
        p: Probability of doing it.

    Shapes: (H, W, C) -> as the inner ops leave it, or as it came: of no fixed size where these differ.
    Source: torchvision.transforms.v2.RandomApply.
    """

    op: Literal["RandomApply"] = "RandomApply"
    p: Probability = 0.5

    def branches(self) -> Iterator[tuple[Op, float, float]]:
        """Yield each inner op with the range [0, p)."""
        for child in self.ops:
            yield child, 0.0, self.p

    def check(self, spec: ImageSpec) -> ImageSpec:
        """Return the size where both ways lead to the same."""
        done = spec
        for child in self.ops:
            done = _checked(child, done)
        return done if self.p == 1 else _common([spec, done])


class RandomChoice(Container):
    """Do one of the inner ops.

    Args:
        ops: What to choose from: ops on uint8 pixels. In TOML a list of tables `[[ops.ops]]`.
        p: Weight of each, whose sum need not be 1; by default all the same.

    Shapes: (H, W, C) -> as the inner ops leave it: of no fixed size where they differ.
    Source: torchvision.transforms.v2.RandomChoice.
    """

    op: Literal["RandomChoice"] = "RandomChoice"
    p: tuple[float, ...] | None = None

    @model_validator(mode="after")
    def _weights(self) -> RandomChoice:
        if self.p is None:
            return self
        if len(self.p) != len(self.ops) or min(self.p) < 0 or not 0 < sum(self.p) < float("inf"):
            raise ValueError(f"p must be a weight >= 0 for each of the {len(self.ops)} ops, got {self.p}")
        return self

    def branches(self) -> Iterator[tuple[Op, float, float]]:
        """Yield each inner op with its part of [0, 1)."""
        weights = self.p or (1.0,) * len(self.ops)
        edges = [edge / sum(weights) for edge in accumulate(weights, initial=0.0)]
        edges[-1] = 1.0
        for child, (low, high) in zip(self.ops, pairwise(edges), strict=True):
            yield child, low, high

    def check(self, spec: ImageSpec) -> ImageSpec:
        """Return the size where all ways lead to the same."""
        return _common([_checked(child, spec) for child in self.ops])


def _checked(child: Op, spec: ImageSpec) -> ImageSpec:
    """Return what an inner op makes of `spec`; it must leave the number of channels as it is."""
    done = child.check(spec)
    child.require(
        done.channels == spec.channels,
        f"must keep the number of channels within another op, got {spec.channels} that become {done.channels}",
        "Put it outside, or use RandomGrayscale",
    )
    return done


def _common(specs: list[ImageSpec]) -> ImageSpec:
    """Return one of several, without a size where they differ in it."""
    same = len({(spec.height, spec.width) for spec in specs}) == 1
    return specs[0] if same else specs[0].resized(None, None)


def leaves(op: Op) -> Iterator[Op]:
    """Yield the ops that an op comes down to: those within a container, or the op itself."""
    if not isinstance(op, Container):
        yield op
        return
    for child in op.ops:
        yield from leaves(child)
