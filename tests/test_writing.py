"""The one way in which files are written: what stands at a name decides how, and a failure costs nothing."""

import errno
import os
import stat
import subprocess
import sys
import threading
from pathlib import Path

import pytest

from dalipipe.cli.outputs import require_places
from dalipipe.errors import ConfigError
from dalipipe.loading.quarantine import ErrorPolicy
from dalipipe.writing import append_file, remove_temporaries, write_file


def put(path, content=b"new"):
    return write_file(path, lambda file: file.write(content))


def test_a_failure_leaves_the_former_file_and_no_other(tmp_path):
    path = tmp_path / "last.pt"
    put(path, b"old")

    def fail(file):
        file.write(b"half of it")
        raise OSError(errno.ENOSPC, "No space left on device")

    with pytest.raises(ConfigError, match=r"last\.pt: must be writable, got No space left on device"):
        write_file(path, fail)
    assert path.read_bytes() == b"old"
    assert [entry.name for entry in tmp_path.iterdir()] == ["last.pt"]


def test_the_bytes_are_on_the_disk_before_they_have_the_name(tmp_path, monkeypatch):
    happened, fsync, path = [], os.fsync, tmp_path / "last.pt"
    monkeypatch.setattr(os, "fsync", lambda fd: (happened.append(path.exists()), fsync(fd)))
    assert put(path, b"xyz") == 3
    assert happened == [False, True]  # the file, then the directory that now names it


def test_permissions_are_kept_and_new_ones_are_usual(tmp_path):
    old, new, usual = tmp_path / "old", tmp_path / "new", tmp_path / "usual"
    old.write_text("x")
    old.chmod(0o640)
    usual.touch()
    put(old), put(new)
    assert stat.S_IMODE(old.stat().st_mode) == 0o640
    assert new.stat().st_mode == usual.stat().st_mode


@pytest.mark.parametrize("name", ["x" * 255, "caf\u00e9" * 50, "a b\n", b"\xff.json"])
def test_any_name_works(tmp_path, name):
    path = tmp_path / os.fsdecode(name)
    put(path)
    assert [entry.name for entry in tmp_path.iterdir()] == [path.name]


def test_links_are_followed(tmp_path):
    (tmp_path / "there").mkdir()
    for name in ("file", "missing"):
        (tmp_path / name).symlink_to(f"there/{name}")
    (tmp_path / "there/file").write_text("old")
    for name in ("file", "missing"):
        put(tmp_path / name)
        assert (tmp_path / name).is_symlink()
        assert (tmp_path / "there" / name).read_bytes() == b"new"


def test_a_pipe_is_written_to(tmp_path):
    pipe, got = tmp_path / "pipe", []
    os.mkfifo(pipe)
    reader = threading.Thread(target=lambda: got.append(pipe.read_bytes()))
    reader.start()
    put(pipe, bytes(100_000))
    reader.join(10)
    assert got == [bytes(100_000)]
    assert stat.S_ISFIFO(pipe.stat().st_mode)


def test_a_device_stays_one(tmp_path):
    before = Path("/dev/null").stat().st_ino
    put(Path("/dev/null"))
    (tmp_path / "link").symlink_to("/dev/null")
    put(tmp_path / "link")
    assert Path("/dev/null").stat().st_ino == before
    assert stat.S_ISCHR(Path("/dev/null").stat().st_mode)
    with pytest.raises(ConfigError, match="No space left"):
        put(Path("/dev/full"))


CODE = """
import sys
from pathlib import Path
from dalipipe.writing import write_file
print("before")
write_file(Path(sys.argv[1]), lambda file: file.write(b"written\\n"))
print("after")
"""


@pytest.mark.parametrize("name", ["/dev/stdout", "/dev/fd/1", "/proc/self/fd/1", "link"])
def test_standard_output_is_written_to_wherever_it_goes(tmp_path, name):
    (tmp_path / "link").symlink_to("/dev/stdout")
    with (tmp_path / "out").open("wb") as out:
        subprocess.run([sys.executable, "-c", CODE, name], stdout=out, cwd=tmp_path, check=True, timeout=60,
                       env={**os.environ, "PYTHONPATH": str(Path(__file__).parents[1])})  # fmt: skip
    assert (tmp_path / "out").read_text() == "before\nwritten\nafter\n"


def test_a_directory_is_refused_and_stays(tmp_path):
    with pytest.raises(ConfigError, match="Is a directory"):
        put(tmp_path)
    with pytest.raises(ConfigError, match="No such file or directory"):
        put(tmp_path / "gone" / "file")


def test_a_file_in_anothers_directory_is_written_in_its_place(tmp_path, monkeypatch):
    """As one mounted into a container is, which can't be replaced."""
    path = tmp_path / "file"
    path.write_text("a former, longer one")

    def refuse(self, target):
        raise OSError(errno.EBUSY, "Device or resource busy")

    monkeypatch.setattr(Path, "replace", refuse)
    assert put(path) == 3
    assert path.read_bytes() == b"new"
    assert [entry.name for entry in tmp_path.iterdir()] == ["file"]


def test_lines_are_added(tmp_path):
    path = tmp_path / "list"
    path.write_text("old")
    append_file(path, b"1\n", anew=True)
    append_file(path, b"2\n", anew=False)
    assert path.read_text() == "1\n2\n"


def test_what_killed_processes_left_is_removed_and_nothing_else(tmp_path):
    for name in (".last.pt.123.tmp", ".metrics.jsonl.7.tmp", "last.pt", ".hidden", "notes.tmp", ".mine.tmp"):
        (tmp_path / name).write_text("x")
    remove_temporaries(tmp_path)
    assert sorted(path.name for path in tmp_path.iterdir()) == [".hidden", ".mine.tmp", "last.pt", "notes.tmp"]


def test_places_are_looked_at_before_the_work(tmp_path, make_image_folder):
    photos = make_image_folder("photos")
    (tmp_path / "x.pt").touch()
    (tmp_path / "same.pt").hardlink_to(tmp_path / "x.pt")
    (tmp_path / "link").symlink_to("y.json")
    require_places({"--json": tmp_path / "y.json", "--plot": None, "--output": Path("/dev/stdout")}, [photos, None])
    require_places(
        {"--json": photos / "ant/new.json", "--output": photos / "new.png", "--csv": Path("/dev/null")}, [photos]
    )
    for outputs, inputs, words in (
        ({"--json": tmp_path / "gone/y.json"}, (), "--json: must be a file in a directory that is there, got no dir"),
        ({"--json": tmp_path}, (), "got a directory"),
        ({"--json": Path()}, (), "got a directory"),
        ({"--json": Path("a\0b")}, (), "--json: must be a path"),
        ({"--output": tmp_path / "x.pt"}, [tmp_path / "x.pt"], "--output: must not be a file that is read"),
        ({"--output": tmp_path / "same.pt"}, [tmp_path / "x.pt"], "must not be a file that is read"),
        ({"--output": next(photos.glob("*/*"))}, [photos], "must not be a file that is read"),
        ({"--output": photos / "ant" / "new.png"}, [photos], "must not be a file that is read"),
        ({"--a": tmp_path / "y.json", "--b": tmp_path / "link"}, (), "--a and --b: must be two files"),
    ):
        with pytest.raises(ConfigError, match=words):
            require_places(outputs, inputs)


@pytest.mark.parametrize("place", ["", "."])
def test_the_list_of_bad_files_is_no_directory(place):
    with pytest.raises(ConfigError, match="quarantine must be a file, got the directory"):
        ErrorPolicy("skip", file=Path(place))
