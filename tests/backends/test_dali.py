"""The graphs of DALI's operators: every op has its place in them, on a machine with a GPU and on one without."""

import tomllib
from dataclasses import replace
from pathlib import Path

import pytest

from dalipipe.backends import Job, dali, describe_step
from dalipipe.recipes import Recipe, ops
from dalipipe.recipes.ops import OPS

ROWS = tomllib.loads((Path(__file__).parents[1] / "ops.toml").read_text())
PIXEL_OPS = [name for name, model in OPS.items() if model.stage == "pixels" and not issubclass(model, ops.Container)]


def graph(recipe: Recipe, kind: str, source_of) -> list[tuple[str, str, list[str]]]:
    """(schema, device, devices of the inputs) of every DALI operator in the GPU graph, built without a device."""
    from nvidia.dali.pipeline import Pipeline

    job = replace(Job(source_of([]), recipe, batch_size=3), device_id=None)
    pipeline = dali.build(job, kind, "gpu", lambda: pytest.fail("nothing runs"))
    assert isinstance(pipeline, Pipeline)
    pipeline._build_graph()
    nodes = []
    for instance in pipeline._ops:
        inputs = [node.device for node in instance.inputs]
        nodes.append((getattr(instance._op, "schema_name", "ExternalSource"), instance._op.device, inputs))
    return nodes


def test_pixels_stay_on_the_gpu_once_they_are_there(source_of):
    recipe = Recipe.load("small-data")
    nodes = graph(recipe, "path", source_of)
    assert not [node for node in nodes if node[1] == "cpu" and "gpu" in node[2]]
    work = [schema for schema, device, _ in nodes if device == "gpu"]
    assert [
        schema for schema in work if schema in ("WarpAffine", "Flip", "Slice", "Resize", "CropMirrorNormalize")
    ] == [
        "WarpAffine",  # the image, and the mask of what lies inside it
        "WarpAffine",
        "Flip",
        "Slice",
        "Resize",
        "CropMirrorNormalize",
    ]


def test_a_leading_random_crop_decodes_only_its_window(source_of):
    def decoders(recipe):
        return [schema for schema, _, _ in graph(recipe, "path", source_of) if schema.startswith("decoders__")]

    assert decoders(Recipe.load("imagenet-train")) == ["decoders__ImageSlice"]
    assert decoders(Recipe.load("imagenet-eval")) == ["decoders__Image"]
    assert describe_step(Recipe.load("imagenet-train"), "dali-gpu")[0] == "fn.decoders.image_slice + resize"
