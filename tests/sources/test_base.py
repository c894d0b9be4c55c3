import shutil

import numpy as np
import pytest

from dalipipe.errors import SourceError
from dalipipe.sources import FolderSource, SubsetSource, describe, fingerprint, name_of, require_classes


class BytesSource:
    classes = ("a", "b")
    labels = np.array([0, 1, 1], dtype=np.int64)

    def __len__(self):
        return 3

    def item(self, index):
        return b"image %d" % index


def test_require_classes(make_image_folder):
    one = FolderSource(make_image_folder("one", classes=["ant"]))
    two = FolderSource(make_image_folder("two", classes=["ant", "bee"]))
    with pytest.raises(SourceError, match=r"one': training needs at least 2 classes, got 1 \('ant'\)"):
        require_classes(one)
    with pytest.raises(SourceError, match="one'"):
        require_classes(SubsetSource(one, [0]))
    require_classes(one, at_least=1)
    require_classes(two)


def test_subset(make_image_folder):
    whole = FolderSource(make_image_folder(classes=["ant", "bee"], per_class=3))
    subset = SubsetSource(whole, [5, 0, 0])
    assert len(subset) == 3
    assert subset.classes == whole.classes
    assert subset.labels.tolist() == [1, 0, 0]
    assert subset.item(0) == subset.name(0) == whole.item(5)
    nested = SubsetSource(subset, np.array([1]))
    assert nested.item(0) == whole.item(0)
    assert nested.key(0) == whole.key(0)
    assert describe(nested) == describe(whole)


def test_a_subset_may_be_empty(make_image_folder):
    subset = SubsetSource(FolderSource(make_image_folder()), [])
    assert len(subset) == 0
    assert subset.labels.dtype == np.int64


def test_a_source_without_names_gets_some():
    source = BytesSource()
    assert name_of(source, 2) == "sample 2"
    assert name_of(SubsetSource(source, [1]), 0) == "sample 1"
    assert describe(source) == "BytesSource"


def test_fingerprint_is_of_names_and_labels_not_of_the_place(make_image_folder, tmp_path):
    root = make_image_folder()
    before = fingerprint(FolderSource(root))
    assert len(before) == 16
    assert int(before, 16) >= 0
    assert fingerprint(FolderSource(f"{root}/")) == before
    shutil.move(root, tmp_path / "elsewhere")
    moved = tmp_path / "elsewhere"
    assert fingerprint(FolderSource(moved)) == before

    (moved / "ant/ant_0.jpg").rename(moved / "ant/renamed.jpg")
    renamed = fingerprint(FolderSource(moved))
    (moved / "bee/bee_0.jpg").rename(moved / "cat/bee_0.jpg")
    relabelled = fingerprint(FolderSource(moved))
    (moved / "cat").rename(moved / "dog")
    assert len({before, renamed, relabelled, fingerprint(FolderSource(moved))}) == 4


def test_fingerprint_of_subsets_and_nameless_sources(make_image_folder):
    whole = FolderSource(make_image_folder())
    prints = {
        fingerprint(whole),
        fingerprint(SubsetSource(whole, [0, 1])),
        fingerprint(SubsetSource(whole, [1, 0])),
        fingerprint(BytesSource()),
        fingerprint(SubsetSource(BytesSource(), [0, 1])),
    }
    assert len(prints) == 5
    assert fingerprint(SubsetSource(whole, range(len(whole)))) == fingerprint(whole)


def test_fingerprint_takes_any_name(tmp_path):
    (tmp_path / "a\udcff").mkdir()
    (tmp_path / "a\udcff" / "\udcfe\n.jpg").touch()
    assert len(fingerprint(FolderSource(tmp_path))) == 16
