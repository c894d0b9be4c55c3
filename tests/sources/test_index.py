"""The list of a folder that is kept in a file: taken while it is true, and never believed after."""

import logging
import os
import shutil
import sys
from pathlib import Path

import pytest

from dalipipe.errors import ConfigError
from dalipipe.sources import FolderSource, fingerprint, folder, index, index_folder

NAME = index.NAME


@pytest.fixture
def root(tmp_path, monkeypatch):
    """A folder of some classes, long ago; and no wait for it to settle."""
    for name in ("b/1.jpg", "b/deep/er/2.png", "b/.hidden", "a/\udcff x.JPEG", "a/no image.txt", "c/é.bmp"):
        path = tmp_path / "photos" / name
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_bytes(b"never opened")
    for path in [tmp_path / "photos", *(tmp_path / "photos").rglob("*")]:
        os.utime(path, ns=(10**18, 10**18))
    monkeypatch.setenv("DALIPIPE_CACHE", str(tmp_path / "cache"))
    monkeypatch.setattr(folder, "_told", set())
    return tmp_path / "photos"


@pytest.fixture
def listed(monkeypatch):
    """How often each class folder is listed."""
    calls = []
    known = folder.list_files
    monkeypatch.setattr(folder, "list_files", lambda top, *more: calls.append(Path(top).name) or known(top, *more))
    return calls


def facts(source):
    return source.classes, list(source.samples), source.labels.tolist(), fingerprint(source), source.left_out.words


def test_what_is_read_is_what_was_listed(root, listed, caplog):
    source, place = index_folder(root)
    assert place == root / NAME and listed == ["a", "b", "c"]
    anew, kept = FolderSource(root, indexed=False), FolderSource(root)
    assert listed == ["a", "b", "c"] * 2, "the third is not listed"
    assert facts(kept)[2:] == facts(anew)[2:] == facts(source)[2:]
    assert [Path(path) for path, _ in kept.samples] == [Path(path) for path, _ in anew.samples] and len(kept) == 4
    assert not [record for record in caplog.records if "index" in record.message]


def test_it_moves_with_the_folder(root, listed, tmp_path):
    before = fingerprint(index_folder(root)[0])
    listed.clear()
    shutil.copytree(root, tmp_path / "elsewhere")
    moved = FolderSource(tmp_path / "elsewhere")
    assert fingerprint(moved) == before and not listed
    assert all(Path(path).is_file() for path, _ in moved.samples)


def test_with_other_classes_given_it_is_labelled_by_them(root, listed):
    index_folder(root)
    listed.clear()
    source = FolderSource(root, ("c", "z", "b", "a"))
    assert source.labels.tolist() == [3, 2, 2, 0] and not listed
    assert fingerprint(source) == fingerprint(FolderSource(root, ("c", "z", "b", "a"), indexed=False))
    assert fingerprint(source) != fingerprint(FolderSource(root))


CHANGES = {
    "a new file": lambda root: (root / "b/3.jpg").touch(),
    "a file deep down": lambda root: (root / "b/deep/er/3.jpg").touch(),
    "a file that is gone": lambda root: (root / "c/é.bmp").rename(root / "a/é.bmp"),
    "another name": lambda root: (root / "b/1.jpg").rename(root / "b/0.jpg"),
    "a new class": lambda root: shutil.copytree(root / "b", root / "d"),
    "a class that is gone": lambda root: shutil.rmtree(root / "c"),
    "another name of a class": lambda root: (root / "c").rename(root / "0"),
    "a folder in the place of another": lambda root: (shutil.rmtree(root / "b/deep"), (root / "b/deep").mkdir()),
}


@pytest.mark.parametrize("change", CHANGES)
def test_one_that_is_no_longer_true_is_not_taken(root, change, caplog):
    index_folder(root)
    if change == "a file that is gone":
        (root / "c/0.bmp").touch()
        index_folder(root)
    CHANGES[change](root)
    with caplog.at_level(logging.WARNING):
        source = FolderSource(root)
    assert facts(source) == facts(FolderSource(root, indexed=False))
    assert "its index is not used" in caplog.text and "Run `dalipipe index` again" in caplog.text


@pytest.mark.parametrize("place", ["paths", "folders", "end", "short", "empty", "other"])
def test_one_that_is_damaged_is_not_believed(root, place, caplog):
    index_folder(root)
    content = bytearray((root / NAME).read_bytes())
    at = {"paths": content.index(b"1.jpg"), "folders": content.index(b'fingerprint": "') + 20, "end": len(content) - 3}
    at = at.get(place)
    if at is not None:
        content[at] ^= 1
    (root / NAME).write_bytes({"short": content[:-50], "empty": b"", "other": b"PAR1 is all"}.get(place, content))
    assert list(FolderSource(root).samples) == list(FolderSource(root, indexed=False).samples)
    assert "it is damaged" in caplog.text


def test_a_folder_that_was_just_changed_is_listed_once_more(root, listed, monkeypatch):
    waits = []
    monkeypatch.setattr("time.sleep", waits.append)
    (root / "b/3.jpg").touch()
    index_folder(root)
    assert len(waits) > 0 and len(listed) > 3


def test_where_the_folder_cant_be_written_the_cache_has_it(root, listed, monkeypatch, tmp_path):
    write = index.write_file

    def refuse(place, content):
        if place.parent == root or (tmp_path / "full").exists():
            raise PermissionError(13, "Permission denied")
        return write(place, content)

    monkeypatch.setattr(index, "write_file", refuse)
    _, place = index_folder(root)
    listed.clear()
    assert place.is_relative_to(tmp_path / "cache") and len(FolderSource(root)) == 4 and not listed
    (tmp_path / "full").touch()
    with pytest.raises(ConfigError, match=r"in the folder or in the cache, got .*Permission denied"):
        index_folder(root)


def test_without_pyarrow_it_says_what_is_missing(root, monkeypatch, caplog):
    index_folder(root)
    monkeypatch.setitem(sys.modules, "pyarrow", None)
    assert len(FolderSource(root)) == 4
    assert "pyarrow, which reads it, is not installed" in caplog.text
    with pytest.raises(ConfigError, match="needs pyarrow, which is not installed"):
        index_folder(root)


def test_progress_is_told(root):
    told = []
    FolderSource(root, progress=lambda done, total: told.append((done, total)))
    assert told == [(1, 3), (2, 3), (3, 3)]
