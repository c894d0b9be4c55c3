import pytest
import torch

import dalipipe
from dalipipe.errors import SourceError, WeightsError
from dalipipe.training.network.checkpoint import load_checkpoint, save_checkpoint
from dalipipe.training.network.trained import labelled_source


def test_a_checkpoint_gives_the_network_its_classes_and_the_recipe_of_new_images(checkpoint):
    before = torch.get_rng_state()
    model, classes, recipe = dalipipe.load_model(checkpoint)
    assert torch.equal(torch.get_rng_state(), before)
    assert classes == ("ant", "bee", "cat")
    assert recipe.output_shape == (3, 37, 35)
    assert not model.training
    kept = load_checkpoint(checkpoint).state_dict
    assert all(torch.equal(tensor, kept[name]) for name, tensor in model.state_dict().items())


def test_a_checkpoint_with_weights_of_another_network_is_refused(checkpoint, tmp_path):
    good = load_checkpoint(checkpoint)
    fields = {**vars(good), "state_dict": {**good.state_dict, "fc.bias": torch.zeros(7)}}
    save_checkpoint(tmp_path / "bad.pt", type(good)(**fields))
    with pytest.raises(WeightsError, match=r"bad\.pt: must hold all weights of a resnet18"):
        dalipipe.load_model(tmp_path / "bad.pt")


def test_labels_are_those_of_the_network_not_of_the_folder(make_image_folder):
    source, folder = labelled_source(
        make_image_folder(classes=("cat", "ant"), per_class=2), ("dog", "cat", "bee", "ant")
    )
    assert source.labels.tolist() == [3, 3, 1, 1]
    assert source.classes == ("dog", "cat", "bee", "ant")
    assert all(source.name(index).startswith(folder) for index in range(4))


def test_of_a_divided_folder_the_validation_images_are_measured(make_image_folder):
    make_image_folder("photos/train", classes=("ant", "bee"), per_class=3)
    root = make_image_folder("photos/val", classes=("ant", "bee"), per_class=1).parent
    source, folder = labelled_source(root, ("ant", "bee"))
    assert (len(source), folder) == (2, str(root / "val"))


def test_of_a_folder_kept_for_the_end_the_test_images_are_measured(make_image_folder):
    root = make_image_folder("photos/train", classes=("ant", "bee"), per_class=3).parent
    make_image_folder("photos/Test", classes=("bee",), per_class=1)
    config = {"data": str(root), "val_fraction": 0.4, "split_seed": 3, "folds": None}
    source, folder = labelled_source(root, ("ant", "bee"), config)
    assert (source.labels.tolist(), folder) == ([1], str(root / "Test"))
    (root / "Test/bee/bee_0.jpg").rename(root / "Test/1.jpg")  # unlabelled
    (root / "Test/bee").rmdir()
    source, words = labelled_source(root, ("ant", "bee"), config)
    assert (source.labels.tolist(), "those that validated it" in words) == ([0, 1], True)


def test_a_class_without_images_is_no_obstacle(make_image_folder):
    root = make_image_folder(classes=("bee",))
    (root / "ant").mkdir()
    assert labelled_source(root, ("ant", "bee"))[0].labels.tolist() == [1, 1, 1, 1]


def test_a_class_that_was_never_learnt_is_refused(make_image_folder):
    with pytest.raises(SourceError, match="got 'wasp'"):
        labelled_source(make_image_folder(classes=("ant", "wasp")), ("ant", "bee"))


def test_a_network_is_not_measured_on_what_it_learnt_from(make_image_folder):
    root = make_image_folder(classes=("ant", "bee"), per_class=5)
    config = {"data": str(root), "val_fraction": 0.4, "split_seed": 3, "folds": None}
    source, words = labelled_source(root, ("ant", "bee"), config)
    _, val = dalipipe.split_sources(root, val_fraction=0.4, seed=3)
    assert [source.item(i) for i in range(len(source))] == [val.item(i) for i in range(len(val))]
    assert source.labels.tolist() == val.labels.tolist()
    assert "those that validated it" in words
    other, _ = labelled_source(make_image_folder("other", classes=("ant", "bee"), per_class=5), ("ant", "bee"), config)
    assert len(other) == 10
    with pytest.raises(SourceError, match="trained on in folds"):
        labelled_source(root, ("ant", "bee"), {**config, "folds": 2})
