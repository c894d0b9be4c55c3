"""Recipes that make several views of each image: how they are written, and what a loader hands out of them."""

import json
from pathlib import Path

import numpy as np
import pytest
import torch
from torch.utils.data import Dataset
from torchvision.datasets import ImageFolder

import dalipipe
from dalipipe import MixUp, Recipe, ops
from dalipipe.errors import ConfigError, RecipeError
from dalipipe.text import Recipe as TextRecipe

BACKENDS = ["torchvision", "dali-cpu", "dali-cpu-stock"]
LARGE = Recipe(
    name="large", ops=(ops.RandomResizedCrop(size=24), ops.RandomHorizontalFlip(), ops.Normalize(mean=0.5, std=0.5))
)
SMALL = Recipe(name="small", ops=(ops.RandomResizedCrop(size=8, scale=(0.1, 0.4)), ops.Normalize(mean=0.5, std=0.5)))
CROPS = Recipe.of_views("crops", [LARGE, LARGE, SMALL, SMALL, SMALL])

WRITTEN = """
[[views]]
count = 2
[[views.ops]]
op = "RandomResizedCrop"
size = 24
[[views]]
[[views.ops]]
op = "CenterCrop"
size = 8
"""


@pytest.fixture
def folder(make_image_folder):
    return make_image_folder(per_class=5)


def loader_of(folder, recipe=CROPS, **options):
    return dalipipe.DataLoader(
        folder, 4, recipe=recipe, **{"num_threads": 1, "seed": 3, "shuffle": True, "backend": "torchvision", **options}
    )


def epoch_of(loader):
    """Return all views of an epoch, each (n, C, H, W), and the labels."""
    batches = list(loader)
    views = [torch.cat(parts) for parts in zip(*(images for images, _ in batches), strict=True)]
    return views, torch.cat([labels for _, labels in batches])


def test_views_are_written_as_a_number_or_as_tables():
    twice = Recipe.from_toml('views = 2\n[[ops]]\nop = "CenterCrop"\nsize = 9\n')
    assert [view.output_shape for view in twice.views] == [(3, 9, 9)] * 2
    tables = Recipe.from_toml(WRITTEN)
    assert [view.output_shape for view in tables.views] == [(3, 24, 24), (3, 24, 24), (3, 8, 8)]
    assert {number: view.name for number, view in tables.kinds.items()} == {
        "1 to 2": "recipe, view 1 to 2",
        "3": "recipe, view 3",
    }


@pytest.mark.parametrize("recipe", [CROPS, LARGE.with_views(3), Recipe.of_views("mixed", [LARGE, SMALL, LARGE])])
def test_views_survive_toml(recipe):
    again = Recipe.from_toml(recipe.to_toml())
    assert [view.ops for view in again.views] == [view.ops for view in recipe.views]
    assert again.fingerprint() == recipe.fingerprint()


def test_a_recipe_is_known_by_all_of_its_views():
    recipes = [LARGE, LARGE.with_views(2), LARGE.with_views(3), CROPS, Recipe.of_views("other", [LARGE, SMALL])]
    assert len({recipe.fingerprint() for recipe in recipes}) == len(recipes)


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ('views = 0\n[[ops]]\nop = "CenterCrop"\nsize = 9', r"views: must be a whole number from 1 to 64 .*, got 0"),
        ('views = true\n[[ops]]\nop = "CenterCrop"\nsize = 9', r"views: .*, got True"),
        ('views = "2"\n[[ops]]\nop = "CenterCrop"\nsize = 9', r"views: .*, got '2'"),
        ("views = 2", r"needs at least one \[\[ops\]\] table"),
        ('[[views]]\ncount = 65\n[[views.ops]]\nop = "CenterCrop"\nsize = 9', r"\[\[views\]\] 1: count: .*, got 65"),
        ('[[views]]\ncount = 2', r"\[\[views\]\] 1: a recipe needs at least one \[\[views.ops\]\] table"),
        ('[[views]]\nsize = 2', r"\[\[views\]\] 1: unknown key 'size'.*There are: count, ops"),
        (f'[[ops]]\nop = "ToDtype"\n{WRITTEN}', r"\[\[ops\]\] or in \[\[views.ops\]\], got both"),
        (WRITTEN + '[[views]]\n[[views.ops]]\nop = "CentreCrop"', r"view 4: op 1: unknown op 'CentreCrop'.*CenterCrop"),
        (WRITTEN + '[[views]]\n[[views.ops]]\nop = "Resize"\nsize = 9', r"view 4: the output is .*not be batched"),
        ("views = []", r"views: must be a whole number from 1 to 64"),
        ("views = [1]", r"\[\[views\]\] 1: must be a table with ops, got 1"),
    ],
)  # fmt: skip
def test_what_is_wrong_with_views_is_said_where(text, message):
    with pytest.raises(RecipeError, match=message):
        Recipe.from_toml(text)


def test_views_in_a_recipe_for_sentences_are_refused():
    with pytest.raises(RecipeError, match="a recipe of text ops has one view, got 2"):
        TextRecipe.from_toml('views = 2\n[[ops]]\nop = "RandomSwap"')


@pytest.mark.parametrize("backend", BACKENDS)
def test_a_loader_hands_out_a_list_of_views_each_with_decisions_of_its_own(folder, backend):
    with loader_of(folder, backend=backend) as loader:
        views, labels = epoch_of(loader)
    count = len(labels)
    assert [tuple(view.shape) for view in views] == [(count, 3, size, size) for size in (24, 24, 8, 8, 8)]
    for first, second in ((0, 1), (2, 3), (3, 4)):
        assert all(not torch.equal(one, other) for one, other in zip(views[first], views[second], strict=True))
    with loader_of(folder) as loader:
        wanted, labels_too = epoch_of(loader)
    assert torch.equal(labels, labels_too)
    for view, reference in zip(views, wanted, strict=True):
        assert (view - reference).abs().mean() < 0.02


def test_the_first_view_is_what_a_recipe_of_one_view_makes(folder):
    with loader_of(folder, LARGE.with_views(2)) as two, loader_of(folder, LARGE) as one:
        (first, _), _ = epoch_of(two)
        assert torch.equal(first, torch.cat([images for images, _ in one]))


class Asked(Dataset):
    """Gives an image of its own opening among other things."""

    def __init__(self, folder):
        self.images = ImageFolder(folder)

    def __len__(self):
        return len(self.images)

    def __getitem__(self, index):
        image, label = self.images[index]
        return {"image": image, "label": label}


def test_a_data_set_that_is_asked_gives_the_same_views(folder):
    with loader_of(folder) as direct, loader_of(Asked(folder)) as asked:
        views, labels = epoch_of(direct)
        batches = list(asked)
    assert torch.equal(torch.cat([batch["label"] for batch in batches]), labels)
    for number, view in enumerate(views):
        assert torch.equal(torch.cat([batch["image"][number] for batch in batches]), view)


def test_views_are_resumed_to_the_bit(folder):
    with loader_of(folder) as loader:
        wanted, _ = epoch_of(loader)
    with loader_of(folder) as loader:
        batches = iter(loader)
        (first, *_), _ = next(batches)
        state = json.loads(json.dumps(loader.state_dict()))
    with loader_of(folder) as loader:
        loader.load_state_dict(state)
        rest, _ = epoch_of(loader)
    for view, left in zip(wanted, rest, strict=True):
        assert torch.equal(left, view[len(first) :])
    with loader_of(folder, LARGE) as other, pytest.raises(dalipipe.errors.StateError, match="recipe"):
        other.load_state_dict(state)


@pytest.mark.parametrize("backend", BACKENDS)
@pytest.mark.parametrize("on_error", ["skip", "substitute"])
def test_a_bad_file_costs_its_own_views_only(folder, backend, on_error):
    bad = sorted(Path(folder).glob("*/*"))[3]
    bad.write_bytes(bad.read_bytes()[:200])
    with loader_of(folder, backend=backend, on_error=on_error, shuffle=False) as loader:
        views, labels = epoch_of(loader)
        assert [file.path for file in loader.bad_files] == [str(bad)]
        assert len(labels) == len(loader.dataset) - (on_error == "skip")
    assert {len(view) for view in views} == {len(labels)}
    assert all(torch.isfinite(view).all() for view in views)


def test_single_samples_and_collate_functions_get_a_list_of_views(folder):
    with dalipipe.DataLoader(folder, None, recipe=CROPS, backend="torchvision", num_threads=1) as loader:
        views, _ = next(iter(loader))
        assert [tuple(view.shape) for view in views] == [(3, size, size) for size in (24, 24, 8, 8, 8)]
    with loader_of(folder, collate_fn=lambda samples: [len(views) for views, _ in samples]) as loader:
        assert next(iter(loader)) == [5, 5, 5, 5]


def test_whole_levels_need_views_that_finish_alike(folder):
    with loader_of(folder, dtype="uint8") as loader, loader_of(folder) as usual:
        (levels, wanted) = epoch_of(loader)[0], epoch_of(usual)[0]
        for level, view in zip(levels, wanted, strict=True):
            assert level.dtype == torch.uint8
            torch.testing.assert_close(loader.finish(level), view, rtol=0, atol=1e-5)
    other = Recipe(name="other", ops=(ops.CenterCrop(size=8), ops.ToDtype(scale=True)))
    with pytest.raises(ConfigError, match=r"the views of the recipe do so differently"):
        loader_of(folder, Recipe.of_views("both", [LARGE, other]), dtype="uint8")


def test_what_takes_one_view_says_so(folder):
    with (
        loader_of(folder) as loader,
        pytest.raises(RecipeError, match=r"MixUp: needs a recipe of one view, .* 5 of each"),
    ):
        next(MixUp(num_classes=2).over(loader))
    with pytest.raises(ConfigError, match="MixUp: needs tensors, got list"):
        MixUp(num_classes=2)([torch.zeros(1, 3, 2, 2)] * 2, torch.zeros(1), epoch=0, batch=0)


def test_views_that_take_their_images_differently_are_refused():
    turned = LARGE.model_copy(update={"apply_exif_orientation": True})
    with pytest.raises(RecipeError, match="apply_exif_orientation must be the same for all views"):
        Recipe.of_views("both", [LARGE, turned])
    with pytest.raises(RecipeError, match="needs at least one view, got none"):
        Recipe.of_views("none", [])
    with pytest.raises(RecipeError, match="a recipe may have 64 views, got 65"):
        LARGE.with_views(65)


def test_explain_tells_of_each_kind_of_view(folder):
    with loader_of(folder) as loader:
        lines = loader.explain().splitlines()
    assert [line for line in lines if line.startswith("view")] == ["view 1 to 2:", "view 3 to 5:"]


@pytest.mark.parametrize("name", ["simclr", "moco-v2", "dino"])
def test_a_recipe_of_a_paper_gives_its_views(hymenoptera, name):
    sizes = {"simclr": [224] * 2, "moco-v2": [224] * 2, "dino": [224] * 2 + [96] * 8}[name]
    with dalipipe.DataLoader(hymenoptera / "val", 4, recipe=name, seed=1, num_threads=2) as loader:
        views, labels = next(iter(loader))
    assert [tuple(view.shape) for view in views] == [(len(labels), 3, size, size) for size in sizes]
    assert np.unique([view.mean().item() for view in views]).size == len(views)
