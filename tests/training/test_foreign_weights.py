"""Weights as other trainers save them: found by what fits, whatever stands around them."""

import argparse
import collections
import datetime
import enum
import pathlib

import numpy as np
import pytest
import torch
from safetensors.torch import save_file
from torch.optim.swa_utils import AveragedModel

from dalipipe.errors import WeightsError
from dalipipe.training.network.models import create_model
from dalipipe.training.network.weights import load_weights

NAME = "squeezenet1_1"
CLASSES = ("ant", "bee")
torch.manual_seed(3)
NETWORK = create_model(NAME, 7)
STATE = NETWORK.state_dict()
OPTIMIZER = torch.optim.SGD(NETWORK.parameters(), 0.1, momentum=0.9)


class Phase(enum.Enum):
    LAST = 2


class Options(dict):
    """As the configurations of several libraries are."""


def under(*prefixes, state=None):
    return {prefix + name: tensor for prefix in prefixes for name, tensor in (state or STATE).items()}


def averaged():
    return AveragedModel(NETWORK).state_dict()


def other_values():
    return {name: tensor + 1 for name, tensor in STATE.items()}


FILES = {
    "bare": lambda: STATE,
    "some prefix": lambda: under("my.own.network."),
    "wrapped in something": lambda: {"the best so far": {"weights of it": under("module.")}, "acc": 93.1},
    "a list of networks' states": lambda: {"networks": [STATE]},
    "parts by themselves": lambda: {
        part: {name.removeprefix(f"{part}."): tensor for name, tensor in STATE.items() if name.startswith(part)}
        for part in ("features", "classifier")
    },
    "compiled": lambda: under("_orig_mod."),
    "compiled inside": lambda: {name.replace("features.", "features._orig_mod."): t for name, t in STATE.items()},
    "FSDP": lambda: {name.replace("features.3.", "features.3._fsdp_wrapped_module."): t for name, t in STATE.items()},
    "DeepSpeed": lambda: {"module": STATE, "ds_config": Options(a=1), "global_steps": 3},
    "timm": lambda: {
        "state_dict": STATE,
        "arch": "x",
        "optimizer": OPTIMIZER.state_dict(),
        "args": argparse.Namespace(lr=0.1),
        "metric": np.float64(3.0),
    },
    "an average alone": averaged,
    "beside its average": lambda: {"model_ema": other_values(), "model": STATE},
    "with objects": lambda: {
        "model": STATE,
        "a": pathlib.Path("x"),
        "b": np.arange(3),
        "c": Phase.LAST,
        "d": datetime.datetime(2026, 1, 2),
        "e": collections.defaultdict(list, x=[1]),
        "f": torch.device("cpu"),
        "g": {1, 2},
        "h": slice(3),
    },
    "in a mapping of its own": lambda: {"model": Options(STATE)},
    "half": lambda: {name: tensor.half() for name, tensor in STATE.items()},
    "bfloat16": lambda: {name: tensor.bfloat16() for name, tensor in STATE.items()},
    "parameters": lambda: {name: torch.nn.Parameter(tensor) for name, tensor in STATE.items()},
}


def read(tmp_path, content, **options):
    path = tmp_path / "w.pt"
    torch.save(content, path, **options)
    model = create_model(NAME, len(CLASSES))
    return model, load_weights(model, NAME, CLASSES, str(path))


@pytest.mark.parametrize("legacy", [False, True], ids=["archive", "legacy"])
@pytest.mark.parametrize("kind", FILES)
def test_weights_of_other_trainers_are_found(tmp_path, kind, legacy):
    model, report = read(tmp_path, FILES[kind](), _use_new_zipfile_serialization=not legacy)
    got = model.state_dict()
    assert report.fresh == ("classifier.1.weight", "classifier.1.bias")
    for name in set(STATE) - set(report.fresh):
        torch.testing.assert_close(got[name], STATE[name], rtol=0.01, atol=0.01)


def test_what_was_taken_and_what_was_left_is_said(tmp_path):
    _, report = read(tmp_path, {"state_dict": {**under("model."), "criterion.weight": torch.ones(7)}})
    assert report.prefix == "state_dict.model."
    assert report.skipped == ("classifier.1.weight", "classifier.1.bias", "criterion.weight")


def test_safetensors_have_prefixes_too(tmp_path):
    save_file(under("backbone."), tmp_path / "w.safetensors")
    report = load_weights(create_model(NAME, 2), NAME, CLASSES, str(tmp_path / "w.safetensors"))
    assert report.loaded == len(STATE) - 2


@pytest.mark.parametrize(
    "content",
    [
        {"state_dict": under("module.encoder_q.", "module.encoder_k.")},
        {"student": STATE, "teacher": other_values()},
        [STATE, other_values()],
    ],
    ids=["momentum", "teacher", "list"],
)
def test_two_networks_are_refused_and_their_prefixes_named(tmp_path, content):
    with pytest.raises(WeightsError, match=r"must hold one network that fits, got 2, whose names begin with '\S+', '"):
        read(tmp_path, content)


def test_another_network_is_refused_and_named_whatever_stands_around_it(tmp_path):
    other = create_model("squeezenet1_0", 2).state_dict()
    with pytest.raises(WeightsError, match="got those of squeezenet1_0"):
        read(tmp_path, {"net": under("module.", state=other), "optimizer": OPTIMIZER.state_dict()})


@pytest.mark.parametrize("content", [{"epoch": 3}, OPTIMIZER.state_dict(), {"a": torch.zeros(3)}])
def test_what_holds_no_network_is_refused(tmp_path, content):
    with pytest.raises(WeightsError, match=r"must hold a state dict|0 of its"):
        read(tmp_path, content)


class Caller:
    """A pickle of it calls a function when it is read."""

    def __init__(self, function, *arguments):
        self.function, self.arguments = function, arguments

    def __reduce__(self):
        return self.function, self.arguments


def test_no_code_of_a_file_is_run(tmp_path):
    mark = tmp_path / "mark"
    _, report = read(tmp_path, {"model": STATE, "x": Caller(open, mark, "w"), "y": Caller(exec, "1/0")})
    assert report.loaded and not mark.exists()
    with pytest.raises(WeightsError, match="it would run code"):
        read(tmp_path, {"model": STATE, "x": Caller(pathlib.Path.touch, mark)})
    assert not mark.exists()


def test_a_pickle_that_calls_the_system_is_called_what_it_is(tmp_path):
    import os

    with pytest.raises(WeightsError, match=r"a pickle that calls (posix|os)\.system: it would run code"):
        read(tmp_path, {"model": STATE, "x": Caller(os.system, f"touch {tmp_path / 'mark'}")})
    assert not (tmp_path / "mark").exists()
