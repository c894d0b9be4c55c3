"""The wait for the compiler is said when it comes, and counted."""

import logging
import subprocess
import sys
from pathlib import Path

import pytest

from dalipipe.compilation import compiled, kept, seconds, wait
from dalipipe.compilation.wait import MESSAGE


@pytest.fixture
def messages(tmp_path: Path, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture):
    """Return what was logged, in a process that has not compiled yet and finds nothing on disk."""
    monkeypatch.setattr(kept, "home", lambda: tmp_path)
    monkeypatch.setattr(wait, "_wait", wait._Wait())
    with caplog.at_level(logging.INFO, logger="dalipipe"):
        yield lambda: [record.getMessage() for record in caplog.records]


def thrice(value):
    return value * 3


def test_it_is_said_once_and_before(messages):
    seen = []
    original = kept.Kept.save_overload

    def save(self, sig, data):
        seen.append(messages())
        original(self, sig, data)

    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(kept.Kept, "save_overload", save)
        assert compiled(thrice)(2) == 6
    assert seen == [[MESSAGE]]
    assert compiled(thrice)(2.5) == 7.5
    assert messages() == [MESSAGE]


def test_nothing_is_said_of_what_is_on_disk(messages, monkeypatch):
    compiled(thrice)(2)
    spent = seconds()
    assert spent > 0
    again = compiled(thrice)
    monkeypatch.setattr(wait._wait, "said", False)
    again(2)
    assert seconds() == spent
    assert messages() == [MESSAGE]


def test_what_fails_to_compile_is_not_waited_for_ever(messages):
    broken = compiled(lambda value: value.no_such_attribute)
    with pytest.raises(Exception, match="no_such_attribute"):
        broken(2)
    spent = seconds()
    assert spent == seconds()


COMMAND = """
import sys, numpy
from dalipipe.cli import app
from dalipipe.compilation import compiled
@app.command()
def wait():
    print(compiled(lambda value: value + 1)(1))
app()
"""


def test_a_command_says_it_on_standard_error(tmp_path: Path, monkeypatch):
    monkeypatch.setenv("DALIPIPE_CACHE", str(tmp_path))
    done = subprocess.run([sys.executable, "-c", COMMAND, "wait"], capture_output=True, text=True, timeout=120)
    assert (done.returncode, done.stdout, done.stderr) == (0, "2\n", f"{MESSAGE}\n")
