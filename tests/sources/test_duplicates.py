import shutil

import pytest

from dalipipe.errors import SourceError
from dalipipe.sources import ArraySource, FolderSource, find_shared, fold_sources, require_disjoint, split_sources


@pytest.fixture
def parts(make_image_folder):
    train = FolderSource(make_image_folder("train"))
    val = make_image_folder("val", per_class=2, seed=1)
    return train, val


def test_a_file_in_both_is_found_by_its_content(parts):
    train, val = parts
    assert find_shared(train, FolderSource(val)) == []
    shutil.copy(train.samples[5][0], val / "cat/another name.jpg")
    found = FolderSource(val)
    assert [(one, found.samples[other][0]) for one, other in find_shared(train, found)] == [
        (5, str(val / "cat/another name.jpg"))
    ]
    with pytest.raises(SourceError) as caught:
        require_disjoint(train, found)
    assert train.samples[5][0] in str(caught.value)
    assert "another name.jpg" in str(caught.value)
    assert "--no-check-split" in str(caught.value)


def test_files_of_the_same_size_and_the_same_end_are_told_apart(tmp_path):
    for part, first in (("train", b"a"), ("val", b"b")):
        (tmp_path / part / "one").mkdir(parents=True)
        (tmp_path / part / "one/x.jpg").write_bytes(first + bytes(9000))
    assert find_shared(FolderSource(tmp_path / "train"), FolderSource(tmp_path / "val")) == []


def test_a_file_that_is_gone_is_the_loaders_to_report(parts):
    train, val = parts
    found = FolderSource(val)
    (val / "ant/ant_0.jpg").unlink()
    assert find_shared(train, found) == []


def test_arrays_are_compared_too(make_image):
    one, other = make_image(5, 7), make_image(5, 7, seed=1)
    train, val = ArraySource([one, other], [0, 1]), ArraySource([other], [0])
    assert find_shared(train, val) == [(1, 0)]


def test_every_image_validates_in_exactly_one_fold(make_image_folder):
    root = make_image_folder(per_class=7)
    folds = fold_sources(root, 3, seed=5)
    names = [[val.name(index) for index in range(len(val))] for _, val in folds]
    assert sorted(name for each in names for name in each) == [path for path, _ in FolderSource(root).samples]
    for train, val in folds:
        assert find_shared(train, val) == []
        assert len(train) + len(val) == 21
        assert all(2 <= (val.labels == label).sum() <= 3 for label in range(3))
    assert [sorted(each) for each in names] != [
        sorted(val.name(index) for index in range(len(val))) for _, val in fold_sources(root, 3, seed=6)
    ]


def test_folds_that_cannot_be_are_refused(make_image_folder, tmp_path):
    make_image_folder("both/train")
    make_image_folder("both/val")
    with pytest.raises(SourceError, match="got 'train' and 'val'"):
        fold_sources(tmp_path / "both", 2)
    with pytest.raises(SourceError, match="a class needs an image for each of the 5 folds, got fewer in 'ant'"):
        fold_sources(make_image_folder("small"), 5)


def test_the_usual_division_shares_nothing(make_image_folder):
    require_disjoint(*split_sources(make_image_folder(per_class=5)))


@pytest.mark.parametrize("content", [b"", b"<html>404</html>"])
def test_what_is_no_image_is_none_in_both(parts, content):
    train, val = parts
    for path in (train.samples[5][0], val / "cat/bad.jpg"):
        with open(path, "wb") as file:  # noqa: PTH123
            file.write(content)
    assert find_shared(train, FolderSource(val)) == []
