"""What can only be seen on a GPU: run it there with DALIPIPE_REQUIRE=gpu python -m pytest -m gpu.

How near the pixels are is in tests/backends and tests/parity, which take dali-gpu along where there is a GPU.
"""

import threading

import pytest
import torch

from dalipipe import DataLoader
from dalipipe.parity import Settings, compare
from dalipipe.recipes import Recipe, list_recipes
from dalipipe.sources import FolderSource

pytestmark = pytest.mark.gpu

RECIPES = {
    view.name: view for name in list_recipes("image") for view in Recipe.load(name).kinds.values()
}  # each view of a recipe is one here


def make(folder, **options):
    given = {"batch_size": 8, "shuffle": True, "recipe": "imagenet-train", "backend": "dali-gpu", "seed": 1}
    return DataLoader(folder, **{**given, **options})


@pytest.fixture
def folder(make_image_folder):
    return make_image_folder(per_class=16, sizes=((257, 331), (331, 263), (269, 401)))


@pytest.mark.parametrize("name", RECIPES)
def test_every_recipe_is_the_references_within_the_tolerance_of_decoding_on_a_gpu(folder, name):
    report = compare(FolderSource(folder), RECIPES[name], Settings(("dali-gpu",), 2, 0, 2))
    assert report.ok, [row.problem for row in report.rows if not row.ok]


def test_batches_are_on_the_gpu_and_every_image_comes_once(folder):
    with make(folder) as loader:
        for _ in range(3):
            seen = []
            for images, labels in loader:
                assert (images.device.type, labels.device.type) == ("cuda", "cuda")
                assert torch.isfinite(images).all()
                seen += loader.last_indices.tolist()
            assert sorted(seen) == list(range(48))


def test_a_thousand_batches_go_through(folder):
    """A smoke test of throughput: `dalipipe bench` measures it."""
    network = torch.nn.Conv2d(3, 8, 3, device="cuda")
    with make(folder, batch_size=4) as loader:
        count = sum(len(network(images)) for _ in range(84) for images, _ in loader)
    assert count == 84 * 48


def test_memory_reaches_a_plateau(folder):
    def used():
        torch.cuda.synchronize()
        free, total = torch.cuda.mem_get_info()
        return total - free

    with make(folder) as loader:
        for _ in range(10):
            list(loader)
        before, threads = used(), threading.active_count()
        for _ in range(50):
            list(loader)
        assert used() - before < 32 * 2**20
        assert threading.active_count() == threads


@pytest.mark.parametrize("on_error", ["skip", "substitute"])
def test_a_bad_file_costs_only_itself(folder, on_error):
    with make(folder) as loader:
        clean = {i: image.cpu() for images, _ in loader for i, image in zip(loader.last_indices, images, strict=True)}
    bad = [0, 7, 8, 9, 47]
    paths = [path for path, _ in FolderSource(folder).samples]
    for index in bad:
        with open(paths[index], "wb") as file:  # noqa: PTH123
            file.write(b"<html>")
    with make(folder, on_error=on_error) as loader:
        for epoch in range(3):
            loader.set_epoch(0)
            for images, _ in loader:
                for index, image in zip(loader.last_indices.tolist(), images.cpu(), strict=True):
                    assert index not in bad
                    if on_error == "skip":
                        torch.testing.assert_close(image, clean[index], rtol=0, atol=0.02)
            assert sorted(file.index for file in loader.bad_files) == bad, epoch


def test_a_finished_module_and_uint8_agree_with_floats(folder):
    with make(folder, shuffle=False) as floats, make(folder, shuffle=False, dtype="uint8") as levels:
        finish = levels.finish.to("cuda")
        for (expected, _), (found, _) in zip(floats, levels, strict=True):
            torch.testing.assert_close(finish(found), expected, rtol=0, atol=0.02)
