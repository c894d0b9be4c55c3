"""A trained network as a file that runs without dalipipe: ONNX, or torch.export's own."""

from __future__ import annotations

import importlib.util
import json
from collections.abc import Callable
from pathlib import Path
from typing import IO, Any, Final, TypeAlias

import torch
from torch import nn

from dalipipe import __version__
from dalipipe.errors import ConfigError
from dalipipe.recipes.ops.base import tables_of
from dalipipe.training.network.trained import TrainedModel
from dalipipe.writing import write_file

FORMATS: Final = ("onnx", "torch-export")
METADATA_FILE: Final = "dalipipe.json"
"""Name of the extra file with the metadata in what `torch.export.load` reads."""

Writer: TypeAlias = Callable[[IO[bytes]], object]

_NEEDED: Final = ("onnx", "onnxscript")


def export_model(trained: TrainedModel, path: Path, kind: str) -> int:
    """Write a network that takes batches of any size, with its preprocessing and class names in its metadata.

    Returns the size of the file in bytes.

    Input `images`: (N, C, H, W) float32, as the recipe makes them. Output `logits`: (N, K) float32; softmax makes them
    probabilities. The metadata (see `metadata`) is in ONNX's `metadata_props`, a JSON text each, or in the extra file
    `METADATA_FILE` of torch.export.

    Args:
        trained: The network, its classes and its recipe.
        path: The file to write; one that is there is replaced.
        kind: One of `FORMATS`.

    Raises:
        ConfigError: an unknown format, a file that can't be written, or onnx is not installed.
    """
    if kind not in FORMATS:
        raise ConfigError(f"--format: must be one of {', '.join(FORMATS)}, got {kind!r}. Choose one of them.")
    model = trained.model.cpu().eval()
    example = torch.zeros(2, *trained.recipe.output_shape)  # of two: torch.export takes a size of 1 for a constant
    write = _onnx_writer if kind == "onnx" else _torch_writer
    return write_file(path, write(model, example, metadata(trained)))


def metadata(trained: TrainedModel) -> dict[str, Any]:
    """Return what someone needs who has the exported network and not dalipipe, as JSON values.

    `classes` are the names by index. `preprocessing` holds the size, layout and order of the channels of the input,
    `mean` and `std` (input = (level - mean) / std, levels 0 to 255) and the `steps` before that; `recipe` is all of it
    as TOML.
    """
    recipe = trained.recipe
    channels, height, width = recipe.output_shape
    mean, std = recipe.levels or ((0.0,) * 3, (1.0,) * 3)
    steps = tables_of([op for op in recipe.ops if op.stage != "range"])
    return {
        "classes": list(trained.classes),
        "preprocessing": {
            "height": height,
            "width": width,
            "layout": "NCHW",
            "channels": "RGB" if channels == 3 else "L",
            "dtype": "float32",
            "steps": steps,
            "mean": list(mean[:channels]),
            "std": list(std[:channels]),
        },
        "recipe": recipe.to_toml(),
        "dalipipe": __version__,
    }


def _onnx_writer(model: nn.Module, example: torch.Tensor, notes: dict[str, Any]) -> Writer:
    missing = [name for name in _NEEDED if importlib.util.find_spec(name) is None]
    if missing:
        raise ConfigError(
            f"--format onnx: needs {' and '.join(_NEEDED)}, got an environment without {' and '.join(missing)}. "
            'Run: pip install "dalipipe[export]"'
        )
    program = torch.onnx.export(
        model,
        (example,),
        dynamo=True,
        input_names=["images"],
        output_names=["logits"],
        dynamic_shapes=({0: torch.export.Dim("batch", min=1)},),
        verbose=False,
    )
    assert program is not None
    proto = program.model_proto
    for name, value in notes.items():
        proto.metadata_props.add(key=name, value=value if isinstance(value, str) else json.dumps(value))
    return lambda file: file.write(proto.SerializeToString())


def _torch_writer(model: nn.Module, example: torch.Tensor, notes: dict[str, Any]) -> Writer:
    program = torch.export.export(model, (example,), dynamic_shapes=({0: torch.export.Dim("batch", min=1)},))
    text = json.dumps(notes)
    return lambda file: torch.export.save(program, file, extra_files={METADATA_FILE: text})
