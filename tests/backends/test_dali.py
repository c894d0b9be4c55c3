"""The graphs of DALI's operators: every op has its place in them, on a machine with a GPU and on one without."""

import tomllib
from dataclasses import replace
from pathlib import Path

import pytest

from dalipipe.backends import Job, dali
from dalipipe.errors import BackendError
from dalipipe.recipes import Recipe, ops
from dalipipe.recipes.ops import OPS

ROWS = tomllib.loads((Path(__file__).parents[1] / "ops.toml").read_text())
PIXEL_OPS = [name for name, model in OPS.items() if model.stage == "pixels" and not issubclass(model, ops.Container)]


@pytest.mark.parametrize("name", PIXEL_OPS)
def test_every_pixel_op_has_a_lowering(name):
    assert (OPS[name] in dali.LOWERINGS) != (name == "RandomPerspective")
    assert set(dali.LOWERINGS) <= set(OPS.values())


def test_an_op_without_lowering_is_refused_by_name(monkeypatch):
    monkeypatch.delitem(dali.LOWERINGS, ops.RandomRotation)
    recipe = Recipe(name="test", ops=(ops.CenterCrop(size=9), ops.RandomRotation(degrees=3)))
    with pytest.raises(BackendError) as caught:
        dali.require_supported(recipe, "dali-cpu-stock")
    assert str(caught.value).startswith("dali-cpu-stock: no lowering for RandomRotation. It has: RandomResizedCrop, ")
    assert str(caught.value).endswith('Use backend "dali-cpu" or "torchvision".')


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
    assert dali.describe(Recipe.load("imagenet-train"))[0] == "decoders.image_slice + resize"
