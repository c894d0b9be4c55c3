"""The subjects as they are, on small images, in this process."""

from pathlib import Path

import numpy as np
import pytest
import torch
from PIL import Image
from torchvision.transforms import v2

from dalipipe.benchmark.agreement import Sample, compare, compare_loosely
from dalipipe.benchmark.meter import time_stretch
from dalipipe.benchmark.peers import TorchPeer, transforms_of
from dalipipe.benchmark.subjects import make_subject
from dalipipe.benchmark.work import Work
from dalipipe.errors import BackendError
from dalipipe.recipes import Recipe, list_recipes
from dalipipe.recipes.ops import Op

# From 0.29 on torchvision announces that its decoders will move to torchcodec; people still use them as they are.
pytestmark = pytest.mark.filterwarnings("ignore:The image decoding and encoding:DeprecationWarning")

SIZES = ((257, 331), (331, 263), (269, 401))


@pytest.fixture
def work(make_image_folder):
    root = make_image_folder(sizes=SIZES)
    return Work(str(root), Recipe.load("imagenet-train"), batch_size=5, threads=1)


def taken(subject, recipe, indices):
    with subject.open(recipe, indices) as batches:
        pairs = list(batches)
    return Sample(
        np.concatenate([images.numpy() for images, _ in pairs]), np.concatenate([labels.numpy() for _, labels in pairs])
    )


def peer_without_workers(work, form):
    # Processes are started by the tests of the command; here what they would do is looked at.
    return TorchPeer(Work(work.root, work.recipe, work.batch_size, 0), form)


SINGLE = [name for name in list_recipes("image") if not Recipe.load(name).other_ops]
TRAINING = [name for name in SINGLE if not name.endswith("-eval")]


@pytest.mark.parametrize("form", ["pil", "tensor"])
@pytest.mark.parametrize("name", TRAINING)
def test_peers_made_from_a_recipe_give_its_pictures(work, name, form):
    recipe = Recipe.load(name)
    twin = recipe.eval_twin()
    indices = np.array([7, 0, 11, 3, 5, 2])
    reference, peer = make_subject("torchvision", work), peer_without_workers(work, form)
    found = compare(taken(peer, twin, indices), taken(reference, twin, indices), twin)
    assert found.ok, found
    assert compare_loosely(taken(peer, recipe, indices), taken(reference, recipe, indices), recipe) == ""


@pytest.mark.parametrize("name", ["dali-cpu-stock", "dali-cpu-cached", "torchvision", "decode-only"])
def test_every_image_asked_for_comes_repeated_ones_too(work, name):
    indices = np.array([3, 1, 1, 4, 11, 0, 3, 2])
    stretch = time_stretch(lambda: make_subject(name, work).open(work.recipe, indices))
    assert stretch.images == 8
    assert stretch.images_in_first_batch == 5
    assert 0 < stretch.first_batch_s <= stretch.wall_s


def test_the_cached_subject_gives_the_pictures_and_reads_no_file_twice(work):
    recipe, indices = work.recipe, np.array([7, 0, 11, 7])
    plain = taken(make_subject("dali-cpu", work), recipe, indices)
    cached = make_subject("dali-cpu-cached", work)
    first = taken(cached, recipe, indices)
    for file in Path(work.root).rglob("*.*"):
        file.unlink()
    second = taken(cached, recipe, indices)
    for sample in (first, second):
        np.testing.assert_array_equal(sample.labels, plain.labels)
        np.testing.assert_array_equal(sample.images, plain.images)


@pytest.mark.parametrize("name", ["imagenet-train", "imagenet-eval"])
def test_decode_only_decodes_what_the_recipe_needs(work, name):
    recipe = Recipe.load(name)
    with make_subject("decode-only", work).open(recipe, np.arange(12)) as batches:
        shapes = [tuple(images.at(at).shape) for images, labels in batches for at in range(len(labels))]
    if name == "imagenet-eval":
        assert set(shapes) == {(height, width, 3) for height, width in SIZES}
    else:  # each only the window that is cropped
        assert all(height <= 331 and width <= 401 and channels == 3 for height, width, channels in shapes)
        assert len(set(shapes)) == 12


def test_transforms_carry_every_argument(make_image):
    recipe = Recipe.from_toml("""
[[ops]]
op = "RandomAffine"
degrees = [10, 20]
translate = [0.1, 0.2]
scale = [0.8, 1.2]
shear = [1, 2, 3, 4]
interpolation = "bilinear"
fill = [1, 2, 3]
center = [5, 6]

[[ops]]
op = "RandomCrop"
size = [7, 9]
padding = [1, 2, 3, 4]
pad_if_needed = true
fill = 9

[[ops]]
op = "RandomVerticalFlip"
p = 0.25

[[ops]]
op = "ToDtype"
""")
    affine, crop, flip, to_tensor, to_float = transforms_of(recipe, "pil").transforms
    assert (affine.degrees, affine.translate, affine.scale) == ([10, 20], (0.1, 0.2), (0.8, 1.2))
    assert (affine.shear, affine.fill, affine.center) == ([1, 2, 3, 4], [1, 2, 3], (5, 6))
    assert affine.interpolation.value == "bilinear"
    direct = v2.RandomCrop((7, 9), padding=[1, 2, 3, 4], pad_if_needed=True, fill=[9, 9, 9])
    assert (tuple(crop.size), crop.padding, crop.fill) == ((7, 9), direct.padding, direct.fill)
    assert crop.pad_if_needed
    assert flip.p == 0.25
    assert isinstance(to_tensor, v2.PILToTensor)
    assert (to_float.dtype, to_float.scale) == (torch.float32, False)
    image = transforms_of(recipe, "pil")(Image.fromarray(make_image(31, 47)))
    assert (tuple(image.shape), image.dtype) == ((3, 7, 9), torch.float32)
    assert image.max() > 1


def test_an_op_without_counterpart_is_named():
    class Solarize(Op):
        op: str = "Solarize"

    recipe = Recipe(name="x", ops=(Solarize(), *Recipe.load("imagenet-eval").ops))
    with pytest.raises(BackendError, match=r"torchvision-pil: can't be made for Solarize\. It has: RandomResizedCrop"):
        transforms_of(recipe, "pil")
