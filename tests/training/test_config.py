import tomllib
from pathlib import Path

import pytest
import tomli_w
from pydantic import ValidationError

from dalipipe.errors import ConfigError
from dalipipe.training.config import DEMO, TrainConfig, read_config


def test_your_own_data_starts_from_pretrained_weights_with_their_recipe():
    cfg = TrainConfig(data="photos")
    assert (cfg.weights, cfg.recipe, cfg.data) == ("default", "auto", Path("photos"))


def test_the_demonstration_has_its_own_defaults_and_what_is_given_wins():
    demo = TrainConfig()
    assert {name: getattr(demo, name) for name in DEMO} == dict(DEMO)
    assert demo.weights == "none"
    assert TrainConfig(weights="default").recipe == "auto"  # for that of the demonstration is for random weights
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
        ({"freeze": "head"}, "--freeze: must be none, backbone or a number of blocks, got 'head'."),
        ({"schedule": "cos"}, "--schedule: must be 'cosine', 'step' or 'constant', got 'cos'."),
        ({"monitor": "val_los"}, "--monitor: must be a known measure, got 'val_los'. Did you mean 'val_loss'?"),
        ({"nesterov": "perhaps"}, "--nesterov: must be true or false, got 'perhaps'."),
        ({"unfreeze_at": 3}, "--unfreeze-at: needs something frozen, got 3 with --freeze none."),
        ({"balance": "loss", "mixup": 0.2}, "--balance: class weights and mixed labels exclude one another"),
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


def test_adamw_has_a_learning_rate_of_its_own():
    assert TrainConfig(optimizer="adamw").lr < TrainConfig().lr
    assert TrainConfig(optimizer="adamw", lr=0.1).lr == 0.1


def test_a_small_training_set_stops_early_unless_told_otherwise():
    assert [TrainConfig().patience_for(n) for n in (1999, 2000)] == [3, 0]
    assert [TrainConfig(patience=p).patience_for(10) for p in (0, 7)] == [0, 7]


# ------------------------------------------------------------------------------------------- files and single options


def test_options_go_above_set_goes_above_the_file_goes_above_the_defaults(tmp_path):
    (tmp_path / "run.toml").write_text('data = "photos"\nepochs = 2\nlr = 0.2\nseed = 2\n')
    cfg = read_config(tmp_path / "run.toml", ["lr=0.3", "seed=3", "warmup-epochs = 1.5"], {"seed": "4"})
    assert (cfg.batch_size, cfg.epochs, cfg.lr, cfg.seed, cfg.warmup_epochs) == (32, 2, 0.3, 4, 1.5)


def test_what_is_saved_repeats_the_run(tmp_path, monkeypatch):
    first = TrainConfig(data=tmp_path / "a b", nesterov=False, folds=3, freeze=2, lr=1e-5, output="there", clip_norm=2)
    (tmp_path / "config.toml").write_text(first.to_toml())
    again = read_config(tmp_path / "config.toml", given={"output": "there"})
    assert again == first
    for name in TrainConfig.model_fields:  # every option is in it, if only as a comment
        assert name in first.to_toml()
    monkeypatch.chdir(tmp_path)
    demo = TrainConfig(epochs=5)
    (tmp_path / "demo.toml").write_text(demo.to_toml())
    assert read_config(tmp_path / "demo.toml").model_copy(update={"output": demo.output}) == demo


@pytest.mark.parametrize(
    ("text", "assignments", "message"),
    [
        ("epoch = 3", [], "config.toml: must be a known option, got 'epoch'. Did you mean 'epochs'?"),
        ("epochs = 'x'", [], "--epochs: must be a whole number, got 'x'."),
        ("epochs = ", [], "--config: must be TOML, got"),
        ("", ["wieght_decay=1"], "--set: must be a known option, got 'wieght_decay'. Did you mean 'weight_decay'?"),
        ("", ["lr"], "--set: must be KEY=VALUE, got 'lr'. Write --set epochs=3, say."),
    ],
)
def test_what_cannot_be_read_is_said_in_one_line(tmp_path, text, assignments, message):
    (tmp_path / "config.toml").write_text(text)
    with pytest.raises(ConfigError) as caught:
        read_config(tmp_path / "config.toml", assignments)
    assert message in str(caught.value)


def test_a_file_that_is_not_there_is_named(tmp_path):
    with pytest.raises(ConfigError, match=r"--config: must be a readable file, got .*nowhere\.toml"):
        read_config(tmp_path / "nowhere.toml")
