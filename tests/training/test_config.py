import tomllib
from pathlib import Path

import pytest
import tomli_w
import torchvision
from pydantic import ValidationError

from dalipipe.errors import ConfigError
from dalipipe.training.config import DEMO, MODELS, TrainConfig


def test_every_model_is_one_of_torchvisions():
    assert set(MODELS) <= set(torchvision.models.list_models(module=torchvision.models))
    assert len(MODELS) == len(set(MODELS)) == 13


def test_your_own_data_starts_from_pretrained_weights_with_their_recipe():
    cfg = TrainConfig(data="photos")
    assert (cfg.weights, cfg.recipe, cfg.data) == ("default", "imagenet-train", Path("photos"))


def test_the_demonstration_has_its_own_defaults_and_what_is_given_wins():
    demo = TrainConfig()
    assert {name: getattr(demo, name) for name in DEMO} == dict(DEMO)
    assert demo.weights == "none"
    given = TrainConfig(weights="default", recipe="cifar-train", epochs=3)
    assert (given.weights, given.recipe, given.epochs) == ("default", "cifar-train", 3)


def test_it_cannot_be_changed():
    with pytest.raises(ValidationError, match="frozen"):
        TrainConfig().epochs = 3  # type: ignore[misc]


def test_it_survives_toml():
    cfg = TrainConfig(data="photos", lr=0.3, epochs=2, output="somewhere")
    known = {name: value for name, value in cfg.plain().items() if value is not None}
    assert TrainConfig(**tomllib.loads(tomli_w.dumps(known))) == cfg


def test_text_from_a_command_line_is_read():
    cfg = TrainConfig(epochs="3", lr="1e-2", val_fraction="0.25")
    assert (cfg.epochs, cfg.lr, cfg.val_fraction) == (3, 0.01, 0.25)


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"batch_size": 0}, "--batch-size: must be at least 1, got 0. The default is 32."),
        ({"epochs": 0}, "--epochs: must be at least 1, got 0."),
        ({"epochs": "many"}, "--epochs: must be a whole number, got 'many'."),
        ({"epochs": 1.5}, "--epochs: must be a whole number, got 1.5."),
        ({"lr": 0}, "--lr: must be more than 0, got 0."),
        ({"lr": float("nan")}, "--lr: must be a finite number, got nan."),
        ({"lr": "fast"}, "--lr: must be a number, got 'fast'."),
        ({"val_fraction": 1}, "--val-fraction: must be less than 1, got 1."),
        ({"seed": -1}, "--seed: must be at least 0, got -1."),
        ({"threads": 0}, "--threads: must be at least 1, got 0. Leave it out for the default."),
        ({"model": "resnet19"}, "--model: must be a known network, got 'resnet19'. Did you mean 'resnet18'?"),
        ({"batchsize": 3}, "train: must be a known option, got 'batchsize'. Did you mean 'batch_size'?"),
    ],
)
def test_what_cannot_work_is_said_in_one_line(options, message):
    with pytest.raises(ConfigError) as caught:
        TrainConfig(**options)
    assert str(caught.value).startswith(message)
    assert "\n" not in str(caught.value)


def test_two_runs_do_not_share_a_default_directory(monkeypatch):
    monkeypatch.setattr("time.strftime", lambda form: "20300102-030405")
    assert TrainConfig().output == Path("runs/20300102-030405")
