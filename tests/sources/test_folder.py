import os
import pickle
import sys
from pathlib import Path

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from torchvision.datasets import ImageFolder
from torchvision.datasets.folder import IMG_EXTENSIONS as TORCHVISION_EXTENSIONS

from dalipipe.errors import DalipipeError, SourceError, SourceNotFoundError
from dalipipe.sources import IMG_EXTENSIONS, FolderSource


def touch(root: Path, *names: str | bytes) -> Path:
    for name in names:
        path = root / os.fsdecode(name)
        path.parent.mkdir(parents=True, exist_ok=True)
        path.touch()
    return root


def assert_same_as_torchvision(root: str | Path) -> FolderSource:
    ours, theirs = FolderSource(root), ImageFolder(root)
    assert list(ours.classes) == theirs.classes
    assert ours.class_to_idx == theirs.class_to_idx
    assert ours.samples == theirs.samples
    assert ours.labels.tolist() == theirs.targets
    assert ours.labels.dtype == np.int64
    assert len(ours) == len(theirs)
    return ours


def test_extensions_are_torchvisions():
    assert IMG_EXTENSIONS == TORCHVISION_EXTENSIONS


def test_nested_folders_and_order(tmp_path):
    touch(
        tmp_path,
        *("b/2.jpg", "b/10.jpg", "b/sub/1.png", "b/sub.a/1.png", "b/sub a/1.png", "b/sub/deep/x/0.png", "b/Z.jpg"),
        *("B/1.jpg", "a.b/1.jpg", "a/1.jpg", "a/a/1.jpg", "a-1/1.jpg", "10/1.jpg", "9/1.jpg"),
    )
    source = assert_same_as_torchvision(tmp_path)
    assert source.classes == ("10", "9", "B", "a", "a-1", "a.b", "b")


def test_extensions_in_any_case_and_other_files_left_out(tmp_path):
    images = [f"a/{i}{ending}" for i, ending in enumerate(IMG_EXTENSIONS)]
    images += [f"a/{i}{ending.upper()}" for i, ending in enumerate(IMG_EXTENSIONS)]
    touch(tmp_path, *images, "a/1.JpEg", "a/1.gif", "a/1.jpg.txt", "a/jpg", "a/notes", "loose.jpg", "labels.csv")
    source = assert_same_as_torchvision(tmp_path)
    assert len(source) == len(images) + 1


def test_a_folder_named_like_an_image_is_a_folder(tmp_path):
    source = assert_same_as_torchvision(touch(tmp_path, "cat.jpg/1.jpg", "dog/x.png/2.jpg"))
    assert source.classes == ("cat.jpg", "dog")


ODD_NAMES = [
    "with space .jpg",
    "new\nline.jpg",
    "tab\t.jpg",
    "quote'\".jpg",
    "back\\slash.jpg",
    "-dash.jpg",
    "%s{0}$HOME`.jpg",
    "\N{CAT FACE}.jpg",
    "e\u0301.jpg",
    "\u00e9.jpg",
    "\u202egpj.jpg",
    b"not-utf8-\xff\xfe.jpg",
    "x" * 251 + ".jpg",
]


def test_any_file_name_works(tmp_path):
    touch(tmp_path, *(b"a/" + os.fsencode(name) for name in ODD_NAMES), b"\xe9t\xe9 \n/1.jpg")
    source = assert_same_as_torchvision(tmp_path)
    assert len(source) == len(ODD_NAMES) + 1
    assert all(Path(source.item(index)).exists() for index in range(len(source)))


@pytest.mark.parametrize("spelling", ["data", "./data", "data/", "./data//", "../{name}/data"])
def test_paths_start_with_the_root_as_given(tmp_path, monkeypatch, spelling):
    touch(tmp_path, "data/a/1.jpg", "data/b/1.jpg")
    monkeypatch.chdir(tmp_path)
    source = assert_same_as_torchvision(spelling.format(name=tmp_path.name))
    assert [source.key(index) for index in range(2)] == ["a/1.jpg", "b/1.jpg"]


def test_home_is_expanded(tmp_path, monkeypatch):
    touch(tmp_path, "data/a/1.jpg")
    monkeypatch.setenv("HOME", str(tmp_path))
    assert assert_same_as_torchvision("~/data").item(0) == str(tmp_path / "data/a/1.jpg")


def test_links_are_followed_and_broken_ones_listed(tmp_path):
    touch(tmp_path, "elsewhere/1.jpg", "elsewhere/sub/2.jpg", "data/a/1.jpg")
    (tmp_path / "data/linked").symlink_to(tmp_path / "elsewhere")
    (tmp_path / "data/a/more").symlink_to(tmp_path / "elsewhere")
    (tmp_path / "data/a/again").symlink_to(tmp_path / "elsewhere")
    (tmp_path / "data/a/file.jpg").symlink_to(tmp_path / "elsewhere/1.jpg")
    (tmp_path / "data/a/broken.jpg").symlink_to(tmp_path / "nowhere")
    source = assert_same_as_torchvision(tmp_path / "data")
    assert len(source) == 1 + 2 + 2 + 2 + 2


def test_a_link_in_a_circle_is_named(tmp_path):
    touch(tmp_path, "data/a/1.jpg", "data/b/sub/1.jpg")
    (tmp_path / "data/a/to_b").symlink_to("../b")
    (tmp_path / "data/b/sub/to_a").symlink_to("../../a")
    with pytest.raises(SourceError, match=r"a/to_b/sub/to_a.*link"):
        FolderSource(tmp_path / "data")


def test_no_file_is_opened(tmp_path):
    root = touch(tmp_path, "a/1.jpg", "b/1.jpg")
    opened, watching = [], [True]  # a hook stays for good
    sys.addaudithook(lambda event, args: opened.append(args[0]) if event == "open" and watching else None)
    (root / "a/1.jpg").read_bytes()
    assert str(root / "a/1.jpg") in map(str, opened), "what is opened is seen"
    opened.clear()
    assert len(FolderSource(root)) == 2
    watching.clear()
    assert not [name for name in opened if str(name).startswith(str(root))]


def test_real_photos(photos, hymenoptera):
    assert len(assert_same_as_torchvision(photos)) == 200
    assert len(assert_same_as_torchvision(hymenoptera / "train")) == 244  # 245 files, one of them a .gif
    assert len(assert_same_as_torchvision(hymenoptera / "val")) == 153


def test_name_item_key_and_pickle(tmp_path):
    source = FolderSource(touch(tmp_path, "a/sub/1.jpg", "b/2.jpg"))
    assert source.item(1) == source.name(1) == str(tmp_path / "b/2.jpg")
    assert source.key(0) == "a/sub/1.jpg"
    assert source.root == tmp_path
    assert pickle.loads(pickle.dumps(source)).samples == source.samples


def test_missing_folder(tmp_path):
    with pytest.raises(SourceNotFoundError, match="must exist") as caught:
        FolderSource(tmp_path / "no\nsuch")
    assert isinstance(caught.value, FileNotFoundError)
    assert isinstance(caught.value, DalipipeError)
    assert isinstance(caught.value, ValueError)
    assert r"no\nsuch" in str(caught.value)
    assert "\n" not in str(caught.value)


@pytest.mark.parametrize("root", ["", "a\0b"])
def test_impossible_path(root):
    with pytest.raises(SourceError, match="folder '"):
        FolderSource(root)


def test_file_instead_of_a_folder(tmp_path):
    touch(tmp_path, "photo.jpg")
    with pytest.raises(SourceError, match="got a file"):
        FolderSource(tmp_path / "photo.jpg")


def test_empty_folder(tmp_path):
    with pytest.raises(SourceNotFoundError, match="one folder per class, got no folder"):
        FolderSource(tmp_path)


def test_images_directly_in_the_folder(tmp_path):
    touch(tmp_path, "2.jpg", "1.PNG", "notes.txt")
    with pytest.raises(SourceNotFoundError, match=r"2 image\(s\) lying directly in it \('1.PNG' and 1 more\)"):
        FolderSource(tmp_path)


def test_a_class_without_images_is_named(tmp_path):
    touch(tmp_path, "a/1.jpg", "b/1.gif", b"c\xff\n/notes.txt")
    with pytest.raises(SourceNotFoundError) as caught:
        FolderSource(tmp_path)
    message = str(caught.value)
    assert r"got none in 'b', 'c\udcff\n'" in message
    assert message.isprintable()
    assert "'a'" not in message


def test_many_classes_without_images_keep_the_message_short(tmp_path):
    for number in range(300):
        (tmp_path / f"class_{number:03}").mkdir()
    with pytest.raises(SourceNotFoundError, match="'class_004' and 295 more"):
        FolderSource(tmp_path)


def test_unreadable_folder_is_named(tmp_path, monkeypatch):
    # Simulated, for root may read everything.
    touch(tmp_path, "a/1.jpg", "a/locked/1.jpg")
    scandir = os.scandir

    def refuse(path):
        if str(path).endswith("locked"):
            raise PermissionError(13, "Permission denied", path)
        return scandir(path)

    monkeypatch.setattr(os, "scandir", refuse)
    with pytest.raises(SourceError, match=r"a/locked': must be readable, got 'Permission denied'"):
        FolderSource(tmp_path)


segment = st.text(st.sampled_from("aAb. -\n\u00e9\udcff"), min_size=1, max_size=3).filter(
    lambda name: not name.startswith(".")
)
image_path = st.lists(segment, min_size=1, max_size=3).map(lambda parts: "/".join(parts) + "/x.jpg")


@given(names=st.sets(image_path, min_size=1, max_size=12))
def test_any_tree_is_listed_as_torchvision_lists_it(tmp_path_factory, names):
    root = tmp_path_factory.mktemp("tree")
    assert len(assert_same_as_torchvision(touch(root, *names))) == len(names)


def test_a_pipe_is_no_image(make_image_folder):
    folder = make_image_folder()
    before = len(FolderSource(folder))
    os.mkfifo(folder / "bee" / "pipe.jpg")
    (folder / "bee" / "link.jpg").symlink_to("pipe.jpg")
    assert len(FolderSource(folder)) == before


CLUTTER = [
    *(".ipynb_checkpoints/1-checkpoint.jpg", "__MACOSX/a/._1.jpg", ".git/x.png", "@eaDir/1.jpg", ".thumbnails/1.png"),
    *("$RECYCLE.BIN/1.jpg", "#recycle/1.jpg", "lost+found/1.jpg", "System Volume Information/1.jpg"),
    *("a/.ipynb_checkpoints/1-checkpoint.jpg", "a/@eaDir/1.jpg", "a/sub/__MACOSX/1.jpg", "a/._1.jpg", "b/.DS_Store"),
    *("a/Thumbs.db", "a/.trashed-1700000000-IMG_1.jpg", "b/desktop.ini"),
]


def test_hidden_and_system_files_are_left_out_with_one_line(tmp_path, caplog):
    root = touch(tmp_path, "a/1.jpg", "a/sub/1.jpg", "b/1.jpg", *CLUTTER)
    source = FolderSource(root)
    assert source.classes == ("a", "b")
    assert [source.key(index) for index in range(len(source))] == ["a/1.jpg", "a/sub/1.jpg", "b/1.jpg"]
    (record,) = caplog.records
    assert record.message.startswith(f"folder {str(root)!r}: left out 12 hidden or system folders ('#recycle', ")
    assert "and 5 hidden or system files ('a/._1.jpg', 'a/.trashed-1700000000-IMG_1.jpg'" in record.message
    FolderSource(root)
    assert len(caplog.records) == 1, "it is said once"


def test_a_folder_of_clutter_alone_says_so(tmp_path):
    with pytest.raises(SourceNotFoundError, match=r"got no folder.* left out 1 hidden or system folder \('.x'\)"):
        FolderSource(touch(tmp_path, ".x/1.jpg"))


def test_a_hidden_root_is_read(tmp_path):
    assert len(FolderSource(touch(tmp_path / ".cache", "a/1.jpg"))) == 1


RUNS = {
    "config.toml": 'recipe = "x"\nbatch_size = 4\nsplit_seed = 0\ncheckpoint_every = "1h"\n',
    "summary.json": '{"best": {}, "evaluation": {}, "config": {}}',
    ".dalipipe-lock.json": "{}",
}


@pytest.mark.parametrize("name", RUNS)
def test_the_output_of_a_run_is_no_data(tmp_path, name, caplog):
    """Whether it lies in a folder of its own or in that of a class."""
    root = touch(tmp_path, "a/1.jpg", "b/1.jpg", "runs/x/mistakes.png", "a/run/fold-1/curves.png")
    for place in ("runs/x", "a/run"):
        (root / place / name).write_text(RUNS[name])
    source = FolderSource(root)
    assert source.classes == ("a", "b")
    assert len(source) == 2
    assert "left out 2 runs of dalipipe train ('a/run', 'runs/x')" in caplog.text


@pytest.mark.parametrize("name", ["config.toml", "summary.json"])
def test_files_of_others_with_those_names_make_no_run(tmp_path, name):
    root = touch(tmp_path, "a/1.jpg", "b/1.jpg")
    for text in ("", "[", '{"best": 1}', 'recipe = "x"', "\xff"):
        (root / "b" / name).write_bytes(text.encode("latin-1"))
        assert FolderSource(root).classes == ("a", "b")


def test_classes_can_be_given(tmp_path):
    root = touch(tmp_path, "b/1.jpg", "c/note.txt")
    source = FolderSource(root, classes=("a", "b", "c"))
    assert (source.classes, source.samples) == (("a", "b", "c"), [(str(root / "b/1.jpg"), 1)])
    with pytest.raises(SourceError, match=r"no other classes than 'a', 'b', got 'c' in addition"):
        FolderSource(root, classes=("a", "b"))


@pytest.mark.parametrize(
    ("name", "command"),
    [("p.zip", "unzip"), ("p.tar", "tar -xf"), ("my p.TAR.GZ", "tar -xf"), ("p.tgz", "tar -xf"), ("p.7z", "7z x")],
)
def test_an_archive_is_to_be_unpacked(tmp_path, name, command):
    touch(tmp_path, name)
    for place in (tmp_path / name, tmp_path):
        with pytest.raises(SourceError, match=rf"archive.*Unpack it \(`{command} .*`\), and give the folder"):
            FolderSource(place)
    touch(tmp_path, "data/a/1.jpg", f"data/b/{name}")
    with pytest.raises(SourceError, match=rf"got none in 'b'. Unpack it \(`{command} "):
        FolderSource(tmp_path / "data")


def test_parts_that_pass_for_classes_are_told_of(tmp_path, caplog):
    FolderSource(touch(tmp_path, "Train/a/1.jpg", "val/a/1.jpg"))
    assert "'Train', 'val' are taken for classes" in caplog.text
