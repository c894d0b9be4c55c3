"""What a translated recipe makes of images is what torchvision's transforms make of them."""

import numpy as np
import pytest
import torch
from PIL import Image
from torchvision import transforms as v1
from torchvision.transforms import InterpolationMode, v2

import dalipipe
from dalipipe.recipes import Recipe
from dalipipe.sources import ArraySource

MEAN, STD = (0.485, 0.456, 0.406), (0.229, 0.224, 0.225)

# What is left after translation: None is the same to the bit, else the greatest difference in levels.
SAME = [
    ("crop", [v1.CenterCrop((17, 13)), v1.ToTensor()], None),
    ("crop of floats", [v1.ToTensor(), v1.CenterCrop((17, 13))], None),
    ("pad", [v1.PILToTensor(), v1.CenterCrop((46, 53))], None),
    ("flips", [v1.RandomHorizontalFlip(1.0), v1.RandomVerticalFlip(1.0), v1.PILToTensor()], None),
    ("flip of floats", [v2.ToImage(), v2.ToDtype(torch.float32, scale=True), v2.RandomHorizontalFlip(1.0)], None),
    ("resize of a tensor", [v1.PILToTensor(), v2.Resize((19, 23)), v1.ConvertImageDtype(torch.float32)], None),
    ("resize of a tensor by v1", [v1.PILToTensor(), v1.Resize((19, 23))], 1.0),
    ("no antialias", [v2.ToImage(), v2.Resize((19, 23), antialias=False)], None),
    ("resize of a PIL image", [v1.Resize((19, 23)), v1.ToTensor()], 1.0),
    ("no antialias on a PIL image", [v2.Resize((19, 23), antialias=False), v2.ToImage()], 1.0),
    ("resize of floats", [v1.ToTensor(), v1.Resize((19, 23))], 0.99),
    ("shorter side", [v1.PILToTensor(), v2.Resize(20), v1.CenterCrop(17)], None),
    ("rotation", [v1.PILToTensor(), v1.RandomRotation((33, 33), fill=9)], None),
    ("rotation of floats", [v1.ToTensor(), v1.RandomRotation((33, 33), InterpolationMode.BILINEAR)], 0.51),
    ("affine", [v1.PILToTensor(), v1.RandomAffine((9, 9), scale=(0.9, 0.9), shear=(5, 5))], None),
    ("padding with grey", [v1.ToTensor(), v1.RandomCrop((47, 33), padding=1, fill=0.2)], None),
]


@pytest.mark.parametrize(("steps", "levels"), [pytest.param(*case[1:], id=case[0]) for case in SAME])
@pytest.mark.filterwarnings("ignore:Anti-alias option is always applied for PIL")
@pytest.mark.parametrize("normalized", [False, True])
def test_the_recipe_does_what_torchvision_does(tmp_path, make_image, steps, levels, normalized):
    height, width = 45, 31
    pictures = [Image.fromarray(make_image(height, width, seed=index)) for index in range(3)]
    (tmp_path / "one").mkdir()
    for index, picture in enumerate(pictures):
        picture.save(tmp_path / "one" / f"{index}.png")
    pads = type(steps[-1]) is v1.CenterCrop and steps[-1].size[0] > height
    size = None if pads else (height, width)
    steps = [*steps, v2.ToDtype(torch.float32, scale=True), v2.Normalize(MEAN, STD)] if normalized else steps
    transform = v1.Compose(steps)
    expected = torch.stack([transform(picture) for picture in pictures])
    recipe = Recipe.from_torchvision(transform, size=size)
    with dalipipe.DataLoader(
        str(tmp_path), batch_size=3, recipe=recipe, backend="torchvision", num_threads=1
    ) as loader:
        ((images, _),) = list(loader)
    assert images.dtype == expected.dtype
    assert images.shape == expected.shape
    unit = 1.0 if images.dtype == torch.uint8 else 255.0
    spread = torch.tensor(STD if normalized else (1.0,) * 3).view(3, 1, 1) * unit
    difference = ((images.float() - expected.float()) * spread).abs().max().item()
    assert difference <= (levels or 0) + 1e-3 * (unit != 1.0)


def test_an_array_source_goes_through_what_was_translated(make_image):
    pixels = np.stack([make_image(11, 7, seed=index) for index in range(3)])
    source = ArraySource(pixels, [0, 1, 0])
    recipe = Recipe.from_torchvision(v1.ToTensor(), size=source.size)
    with dalipipe.DataLoader(source, batch_size=3, recipe=recipe, backend="torchvision", num_threads=1) as loader:
        ((images, labels),) = list(loader)
    expected = torch.stack([v1.ToTensor()(Image.fromarray(image)) for image in pixels])
    assert torch.allclose(images, expected, atol=1e-6)
    assert labels.tolist() == [0, 1, 0]
