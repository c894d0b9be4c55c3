"""What ends a run before its end: signals, kills, and a disk on which nothing more can be written."""

import os
import random
import shutil
import signal
import subprocess
import threading
import time

import pytest

from dalipipe.errors import ConfigError, StoppedError
from dalipipe.training.intervals import Interval
from dalipipe.training.network.checkpoint import load_checkpoint
from dalipipe.training.run import loop
from dalipipe.training.run.interruption import Interruption, interruptible
from dalipipe.training.run.loop import train
from tests.training.breaking import MANY_EPOCHS, Watching, assert_same, config, many_epochs, resume, train_many_epochs
from tests.warm import started


@pytest.fixture(autouse=True)
def data(tiny_network, tiny_data):
    """The images that runs of the tiny network train on."""
    return tiny_data


# ------------------------------------------------------------------------------------------------------------ signals


def stop(cfg, moment, signum=signal.SIGTERM):
    """Send a signal at a moment of a run, and return how it ends and what was seen of it."""
    observer = Watching(moment, lambda: os.kill(os.getpid(), signum))
    with pytest.raises(StoppedError) as caught:
        train(cfg, observer)
    return caught.value, observer


@pytest.mark.parametrize("moment", [1, 4, 5, 6, 11, 12, 18])
def test_a_signal_ends_a_run_where_it_goes_on_exactly(data, moment):
    cfg = config(data, checkpoint_every="1h", balance="sampler", ema=0.9)
    train(cfg.model_copy(update={"output": data / "whole"}))
    error, before = stop(cfg, moment)
    assert error.signum == signal.SIGTERM
    after = resume(cfg)
    (where,) = after.where
    assert str(error) == (
        f"stopped by SIGTERM before {where}. Go on with: dalipipe train --resume --output {data / 'run'}"
    )
    assert before.batches + after.batches == [(epoch, batch) for epoch in (1, 2, 3) for batch in (1, 2, 3, 4)]
    assert_same(data / "run", data / "whole")


def test_gathered_gradients_are_used_before_a_run_ends(data):
    cfg = config(data, accumulate=3)
    train(cfg.model_copy(update={"output": data / "whole"}))
    error, before = stop(cfg, 1)
    assert "before epoch 1, batch 4." in str(error)
    assert before.batches == [(1, 1), (1, 2), (1, 3)]
    resume(cfg)
    assert_same(data / "run", data / "whole")


def test_ctrl_c_says_so_and_quotes_the_directory(data):
    error, _ = stop(config(data, "a run"), 2, signal.SIGINT)
    assert error.signum == signal.SIGINT
    assert str(error) == (
        f"stopped by SIGINT before epoch 1, batch 3. Go on with: dalipipe train --resume --output '{data / 'a run'}'"
    )


def test_a_fold_is_stopped_and_the_whole_is_gone_on_with(data):
    cfg = config(data, folds=2, epochs=1)
    error, _ = stop(cfg, 7)
    assert str(error).endswith(f"--output {data / 'run'}")
    assert len(resume(cfg).done) == 1


def test_a_signal_that_comes_while_a_fold_is_concluded_is_not_lost(data, monkeypatch):

    summarise = loop.summarise
    monkeypatch.setattr(loop, "summarise", lambda *a: (os.kill(os.getpid(), signal.SIGTERM), summarise(*a))[1])
    with pytest.raises(StoppedError, match="before what follows this fold"):
        train(config(data, folds=2, epochs=1))
    assert not (data / "run/fold-2").exists()


def test_what_signals_did_before_they_do_after(data):
    before = [signal.getsignal(number) for number in (signal.SIGTERM, signal.SIGINT)]
    stop(config(data), 1, signal.SIGINT)
    assert before == [signal.getsignal(number) for number in (signal.SIGTERM, signal.SIGINT)]


def test_a_second_ctrl_c_is_the_system_s():
    with interruptible() as interruption:
        assert interruption.signum is None
        os.kill(os.getpid(), signal.SIGTERM)
        os.kill(os.getpid(), signal.SIGTERM)
        assert signal.getsignal(signal.SIGINT) == interruption.note
        os.kill(os.getpid(), signal.SIGINT)
        assert signal.getsignal(signal.SIGINT) is signal.SIG_DFL
        assert (interruption.signum, interruption.name) == (signal.SIGTERM, "SIGTERM")
    assert signal.getsignal(signal.SIGINT) is signal.default_int_handler


def test_a_signal_that_is_ignored_stays_so():
    before = signal.signal(signal.SIGINT, signal.SIG_IGN)
    try:
        with interruptible() as interruption:
            os.kill(os.getpid(), signal.SIGINT)
            assert interruption.signum is None
        assert signal.getsignal(signal.SIGINT) is signal.SIG_IGN
    finally:
        signal.signal(signal.SIGINT, before)


def test_in_another_thread_a_run_takes_no_signals(data):
    summaries = []
    thread = threading.Thread(target=lambda: summaries.append(train(config(data, epochs=1))))
    thread.start()
    thread.join(240)
    assert summaries[0]["last"]["epoch"] == 1
    assert Interruption().name == ""


# ---------------------------------------------------------------------------------------------------------- how often


@pytest.mark.parametrize(
    ("text", "interval"),
    [
        ("200", Interval(batches=200)),
        (" 1 ", Interval(batches=1)),
        ("90s", Interval(seconds=90)),
        ("10min", Interval(seconds=600)),
        ("1.5 h", Interval(seconds=5400)),
    ],
)
def test_an_interval_is_read(text, interval):
    assert Interval.parse(text) == interval


@pytest.mark.parametrize("text", ["", "0", "0s", "0.0h", "1.5", "-3", "10m", "min", "1e3", "10 minutes", "nan"])
def test_what_is_no_interval_is_refused(data, text):
    with pytest.raises(ConfigError) as caught:
        config(data, checkpoint_every=text)
    assert str(caught.value) == (
        f"--checkpoint-every: must be a number of batches or a time, got {text!r}. Write 200, 90s, 10min or 1h."
    )


def test_an_interval_is_over_after_its_batches_or_its_time():
    assert [Interval(batches=3).over(batches, 1e9) for batches in (2, 3, 4)] == [False, True, True]
    assert [Interval(seconds=60).over(10**9, seconds) for seconds in (59.9, 60, 61)] == [False, True, True]


@pytest.mark.parametrize(
    ("every", "accumulate", "written"),
    [("1h", 1, []), ("3", 1, [3]), ("1", 1, [1, 2, 3, 4]), ("1", 2, [2, 4]), ("3", 2, [4])],
)
def test_checkpoints_are_written_when_they_are_due(data, monkeypatch, every, accumulate, written):
    from dalipipe.training.resume.resumption import Checkpoints

    seen = []
    monkeypatch.setattr(Checkpoints, "write", lambda self, one: seen.append((one.state["epoch"], one.state["batch"])))
    train(config(data, epochs=2, checkpoint_every=every, accumulate=accumulate))
    assert seen == [(0, n) for n in written] + [(1, 0)] + [(1, n) for n in written] + [(2, 0)]


# --------------------------------------------------------------------------------------------------------------- disk


@pytest.fixture
def disk(tmp_path):
    """A file system of 300 KB."""
    folder = tmp_path / "disk"
    folder.mkdir()
    command = ["mount", "-t", "tmpfs", "-o", "size=300k", "tmpfs", str(folder)]
    if shutil.which("mount") is None or subprocess.run(command, capture_output=True, check=False).returncode:
        pytest.skip("needs the right to mount a file system")
    yield folder
    subprocess.run(["umount", str(folder)], check=True)


def fill(folder):
    """Leave no byte free."""
    with (folder / "filler").open("wb", buffering=0) as file:
        try:
            while file.write(bytes(4096)):
                pass
        except OSError:
            return


def assert_goes_on(data, cfg, message, spoil, mend):
    """Let a run fail at the end of its second epoch, see what is left, and go on when the disk is well again."""
    train(cfg.model_copy(update={"output": data / "whole"}))
    observer = Watching(11, spoil)
    with pytest.raises(ConfigError) as caught:
        train(cfg, observer)
    assert message in str(caught.value)
    assert "\n" not in str(caught.value)
    assert load_checkpoint(cfg.output / "last.pt").epoch == 1
    assert [path.name for path in (cfg.output / "checkpoints").iterdir()] == ["epoch-00001-batch-0000000.pt"]
    assert not list(cfg.output.rglob("*.tmp"))
    mend()
    assert resume(cfg).where == ["epoch 2, batch 1"]
    assert_same(cfg.output, data / "whole")


def test_a_full_disk_is_said_and_leaves_the_last_checkpoint(data, disk):
    cfg = config(data, checkpoint_every="1h").model_copy(update={"output": disk / "run"})
    message = "must be writable, got No space left on device. Free some space or choose another place."
    assert_goes_on(data, cfg, message, lambda: fill(disk), (disk / "filler").unlink)


def test_a_disk_that_becomes_read_only_is_said_and_leaves_the_last_checkpoint(data, disk):
    cfg = config(data, checkpoint_every="1h").model_copy(update={"output": disk / "run"})
    place = str(cfg.output / "checkpoints")  # not the whole disk, on which the run has a file open

    def seal():
        subprocess.run(["mount", "--bind", place, place], check=True)
        subprocess.run(["mount", "-o", "remount,bind,ro", place], check=True)

    message = "must be writable, got Read-only file system"
    assert_goes_on(data, cfg, message, seal, lambda: subprocess.run(["umount", place], check=True))


def test_a_read_only_directory_is_refused_before_anything_is_done(data, disk):
    subprocess.run(["mount", "-o", "remount,ro", str(disk)], check=True)
    observer = Watching()
    with pytest.raises(ConfigError, match=r"--output: must be a directory that can be written to, got .*Read-only"):
        train(config(data).model_copy(update={"output": disk / "run"}), observer)
    assert observer.batches == []


# -------------------------------------------------------------------------------------------------------------- kills


def test_kill_9_at_a_random_moment(data):
    cfg = many_epochs(data)
    train(cfg.model_copy(update={"output": data / "whole"}))
    rng = random.Random(seed := int.from_bytes(os.urandom(4), "big"))
    metrics, epochs = data / "run/metrics.jsonl", rng.randint(1, MANY_EPOCHS // 2)
    with started(train_many_epochs, data) as process:
        began = time.monotonic()
        while (len(metrics.read_bytes().splitlines()) if metrics.exists() else 0) < epochs:
            assert time.monotonic() < began + 240 and process.is_alive(), seed
            time.sleep(0.002)
        time.sleep(rng.uniform(0, 0.05))
        process.kill()
        process.join(60)
        assert process.exitcode == -signal.SIGKILL, seed
    observer = resume(cfg)
    assert observer.where, seed
    assert_same(data / "run", data / "whole")
