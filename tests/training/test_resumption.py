"""Runs that are broken off at any moment and gone on with: they end as if nothing had happened."""

import shutil
from pathlib import Path

import pytest
import torch

from dalipipe.errors import ConfigError, StateError
from dalipipe.training.config import read_config
from dalipipe.training.network.checkpoint import load_checkpoint
from dalipipe.training.observer import Observer
from dalipipe.training.run import loop
from dalipipe.training.run.loop import train
from tests.training.breaking import RECIPE, Killed, Watching, assert_same, checkpoints, config, kill, resume, tiny_model


@pytest.fixture(autouse=True)
def data(tiny_network, tiny_data):
    """The images that runs of the tiny network train on."""
    return tiny_data


VARIANTS = {  # of three epochs where the third brings anything new
    "plain": {},
    "adamw, warm-up, average": {"optimizer": "adamw", "warmup_epochs": 1.5, "ema": 0.9, "epochs": 2},
    "mixed labels, gathered gradients": {"mixup": 0.4, "cutmix": 1.0, "accumulate": 3, "clip_norm": 0.5, "epochs": 2},
    "unfreezing, balanced": {"freeze": "backbone", "unfreeze_at": 2, "unfreeze": "gradual", "balance": "sampler"},
    "stops early, step": {"patience": 1, "min_delta": 0.5, "schedule": "step", "step_epochs": 1, "monitor": "val_acc"},
    "dali": {"backend": "dali-cpu", "batch_size": 5, "balance": "sampler", "tta": True, "epochs": 2},
    "random validation": {"recipe": "random.toml", "schedule": "constant", "epochs": 2},
    "seldom": {"checkpoint_every": "3", "precision": "bf16", "channels_last": True},
    "at the end of epochs": {"checkpoint_every": "1h", "balance": "loss", "label_smoothing": 0.1, "epochs": 2},
}


class Copying(Watching):
    """Copies a run's directory at each moment: what a process leaves behind that is killed there and cleans nothing."""

    def __init__(self, data):
        super().__init__()
        self.data = data

    def pass_moment(self):
        super().pass_moment()
        shutil.copytree(self.data / "run", self.data / f"killed-{self.moments}")


@pytest.mark.parametrize("name", VARIANTS)
def test_a_run_killed_at_any_moment_ends_as_one_that_was_not(data, name):
    cfg = config(data, **VARIANTS[name])
    whole = Copying(data)
    train(cfg, whole)
    (data / "run").rename(data / "whole")
    assert whole.moments > 6
    for moment in range(1, whole.moments + 1):
        (data / f"killed-{moment}").rename(data / "run")
        resume(cfg)
        assert_same(data / "run", data / "whole")
        shutil.rmtree(data / "run")


@pytest.mark.parametrize("name", ["plain", "mixed labels, gathered gradients"])
def test_a_run_that_unwinds_at_any_moment_ends_as_one_that_did_not(data, name):
    """As above, by an exception that nobody handles: what a run does on its way out must not harm it."""
    cfg = config(data, **{**VARIANTS[name], "epochs": 2})
    whole = Watching()
    train(cfg.model_copy(update={"output": data / "whole"}), whole)
    for moment in range(1, whole.moments + 1):
        kill(cfg, moment)
        resume(cfg)
        assert_same(data / "run", data / "whole")
        shutil.rmtree(data / "run")


def test_a_run_killed_again_and_again_gets_to_its_end(data):
    train(config(data, "whole"))
    cfg = config(data).model_copy(update={"resume": True})
    for _ in range(40):
        observer = Watching(2)
        try:
            train(cfg, observer)
        except Killed:
            continue
        break
    assert observer.moments < 2
    assert_same(data / "run", data / "whole")


@pytest.mark.parametrize("after", [False, True])
def test_a_kill_between_any_two_files_loses_nothing(data, monkeypatch, after):
    cfg = config(data, epochs=2, checkpoint_every="2")
    train(cfg.model_copy(update={"output": data / "whole"}))
    replace, left = Path.replace, [0]

    def die(self, target):
        left[0] -= 1
        if after:
            replace(self, target)
        if left[0] == 0:
            if not after:
                shutil.copy(self, self.with_name(".left.pt.12345.tmp"))  # a kill removes nothing
            raise Killed
        return target if after else replace(self, target)

    for number in range(1, 100):
        left[0] = number
        with monkeypatch.context() as patch:
            patch.setattr(Path, "replace", die)
            try:
                train(cfg)
            except Killed:
                pass
            else:
                break
        resume(cfg)
        assert_same(data / "run", data / "whole")
        shutil.rmtree(data / "run")
    assert number > 10


def test_only_what_is_left_is_done_and_read(data):
    cfg = config(data, epochs=1)
    indices = []
    seen = kill(cfg, 3).batches
    assert seen == [(1, 1), (1, 2), (1, 3)]
    with loop.open_data(cfg, 0, Observer()) as opened:
        for _ in zip(range(2), opened.train, strict=False):
            indices += opened.train.last_indices.tolist()
        for index in indices:  # of the two batches that are in the checkpoint
            Path(opened.train.source.item(index)).write_bytes(b"no image")
    observer = resume(cfg)
    assert observer.batches == [(1, 3), (1, 4)]


@pytest.mark.parametrize(
    ("moment", "where"),
    [
        (2, "epoch 1, batch 2"),  # that of the second batch was not yet written
        (5, "epoch 1, validation"),
        (6, "epoch 2, batch 1"),
        (10, "epoch 2, batch 4"),
        (18, "the last evaluation"),
    ],
)
def test_where_it_goes_on_is_told(data, moment, where):
    kill(config(data), moment)
    assert resume(config(data)).where == [where]


def test_where_there_is_nothing_to_go_on_with_a_run_begins(data):
    observer = resume(config(data))
    assert (observer.where, len(observer.batches)) == ([], 12)


def test_a_run_without_checkpoints_is_not_touched(data):
    train(config(data, epochs=1))
    shutil.rmtree(data / "run/checkpoints")
    (data / "run/summary.json").unlink()
    before = {path: path.read_bytes() for path in (data / "run").iterdir()}
    with pytest.raises(ConfigError, match=r"--output: must not hold another run, got .* with metrics\.jsonl, best\.pt"):
        resume(config(data, epochs=1))
    assert before == {path: path.read_bytes() for path in (data / "run").iterdir()}


def test_a_finished_run_is_left_as_it_is(data):
    cfg = config(data, epochs=1)
    summary = train(cfg)
    before = {path: path.stat().st_mtime_ns for path in (data / "run").rglob("*")}
    observer = Watching()
    assert train(cfg.model_copy(update={"resume": True}), observer) == summary
    assert (observer.done, observer.batches) == (["run"], [])
    assert before == {path: path.stat().st_mtime_ns for path in (data / "run").rglob("*")}
    with pytest.raises(StateError, match=r"epochs was 1, got 2"):
        resume(config(data, epochs=2))


def test_the_summary_is_that_of_an_undisturbed_run_but_for_its_times(data):
    whole = train(config(data, "whole"))
    kill(config(data), 8)
    observer = Watching()
    resumed = train(config(data).model_copy(update={"resume": True}), observer)
    assert resumed["duration_s"] > 0
    different = {"duration_s", "timing", "config"}
    assert {key: resumed[key] for key in resumed.keys() - different} == {
        key: whole[key] for key in whole.keys() - different
    }


def test_each_fold_is_done_once(data):
    cfg = config(data, epochs=1, folds=3)
    whole = train(cfg.model_copy(update={"output": data / "whole"}))
    last = kill(cfg, 8).batches[-1][1]  # in the second fold
    assert last > 1
    observer = Watching()
    again = train(read_config(given={"resume": True, "output": data / "run"}), observer)
    assert (observer.done, observer.where) == (["fold-1"], [f"epoch 1, batch {last}"])
    assert observer.batches[0] == (1, last)
    assert observer.batches.count((1, 1)) == 1  # of the third fold
    assert (again["mean"], again["std"]) == (whole["mean"], whole["std"])
    for number in (1, 2, 3):
        assert_same(data / f"run/fold-{number}", data / f"whole/fold-{number}")
    observer = Watching()
    assert train(cfg.model_copy(update={"resume": True}), observer)["mean"] == whole["mean"]
    assert observer.done == ["run"]


# ------------------------------------------------------------------------------------------------------------- damage


def damage(path):
    content = bytearray(path.read_bytes())
    for position in range(len(content) // 3, len(content) // 3 + 500):
        content[position] ^= 1
    path.write_bytes(content)


def test_the_newest_two_are_kept(data):
    kill(config(data), 9)
    assert [path.name for path in checkpoints(data)] == [
        "epoch-00001-batch-0000001.pt",
        "epoch-00001-batch-0000002.pt",
    ]


@pytest.mark.parametrize("moment", [3, 6, 9, 12])
def test_where_the_newest_is_damaged_the_one_before_is_used(data, moment):
    train(config(data, "whole"))
    kill(config(data), moment)
    old, new = checkpoints(data)
    damage(new)
    observer = resume(config(data))
    assert observer.warnings[0].startswith(f"{new}: must")
    assert observer.warnings[0].endswith(f" The one before is used: {old.name}.")
    assert_same(data / "run", data / "whole")
    assert len(checkpoints(data)) == 2


def test_a_damaged_one_stays_until_a_new_one_is_written(data):
    kill(config(data), 3)
    old, new = checkpoints(data)
    damage(new)
    observer = Watching(1)
    with pytest.raises(Killed):  # after a batch, before its checkpoint
        train(config(data).model_copy(update={"resume": True}), observer)
    assert checkpoints(data) == [old, new]
    assert len(resume(config(data), moment=None).warnings) == 1


def test_where_all_are_damaged_nothing_is_overwritten(data):
    kill(config(data), 9)
    for path in checkpoints(data):
        path.write_bytes(b"no checkpoint")
    with pytest.raises(StateError) as caught:
        resume(config(data))
    assert str(caught.value) == (
        f"{data}/run/checkpoints: must hold a checkpoint that can be read, got damaged ones only "
        "(epoch-00001-batch-0000001.pt, epoch-00001-batch-0000002.pt). Begin the run anew with another --output."
    )
    assert (data / "run/best.pt").exists()


def test_a_file_of_another_kind_is_no_checkpoint_of_a_run(data):
    kill(config(data), 9)
    shutil.copy(data / "run/best.pt", checkpoints(data)[1])
    assert "must be the checkpoint of a run, got another file" in resume(config(data)).warnings[0]


@pytest.mark.parametrize("moment", [12, 14])  # between two epochs, and within one
@pytest.mark.parametrize("spoil", [Path.unlink, damage])
def test_where_the_best_network_is_lost_the_best_of_the_others_is_kept(data, moment, spoil):
    cfg = config(data, monitor="val_calibration_error", lr=1e-9)  # the first epoch is the best
    kill(cfg, moment)
    first = load_checkpoint(data / "run/best.pt")
    assert first.epoch == 1
    spoil(data / "run/best.pt")
    observer = resume(cfg)
    (warning,) = observer.warnings
    assert warning.startswith(f"{data}/run/best.pt: must")
    assert warning.endswith(" The best network from epoch 2 on is kept.")
    assert load_checkpoint(data / "run/best.pt").epoch in (2, 3)
    assert len((data / "run/metrics.jsonl").read_text().splitlines()) == 3


# ------------------------------------------------------------------------------------------------ what may be changed


def test_options_that_decide_the_result_are_refused_and_named(data):
    kill(config(data), 3)
    with pytest.raises(StateError) as caught:
        resume(config(data, lr=0.5, seed=4, patience=2, nesterov=False))
    assert str(caught.value) == (
        f"--resume: options must be those that the run in '{data}/run' began with: seed was 0, got 4; "
        "patience was none, got 2; lr was 0.02, got 0.5; nesterov was true, got false. "
        "Leave them out, or choose another --output."
    )


def test_the_others_may_differ(data, monkeypatch):
    train(config(data, "whole"))
    kill(config(data), 7)
    monkeypatch.chdir(data)
    other = config(data, threads=2, checkpoint_every="1h", device="cpu", check_split=False, tensorboard=True)
    paths = {"data": Path("images/../images"), "output": Path("run"), "recipe": "tiny.toml"}
    resume(other.model_copy(update=paths))
    assert_same(data / "run", data / "whole")
    assert list((data / "run/tensorboard").iterdir())


def test_the_run_s_own_options_need_not_be_given(data, tmp_path):
    kill(config(data, seed=5), 3)
    cfg = read_config(given={"resume": True, "output": str(data / "run")})
    assert (cfg.seed, cfg.data, cfg.epochs) == (5, data / "images", 3)
    assert read_config(assignments=["resume=true", f"output={data / 'run'}"]) == cfg
    (tmp_path / "other.toml").write_text("seed = 7")
    assert read_config(tmp_path / "other.toml", given={"resume": True, "output": data / "run"}).seed == 7
    assert read_config(given={"output": str(data / "run")}).seed == 0


@pytest.mark.parametrize(
    ("change", "message"),
    [
        (lambda data: (data / "images/red/0.png").unlink(), r"the (training|validation) images must be those"),
        (lambda data: (data / "images/red").rename(data / "images/green"), r"the classes must be .* \('blue', 'red'\)"),
        (
            lambda data: (data / "tiny.toml").write_text(RECIPE.replace("16", "19")),
            r"the training recipe must be those that the run began with: tiny \(.*\), got tiny \(",
        ),
    ],
)
def test_images_and_recipe_must_be_those_of_the_run(data, change, message):
    kill(config(data), 3)
    change(data)
    with pytest.raises(StateError, match=message):
        resume(config(data))


def test_other_versions_are_told_of(data, monkeypatch):
    from dalipipe.training.resume import resumption

    kill(config(data), 3)
    versions = resumption.versions()
    monkeypatch.setattr(resumption, "versions", lambda: {**versions, "torch": "99.0"})
    (warning,) = resume(config(data)).warnings
    assert warning.startswith(f"the run goes on under other versions: torch was {versions['torch']}, is 99.0.")


def test_weights_that_are_gone_are_not_needed_again(data):
    torch.save(tiny_model("", 2, "", 0).state_dict(), data / "w.pt")
    cfg = config(data, weights=str(data / "w.pt"))
    kill(cfg, 3)
    (data / "w.pt").unlink()
    observer = Watching()
    summary = train(cfg.model_copy(update={"resume": True}), observer)
    assert summary["weights"]["from"] == str(data / "w.pt")
    assert summary["weights"]["loaded"] > 0
