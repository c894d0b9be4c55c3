import json

import numpy as np
import onnx
import onnxruntime
import pytest
import torch

import dalipipe
from dalipipe.errors import ConfigError
from dalipipe.recipes import Recipe
from dalipipe.training.network import export


@pytest.fixture(scope="module")
def trained(checkpoint):
    return dalipipe.load_model(checkpoint)


@pytest.fixture(scope="module")
def images(trained):
    """Five images as the recipe makes them, which is another number than any that was exported."""
    return torch.randn(5, *trained.recipe.output_shape, generator=torch.Generator().manual_seed(1))


def assert_usable(notes, trained):
    """What someone without dalipipe needs is there, and is right."""
    assert notes["classes"] == ["ant", "bee", "cat"]
    how = notes["preprocessing"]
    assert (how["height"], how["width"], how["layout"], how["channels"]) == (37, 35, "NCHW", "RGB")
    level = 200
    assert (level - how["mean"][2]) / how["std"][2] == pytest.approx((level / 255 - 0.3) / 0.3)
    assert [step["op"] for step in how["steps"]] == ["Resize"]
    assert Recipe.from_toml(notes["recipe"]) == trained.recipe


def test_onnx_agrees_with_the_network_for_batches_of_any_size(trained, images, tmp_path):
    export.export_model(trained, tmp_path / "net.onnx", "onnx")
    assert [path.name for path in tmp_path.iterdir()] == ["net.onnx"]  # no weights beside it
    onnx.checker.check_model(onnx.load(tmp_path / "net.onnx"))
    session = onnxruntime.InferenceSession(tmp_path / "net.onnx", providers=["CPUExecutionProvider"])
    for batch in (images, images[:1]):
        (logits,) = session.run(["logits"], {"images": batch.numpy()})
        with torch.inference_mode():
            np.testing.assert_allclose(logits, trained.model(batch).numpy(), rtol=1e-4, atol=1e-5)
    properties = session.get_modelmeta().custom_metadata_map
    structured = {name: json.loads(properties[name]) for name in ("classes", "preprocessing")}
    assert_usable({**properties, **structured}, trained)


def test_torch_export_agrees_with_the_network(trained, images, tmp_path):
    export.export_model(trained, tmp_path / "net.pt2", "torch-export")
    extra = {export.METADATA_FILE: ""}
    module = torch.export.load(tmp_path / "net.pt2", extra_files=extra).module()
    with torch.inference_mode():
        torch.testing.assert_close(module(images), trained.model(images))
    assert_usable(json.loads(extra[export.METADATA_FILE]), trained)


def test_a_missing_library_is_named_with_how_to_get_it(trained, tmp_path, monkeypatch):
    monkeypatch.setattr(export.importlib.util, "find_spec", lambda name: None)
    with pytest.raises(ConfigError, match=r"without onnx and onnxscript. Run: pip install \"dalipipe\[export\]\""):
        export.export_model(trained, tmp_path / "net.onnx", "onnx")
    assert not list(tmp_path.iterdir())
