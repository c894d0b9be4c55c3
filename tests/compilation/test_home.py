"""Where compiled code is kept: a folder that nobody else can write to, or none."""

import os
import stat
import tempfile
import time
import warnings
from pathlib import Path

import pytest

from dalipipe.compilation import home as where

VARIABLES = ("DALIPIPE_CACHE", "NUMBA_CACHE_DIR", "XDG_CACHE_HOME", "HOME")


@pytest.fixture(autouse=True)
def folders(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """Return a folder for all; the temporary directory in it is open to everybody, as /tmp is."""
    for variable in VARIABLES:
        monkeypatch.delenv(variable, raising=False)
    (tmp_path / "tmp").mkdir()
    (tmp_path / "tmp").chmod(0o1777)
    monkeypatch.setattr(tempfile, "tempdir", str(tmp_path / "tmp"))
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path / "cache"))
    return tmp_path


def own(folders: Path) -> Path:
    return folders / "tmp" / f"dalipipe-{os.geteuid()}"


def found() -> Path | None:
    return where.home.__wrapped__()


def mode(path: Path) -> int:
    return stat.S_IMODE(path.stat().st_mode)


@pytest.mark.parametrize("umask", [0o022, 0o000])
def test_the_user_cache_directory_is_the_usual_place(folders: Path, umask: int):
    before = os.umask(umask)
    try:
        assert found() == folders / "cache/dalipipe/compiled"
    finally:
        os.umask(before)
    assert {mode(folders / "cache" / name) for name in (".", "dalipipe", "dalipipe/compiled")} == {0o700}


@pytest.mark.parametrize(("variable", "folder"), [("DALIPIPE_CACHE", "compiled"), ("NUMBA_CACHE_DIR", "dalipipe")])
def test_a_directory_that_the_user_names_comes_first(folders: Path, monkeypatch, variable: str, folder: str):
    monkeypatch.setenv(variable, str(folders / "mine"))
    assert found() == folders / "mine" / folder
    monkeypatch.setenv(variable, "/proc/nothing")
    with pytest.warns(RuntimeWarning, match=r"^/proc/nothing/\w+: can't be written .* is kept in .*cache/dalipipe"):
        assert found() == folders / "cache/dalipipe/compiled"


@pytest.mark.parametrize("value", ["", "/proc/nothing", "relative"])
def test_without_a_home_there_is_a_private_folder(folders: Path, monkeypatch, value: str):
    monkeypatch.chdir(folders / "tmp")
    monkeypatch.setenv("HOME", "/proc/nothing")
    monkeypatch.setenv("XDG_CACHE_HOME", value)
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        assert found() == own(folders)
    assert mode(own(folders)) == 0o700
    assert list((folders / "tmp").iterdir()) == [own(folders)]


@pytest.mark.parametrize("opened", ["cache", "cache/dalipipe", "cache/dalipipe/compiled"])
def test_a_directory_that_others_can_write_to_is_not_used(folders: Path, opened: str):
    assert found() == folders / "cache/dalipipe/compiled"
    (folders / opened).chmod(0o777)
    with pytest.warns(RuntimeWarning, match=r"can write to .*Compiled code is kept in"):
        assert found() == own(folders)
    (folders / opened).chmod(0o1777)  # as /tmp: others can't touch what is mine
    if opened != "cache/dalipipe/compiled":
        assert found() == folders / "cache/dalipipe/compiled"


def test_a_folder_that_the_group_can_write_to_is_not_used(folders: Path):
    assert found() == folders / "cache/dalipipe/compiled"
    (folders / "cache/dalipipe/compiled").chmod(0o770)
    with pytest.warns(RuntimeWarning, match="others can write to it"):
        assert found() == own(folders)


@pytest.mark.skipif(os.geteuid() != 0, reason="only root can give a folder away")
def test_a_folder_of_another_user_is_not_used(folders: Path, monkeypatch):
    monkeypatch.setenv("XDG_CACHE_HOME", "/proc/nothing")
    own(folders).mkdir(mode=0o700)
    os.chown(own(folders), 12345, 12345)
    with pytest.warns(RuntimeWarning, match=r"belongs to another user .*Compiled code is not kept.*DALIPIPE_CACHE"):
        assert found() is None


def test_a_link_is_not_followed(folders: Path, monkeypatch):
    monkeypatch.setenv("XDG_CACHE_HOME", "/proc/nothing")
    (folders / "elsewhere").mkdir(mode=0o700)
    own(folders).symlink_to(folders / "elsewhere")
    with pytest.warns(RuntimeWarning, match=r"got a link"):
        assert found() is None
    assert list((folders / "elsewhere").iterdir()) == []


def test_a_linked_cache_directory_is_used(folders: Path):
    (folders / "big").mkdir(mode=0o755)
    (folders / "cache").symlink_to(folders / "big")
    assert found() == folders / "cache/dalipipe/compiled"


def test_where_nothing_can_be_written_there_is_one_warning(monkeypatch):
    monkeypatch.setenv("XDG_CACHE_HOME", "/proc/nothing")
    monkeypatch.setattr(tempfile, "tempdir", "/proc/nothing")
    with warnings.catch_warnings(record=True) as caught:
        warnings.simplefilter("always")
        assert found() is None
    assert len(caught) == 1 and "each process compiles anew" in str(caught[0].message)


def test_what_was_not_used_for_long_is_removed(folders: Path):
    place = found()
    assert place is not None
    ages = {"old.nbc": 31, "used.nbc": 29, "left.nbc.tmp": 2, "written.nbc.tmp": 0}
    for name, days in ages.items():
        (place / name).touch()
        os.utime(place / name, (time.time() - days * 86400,) * 2)
    assert found() == place
    assert sorted(path.name for path in place.iterdir()) == ["used.nbc", "written.nbc.tmp"]
