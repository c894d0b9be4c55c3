"""One output, one writer: whoever comes second is refused, and nothing that a dead process left is in the way."""

import json
import multiprocessing
import os
import signal
import socket
import subprocess
import sys
import time
from pathlib import Path

import pytest

from dalipipe.errors import ConfigError
from dalipipe.sources.clutter import LOCK
from dalipipe.training.run import lock
from dalipipe.training.run.lock import held

CODE = """
import sys, time
from pathlib import Path
from dalipipe.training.run.lock import held
with held(Path(sys.argv[1])):
    print("held", flush=True)
    time.sleep(600)
"""


@pytest.fixture
def holder(tmp_path):
    """Another process that holds tmp_path / "run"."""
    environment = {**os.environ, "PYTHONPATH": str(Path(__file__).parents[2])}
    with subprocess.Popen(
        [sys.executable, "-c", CODE, str(tmp_path / "run")], stdout=subprocess.PIPE, env=environment
    ) as process:
        assert process.stdout is not None
        assert process.stdout.readline() == b"held\n"
        yield process
        process.kill()


def test_a_second_writer_is_refused_until_the_first_is_gone(tmp_path, holder):
    words = rf"another run writes \(process {holder.pid} on '{socket.gethostname()}', since 20\d\d-.*\)\. Wait for it"
    with pytest.raises(ConfigError, match=words), held(tmp_path / "run"):
        pass
    holder.send_signal(signal.SIGKILL)
    holder.wait(60)
    assert (tmp_path / "run" / LOCK).exists()
    with held(tmp_path / "run", wait_s=10):  # a killed process may take a moment to go
        assert json.loads((tmp_path / "run" / LOCK).read_text())["process"] == os.getpid()


def test_a_restart_waits_for_what_is_ending(tmp_path, holder):
    began = time.monotonic()
    holder.send_signal(signal.SIGTERM)
    with held(tmp_path / "run", wait_s=30):
        assert time.monotonic() - began < 30


def test_nothing_is_left_of_a_directory_in_which_nothing_was_written(tmp_path):
    with pytest.raises(KeyError), held(tmp_path / "runs/a"):
        raise KeyError
    assert not (tmp_path / "runs").exists()
    with held(tmp_path / "runs/a"):
        (tmp_path / "runs/a/summary.json").touch()
    assert [path.name for path in (tmp_path / "runs/a").iterdir()] == ["summary.json"]
    (tmp_path / "empty").mkdir()
    with held(tmp_path / "empty"):
        pass
    assert (tmp_path / "empty").is_dir(), "it was there before"


def leave(directory, **owner):
    """Leave the file of a process that is not there any more."""
    directory.mkdir()
    own = {"process": 1, "host": socket.gethostname(), "start": "2026-01-01 00:00:00", "boot": "x", "created": 0.0}
    (directory / LOCK).write_text(json.dumps({**own, **owner}))


def test_of_another_machine_only_people_can_judge(tmp_path):
    leave(tmp_path / "run", host="elsewhere")
    for _ in range(2):
        with pytest.raises(ConfigError) as caught, held(tmp_path / "run"):
            pass
    assert "process 1 on 'elsewhere', since 2026-01-01 00:00:00" in str(caught.value)
    assert f"If that run has ended, remove {str(tmp_path / 'run' / LOCK)!r}" in str(caught.value)
    (tmp_path / "run" / LOCK).unlink()
    with held(tmp_path / "run"):
        pass


def test_a_container_beside_this_one_is_of_this_machine(tmp_path):
    leave(tmp_path / "run", host="elsewhere", boot=lock._boot_id())
    with held(tmp_path / "run"):
        pass


@pytest.mark.parametrize("text", ["", "{", "[1]", '{"process": 1}'])
def test_a_file_that_says_nothing_is_no_owner(tmp_path, text):
    (tmp_path / LOCK).write_text(text)
    with held(tmp_path):
        pass


def test_where_the_file_system_has_no_locks_the_process_decides(tmp_path, monkeypatch):
    def refuse(*_):
        raise OSError(95, "Operation not supported")

    monkeypatch.setattr(lock.fcntl, "flock", refuse)
    leave(tmp_path / "gone", process=2**22 + 1)
    with held(tmp_path / "gone"):
        pass
    leave(tmp_path / "other", process=os.getpid())  # whose number another process had then
    with held(tmp_path / "other"), pytest.raises(ConfigError, match="another run writes"), held(tmp_path / "other"):
        pass


def test_a_forked_child_holds_nothing_and_takes_nothing(tmp_path):
    context = multiprocessing.get_context("fork")
    with held(tmp_path / "run"):
        child = context.Process(target=lambda: None)
        child.start()
        child.join(20)
        with pytest.raises(ConfigError, match="must have one writer"), held(tmp_path / "run"):
            pass
    with held(tmp_path / "run"):
        pass


def test_a_directory_that_can_not_be_written_to_is_refused(tmp_path):
    (tmp_path / "file").touch()
    for place in (tmp_path / "file", tmp_path / "file/run", Path("/proc/run")):
        with pytest.raises(ConfigError, match="--output: must be a directory that can be written to"), held(place):
            pass
