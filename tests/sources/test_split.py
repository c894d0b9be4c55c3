import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from dalipipe.errors import ConfigError, SourceError, SourceNotFoundError
from dalipipe.sources import FolderSource, fold_sources, split_sources


def tree(root, counts):
    for name, count in counts.items():
        (root / name).mkdir(parents=True)
        for number in range(count):
            (root / name / f"{number:04}.jpg").touch()
    return root


def keys(source):
    return [source.key(index) for index in range(len(source))]


class_counts = st.dictionaries(st.sampled_from(["a", "b", "cat\n", "d\udcff", "train"]), st.integers(2, 41), min_size=1)


@given(
    counts=class_counts,
    fraction=st.floats(0, 1, exclude_min=True, exclude_max=True),
    seed=st.integers(0, 2**64),
)
def test_drawn_split_is_disjoint_exhaustive_stratified_and_repeatable(tmp_path_factory, counts, fraction, seed):
    root = tree(tmp_path_factory.mktemp("tree"), counts)
    train, val = split_sources(root, fraction, seed)
    whole = keys(FolderSource(root))
    assert sorted(keys(train) + keys(val)) == sorted(whole)
    assert not set(keys(train)) & set(keys(val))
    assert keys(train) == [key for key in whole if key in set(keys(train))]  # the order of the folder is kept
    assert tuple(train.classes) == tuple(val.classes) == tuple(sorted(counts))
    for label, name in enumerate(val.classes):
        in_train, in_val = int(np.sum(train.labels == label)), int(np.sum(val.labels == label))
        assert in_train + in_val == counts[name]
        assert in_train >= 1
        assert in_val >= 1
        assert in_val in (1, counts[name] - 1) or abs(in_val - fraction * counts[name]) <= 0.5 + 1e-9
    again_train, again_val = split_sources(root, fraction, seed)
    assert (keys(again_train), keys(again_val)) == (keys(train), keys(val))


def test_the_draw_is_fixed_for_ever(tmp_path):
    # A run resumed under a later version must not validate on what it was trained on.
    _, val = split_sources(tree(tmp_path, {"ant": 10, "bee": 7}))
    assert keys(val) == ["ant/0002.jpg", "ant/0008.jpg", "bee/0000.jpg"]


def test_seed_and_class_change_the_draw(tmp_path):
    root = tree(tmp_path, {"a": 40, "b": 40})
    vals = [keys(split_sources(root, 0.5, seed)[1]) for seed in range(3)]
    assert vals[0] != vals[1] != vals[2] != vals[0]
    assert [key[2:] for key in vals[0] if key[0] == "a"] != [key[2:] for key in vals[0] if key[0] == "b"]


def test_other_classes_do_not_change_the_draw(tmp_path):
    root = tree(tmp_path, {"b": 20, "c": 20})
    before = [key for key in keys(split_sources(root)[1]) if key.startswith("b/")]
    tree(tmp_path, {"a": 30})
    (root / "c/0003.jpg").unlink()
    assert [key for key in keys(split_sources(root)[1]) if key.startswith("b/")] == before


def test_every_image_is_drawn_as_often_as_any_other(tmp_path):
    root = tree(tmp_path, {"a": 10})
    drawn = np.zeros(10)
    for seed in range(400):
        for key in keys(split_sources(root, 0.3, seed)[1]):
            drawn[int(key[2:6])] += 1
    assert drawn.sum() == 400 * 3
    # Binomial(400, 0.3): mean 120, standard deviation 9.2.
    assert np.all(np.abs(drawn - 120) < 4.5 * 9.2)


def test_train_and_val_folders(make_image_folder, tmp_path):
    make_image_folder("data/train", classes=["ant", "bee"], per_class=3)
    make_image_folder("data/val", classes=["ant", "bee"], per_class=2)
    make_image_folder("data/test", classes=["other"], per_class=1)
    train, val = split_sources(tmp_path / "data", val_fraction=0.9, seed=7)
    assert keys(train) == keys(FolderSource(tmp_path / "data/train"))
    assert keys(val) == keys(FolderSource(tmp_path / "data/val"))
    assert tuple(train.classes) == tuple(val.classes) == ("ant", "bee")


def test_hymenoptera(hymenoptera):
    train, val = split_sources(hymenoptera)
    assert (len(train), len(val)) == (244, 153)


def test_photos(photos):
    train, val = split_sources(photos)
    assert np.bincount(train.labels).tolist() == [16] * 10
    assert np.bincount(val.labels).tolist() == [4] * 10


def test_a_class_of_val_that_train_lacks_is_named(tmp_path):
    tree(tmp_path / "train", {"ant": 2, "bee": 2})
    tree(tmp_path / "val", {"ant": 2, "bee": 2, "wasp": 2})
    with pytest.raises(SourceError, match=r"val': must have no other classes than 'ant', 'bee', got 'wasp' in addit"):
        split_sources(tmp_path)


@pytest.mark.parametrize("counts", [{"bee": 2, "wasp": 1}, {"ant": 0, "bee": 2, "wasp": 1}])
def test_val_may_lack_a_class_of_train_and_has_its_labels(tmp_path, counts, caplog):
    tree(tmp_path / "train", {"ant": 2, "bee": 2, "wasp": 2})
    tree(tmp_path / "val", counts)
    train, val = split_sources(tmp_path)
    assert tuple(train.classes) == tuple(val.classes) == ("ant", "bee", "wasp")
    assert val.labels.tolist() == [1, 1, 2]
    assert "val': has no image of 'ant', which training has" in caplog.text


@pytest.mark.parametrize("train_name", ["train", "Train", "TRAIN", "training"])
@pytest.mark.parametrize("val_name", ["val", "VAL", "valid", "Validation", "dev"])
def test_parts_are_known_by_their_usual_names(tmp_path, train_name, val_name, caplog):
    tree(tmp_path / train_name, {"ant": 2, "bee": 2})
    tree(tmp_path / val_name, {"ant": 1, "bee": 1})
    tree(tmp_path / "Test", {"ant": 3, "bee": 3})
    train, val = split_sources(tmp_path)
    assert [train.root.name, val.root.name] == [train_name, val_name]
    assert f"{train_name!r}, {val_name!r} are taken, and 'Test' left alone" in caplog.text


def test_a_hidden_folder_is_no_part(tmp_path):
    for name in ("train", "val", ".ipynb_checkpoints", "__MACOSX"):
        tree(tmp_path / name, {"ant": 2, "bee": 2})
    assert [source.root.name for source in split_sources(tmp_path)] == ["train", "val"]


@pytest.mark.parametrize("test", [{"ant": 2, "bee": 2}, {"": 4}, None])
def test_test_is_never_validated_on(tmp_path, test, caplog):
    """Whether its images are labelled, or lie directly in it as those of a contest do."""
    tree(tmp_path / "train", {"ant": 10, "bee": 10})
    if test:
        tree(tmp_path / "test", {name: count for name, count in test.items() if name})
        tree(tmp_path, {"test": test[""]} if "" in test else {})
    train, val = split_sources(tmp_path)
    assert tuple(train.classes) == ("ant", "bee")
    names = [source.name(index) for source in (train, val) for index in range(len(source))]
    assert (len(train), len(val), len(set(names))) == (16, 4, 20)
    assert all(name.startswith(str(tmp_path / "train")) for name in names)
    assert "a part of 'train' is taken to validate on" in caplog.text
    assert ("'test' left alone" in caplog.text) == bool(test)
    assert sum(len(val) for _, val in fold_sources(tmp_path, 5)) == 20


@pytest.mark.parametrize("names", [("train", "val", "Valid"), ("train", "TRAIN", "val"), ("train", "test", "Testing")])
def test_two_folders_of_one_part_are_refused(tmp_path, names):
    for name in names:
        tree(tmp_path / name, {"ant": 2, "bee": 2})
    with pytest.raises(SourceError, match=r"must hold one folder as '(val|train|test)', got '.*'. Rename or remove"):
        split_sources(tmp_path)


@pytest.mark.parametrize("parts", [["val"], ["test", "valid"], ["Testing"]])
def test_parts_without_one_to_train_on_do_not_pass_for_classes(tmp_path, parts):
    for part in parts:
        tree(tmp_path / part, {"ant": 2, "bee": 2})
    with pytest.raises(SourceError, match=f"'train' and 'val' .* got .*{parts[0]!r}"):
        split_sources(tmp_path)


def test_a_class_may_be_called_train(tmp_path):
    train, _ = split_sources(tree(tmp_path, {"bus": 2, "train": 2}))
    assert tuple(train.classes) == ("bus", "train")


def test_a_class_with_one_image_is_named(tmp_path):
    with pytest.raises(SourceError, match=r"needs 2 images .* got 1 in 'bee'"):
        split_sources(tree(tmp_path, {"ant": 2, "bee": 1}))


def test_errors_of_the_folder_come_through(tmp_path):
    with pytest.raises(SourceNotFoundError, match="must exist"):
        split_sources(tmp_path / "missing")
    with pytest.raises(SourceNotFoundError, match="one folder per class"):
        split_sources(tmp_path)
    tree(tmp_path, {"train": 2, "val": 2})  # images where class folders should be
    with pytest.raises(SourceNotFoundError, match=r"train': must hold one folder per class, got 2 image"):
        split_sources(tmp_path)


@pytest.mark.parametrize("fraction", [0, 1, -0.1, 1.5, float("nan")])
def test_fraction_out_of_range(tmp_path, fraction):
    with pytest.raises(ConfigError, match="val_fraction: must be above 0 and below 1"):
        split_sources(tree(tmp_path, {"a": 4}), fraction)


def test_seed_out_of_range(tmp_path):
    with pytest.raises(ConfigError, match="seed: must be 0 or more, got -1"):
        split_sources(tree(tmp_path, {"a": 4}), seed=-1)
