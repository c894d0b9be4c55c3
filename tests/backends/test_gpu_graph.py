"""The graph of dali-gpu, audited without a GPU: what could only fail there is looked up in DALI's own registries."""

import tomllib
import warnings
from dataclasses import dataclass, field, replace
from functools import cache
from itertools import count
from pathlib import Path
from unittest.mock import patch

import pytest
from nvidia.dali import backend, fn

from dalipipe.backends import Job, dali, dali_input
from dalipipe.backends.table import Entry
from dalipipe.recipes import Recipe, list_recipes, ops
from dalipipe.recipes.ops import OPS
from dalipipe.recipes.ops.building import build_op
from dalipipe.recipes.primitives import Primitive

ROWS = tomllib.loads((Path(__file__).parents[1] / "ops.toml").read_text())
PYTHON = ("ExternalSource", "NumbaFunction")
"""Feeds the graph; is compiled and resolves a sample on the CPU. Neither is an operator of the registries."""


@dataclass(frozen=True)
class Node:
    """An operator of a graph: its schema, its device, the devices of its inputs, its constant arguments."""

    schema: str
    device: str
    inputs: tuple[str, ...] = ()
    arguments: dict = field(default_factory=dict)


@cache
def registry(device: str) -> set[str]:
    listing = {
        "gpu": backend.RegisteredGPUOps,
        "mixed": backend.RegisteredMixedOps,
        "cpu": backend.RegisteredCPUOps,
    }
    return set(listing[device]())


def graph(recipe: Recipe, kind: str, source_of) -> list[Node]:
    job = replace(Job(source_of([]), recipe, batch_size=3), device_id=None)
    pipeline = dali.build(job, kind, "gpu", lambda: pytest.fail("nothing runs"))
    pipeline._build_graph()
    require_serialisable(job, kind)
    nodes = []
    for instance in pipeline._ops:
        inputs = tuple(node.device for node in instance.inputs)
        operator = instance._op
        given = {**(getattr(operator, "_init_args", None) or {}), **(getattr(operator, "_call_args", None) or {})}
        arguments = {name: value for name, value in given.items() if not name.startswith("_")}
        nodes.append(Node(getattr(operator, "schema_name", "ExternalSource"), operator.device, inputs, arguments))
    return nodes


def require_serialisable(job: Job, kind: str) -> None:
    """Let DALI put the graph together and write it down, which is as far as it goes without a GPU.

    Numba's operators can't be written down; what they give comes from outside instead.
    """
    names = (f"from outside {number}" for number in count())

    def stand_in(compiled, *_inputs):
        outputs = [fn.external_source(name=next(names), dtype=kind, ndim=ndim) for kind, ndim in compiled.outputs]
        return outputs if len(outputs) > 1 else outputs[0]

    with (
        patch.object(dali, "operator", stand_in),
        patch.object(dali_input, "operator", stand_in),
        warnings.catch_warnings(),
    ):
        # The uniforms have nowhere to go then.
        warnings.filterwarnings("ignore", "The external source node .* produces .* outputs", Warning)
        assert dali.build(job, kind, "gpu", lambda: pytest.fail("nothing runs")).serialize()


def problems(nodes: list[Node]) -> list[str]:
    """What would fail, or cost a copy, on a GPU."""
    found = []
    for node in nodes:
        if node.schema in PYTHON:
            continue
        if node.schema not in registry(node.device):
            found.append(f"no {node.schema} for {node.device}")
            continue
        schema = backend.GetSchema(node.schema)
        found += [f"{node.schema} has no {name}" for name in node.arguments if not schema.HasArgument(name)]
        if node.device == "cpu" and "gpu" in node.inputs:
            found.append(f"{node.schema} takes from the GPU to the CPU")
        if node.schema.startswith("decoders__"):
            if node.device != "mixed":
                found.append(f"{node.schema} decodes on {node.device}")
            if node.arguments.get("jpeg_fancy_upsampling") is not True:
                found.append(f"{node.schema} upsamples otherwise than libjpeg-turbo")
    return found


@pytest.mark.parametrize("kind", ["path", "bytes", "pixels", "mixed path"])
@pytest.mark.parametrize("name", OPS)
def test_every_op_passes_the_audit(name, kind, source_of):
    for row in ROWS[name] if kind == "path" else ROWS[name][:1]:
        op = build_op({"op": name, **row}, "test")
        tail = () if op.stage != "pixels" else (ops.Normalize(mean=(0.5,) * 3, std=(0.5,) * 3),)
        recipe = Recipe(name="test", ops=(ops.Resize(size=(64, 64)), op, *tail))
        assert problems(graph(recipe, kind, source_of)) == []


OPERATORS = {
    "cifar-eval": 3,
    "cifar-train": 5,
    "contrastive": 392,
    "demo-eval": 4,
    "demo-train": 4,
    "imagenet-eval": 4,
    "imagenet-train-strong": 306,
    "imagenet-train": 4,
    "dino": 3928,
    "dino-eval": 4,
    "moco-v2": 785,
    "shear-zoom-eval": 3,
    "shear-zoom": 11,
    "simclr-eval": 4,
    "simclr": 785,
    "small-data-eval": 4,
    "small-data": 12,
}
"""How many operators a shipped recipe's graph has on the GPU. A greater number costs kernel launches: change it
knowingly."""

IMAGE_RECIPES = list(list_recipes("image"))


@pytest.mark.parametrize("name", IMAGE_RECIPES)
def test_every_shipped_recipe_passes_the_audit_with_as_many_operators_as_expected(name, source_of):
    nodes = graph(Recipe.load(name), "path", source_of)
    assert problems(nodes) == []
    assert sum(node.device == "gpu" for node in nodes) == OPERATORS[name]


def test_what_can_not_be_put_together_is_found(source_of, monkeypatch):
    """An operator that takes pixels from the GPU to the CPU does not pass DALI's own checks either."""
    broken = Entry(lambda images, step: fn.flip(images, device="cpu"), "flip")
    monkeypatch.setitem(dali.TABLE, Primitive.FLIP, broken)
    with pytest.raises((RuntimeError, ValueError)):
        graph(Recipe(name="test", ops=(ops.CenterCrop(size=9), ops.RandomHorizontalFlip())), "path", source_of)


@pytest.mark.parametrize(
    ("planted", "problem"),
    [
        (Node("PeekImageShape", "gpu"), "no PeekImageShape for gpu"),
        (Node("Flip", "gpu", ("gpu",), {"upside_down": 1}), "Flip has no upside_down"),
        (Node("Flip", "cpu", ("gpu",)), "Flip takes from the GPU to the CPU"),
        (Node("decoders__Image", "cpu", ("cpu",), {"jpeg_fancy_upsampling": True}), "decoders__Image decodes on cpu"),
        (Node("decoders__Image", "mixed", ("cpu",)), "decoders__Image upsamples otherwise than libjpeg-turbo"),
    ],
)
def test_the_audit_finds_what_is_planted(planted, problem, source_of):
    nodes = graph(Recipe.load("small-data"), "path", source_of)
    assert problems([*nodes, planted]) == [problem]
