"""What is changed in a data set after its loader was made is used in the next epoch, or refused; never ignored."""

import numpy as np
import pytest
import torchvision.datasets as tv
from torch.utils.data import ConcatDataset, Subset
from torchvision import transforms as T

import dalipipe
from dalipipe.errors import ConfigError


def small(size):
    return T.Compose([T.Resize((size, size)), T.ToTensor()])


@pytest.fixture
def dataset(make_image_folder):
    return tv.ImageFolder(make_image_folder(), small(8))


def loader_of(dataset, **more):
    return dalipipe.DataLoader(dataset, 4, backend="torchvision", seed=1, num_threads=1, **more)


def sides(loader):
    return {images.shape[-1] for images, _ in loader}


def test_another_transform_is_used(dataset):
    with loader_of(dataset) as loader:
        assert sides(loader) == {8}
        loader.dataset.transform = small(10)
        assert sides(loader) == {10}
        loader.dataset.transform.transforms[0] = T.Resize((6, 6))
        assert sides(loader) == {6}
        loader.dataset.transform.transforms[0].size = (5, 5)
        assert sides(loader) == {5}
        assert loader.recipe.output_shape == (3, 5, 5)


@pytest.mark.parametrize("nest", [lambda data: Subset(data, range(6)), lambda data: ConcatDataset([data, data])])
def test_another_transform_of_an_inner_data_set_is_used(dataset, nest):
    with loader_of(nest(dataset)) as loader:
        assert sides(loader) == {8}
        dataset.transform = small(10)
        assert sides(loader) == {10}


def test_a_running_epoch_ends_as_it_began(dataset):
    with loader_of(dataset) as loader:
        running = iter(loader)
        assert next(running)[0].shape[-1] == 8
        dataset.transform = small(10)
        assert sides(loader) == {10}
        assert {images.shape[-1] for images, _ in running} == {8}
        assert sides(loader) == {10}


CHANGES = {
    "dataset.samples": lambda data: setattr(data, "samples", data.samples[:3]),
    "dataset.samples in place": lambda data: data.samples.pop(),
    "dataset.samples one label": lambda data: data.samples.__setitem__(1, (data.samples[1][0], 2)),
    "dataset.targets": lambda data: setattr(data, "targets", [0] * len(data)),
    "dataset.loader": lambda data: setattr(data, "loader", print),
    "dataset.target_transform": lambda data: setattr(data, "target_transform", abs),
}


@pytest.mark.parametrize("name", CHANGES)
def test_other_samples_are_refused(dataset, name):
    with loader_of(dataset) as loader:
        assert sides(loader) == {8}
        CHANGES[name](dataset)
        with pytest.raises(ConfigError, match=f"DataLoader: {name.split()[0]} was changed .* Make a new loader"):
            sides(loader)


def test_other_indices_are_refused(dataset):
    subset = Subset(dataset, [0, 1, 2])
    with loader_of(subset) as loader:
        sides(loader)
        subset.indices.append(3)
        with pytest.raises(ConfigError, match=r"dataset\.indices was changed"):
            sides(loader)
    with loader_of(subset) as loader:
        dataset.samples.pop()
        with pytest.raises(ConfigError, match=r"dataset\.dataset\.\w+ was changed"):
            sides(loader)


class Growing:
    """A source that gets more samples."""

    classes, labels = ("a", "b"), np.array([0, 1])

    def __len__(self):
        return len(self.labels)

    def item(self, index):
        return np.full((9, 9, 3), index, np.uint8)


def test_a_source_that_has_grown_is_refused():
    source = Growing()
    with loader_of(source, recipe="cifar-eval") as loader:
        assert sides(loader) == {32}
        source.labels = np.array([1, 1])  # nothing was copied: they are what they are
        assert [labels.tolist() for _, labels in loader] == [[1, 1]]
        source.labels = np.array([1, 1, 0])
        with pytest.raises(ConfigError, match="length was changed after the loader was made"):
            sides(loader)


def test_part_of_a_folder_can_be_gone_through_again(dataset):
    with loader_of(Subset(dalipipe.FolderSource(dataset.root), [0, 2]), recipe="cifar-eval") as loader:
        assert sides(loader) == sides(loader) == {32}


def test_a_transform_beside_a_recipe_is_refused_once_it_is_changed(dataset):
    with loader_of(dataset, recipe="cifar-eval") as loader:
        assert sides(loader) == {32}
        dataset.transform = small(10)
        with pytest.raises(ConfigError, match=r"dataset\.transform was changed .* recipe= counts"):
            sides(loader)


def test_pixels_that_are_changed_in_place_are_seen():
    dataset = object.__new__(tv.CIFAR10)
    dataset.data = np.zeros((4, 3, 8, 8), np.uint8).transpose(0, 2, 3, 1)
    dataset.targets, dataset.target_transform, dataset.transforms = [0, 1, 0, 1], None, None
    dataset.transform = T.ToTensor()
    with loader_of(dataset) as loader:
        assert [float(images.max()) for images, _ in loader] == [0.0]
        dataset.data[2] = 255
        assert [float(images.max()) for images, _ in loader] == [1.0]
        dataset.targets[0] = 1
        with pytest.raises(ConfigError, match=r"dataset\.targets was changed"):
            sides(loader)
