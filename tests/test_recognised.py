"""Steps that scripts carry with them and that do what an op does."""

import random

import numpy as np
import pytest
import torch
from PIL import Image, ImageFilter, ImageOps
from torchvision import transforms

import dalipipe
from dalipipe import Recipe, ops
from dalipipe.recipes.recognised import recognised


class OfTwo:
    def __init__(self, sigma=(0.1, 2.0)):
        self.sigma = sigma

    def __call__(self, image):
        return image.filter(ImageFilter.GaussianBlur(radius=random.uniform(self.sigma[0], self.sigma[1])))


class Gated:
    def __init__(self, p, low=0.1, high=2.0):
        self.p, self.low, self.high = p, low, high

    def __call__(self, image):
        if random.random() <= self.p:
            return image.filter(ImageFilter.GaussianBlur(radius=random.uniform(self.low, self.high)))
        return image


class Scaled:
    def __init__(self, p):
        self.p = p

    def __call__(self, image):
        if np.random.rand() < self.p:
            sigma = np.random.rand() * 1.5 + 0.5
            image = image.filter(ImageFilter.GaussianBlur(sigma))
        return image


class Unless(torch.nn.Module):
    def __init__(self, p):
        super().__init__()
        self.p = p

    def forward(self, image):
        if torch.rand(1) > self.p:
            return image
        return image.filter(ImageFilter.GaussianBlur(0.1 + torch.rand(1).item()))


class Solarize:
    def __init__(self, p, threshold=128):
        self.p, self.threshold = p, threshold

    def __call__(self, image):
        return ImageOps.solarize(image, self.threshold) if random.random() < self.p else image


class Invert:
    def __call__(self, image):
        return ImageOps.invert(image) if np.random.uniform() > 0.75 else image


BLUR = ops.GaussianBlur(kernel_size=17, sigma=(0.1, 2.0))


@pytest.mark.parametrize(
    ("transform", "op"),
    [
        (OfTwo(), BLUR),
        (OfTwo([0.5, 1.0]), ops.GaussianBlur(kernel_size=9, sigma=(0.5, 1.0))),
        (Gated(0.1), ops.RandomApply(ops=(BLUR,), p=0.1)),
        (Gated(1.0), BLUR),
        (Scaled(0.3), ops.RandomApply(ops=(ops.GaussianBlur(kernel_size=17, sigma=(0.5, 2.0)),), p=0.3)),
        (Unless(0.25), ops.RandomApply(ops=(ops.GaussianBlur(kernel_size=11, sigma=(0.1, 1.1)),), p=0.25)),
        (Solarize(0.2), ops.RandomSolarize(threshold=128, p=0.2)),
        (Solarize(0.5, 100), ops.RandomSolarize(threshold=100, p=0.5)),
        (Invert(), ops.RandomInvert(p=0.25)),
    ],
)
def test_what_a_step_does_is_found_out_by_calling_it(transform, op):
    assert recognised(transform) == op


class Fixed:
    def __call__(self, image):
        return image.filter(ImageFilter.GaussianBlur(2))


class Always:
    def __call__(self, image):
        return ImageOps.solarize(image, 128)


class Squared:
    def __call__(self, image):
        return image.filter(ImageFilter.GaussianBlur(random.uniform(0.1, 1.4) ** 2))


class Chosen:
    def __call__(self, image):
        return image.filter(ImageFilter.GaussianBlur(random.choice([1, 2])))


class Normal:
    def __call__(self, image):
        return image.filter(ImageFilter.GaussianBlur(abs(np.random.normal())))


class Counting:
    count = 0

    def __call__(self, image):
        self.count += 1
        return image.filter(ImageFilter.GaussianBlur(random.uniform(0.1, 2.0)))


class Twice:
    def __call__(self, image):
        return image.filter(ImageFilter.GaussianBlur(random.uniform(0.1, 2))).filter(ImageFilter.SHARPEN)


class Sized:
    def __call__(self, image):
        return image.filter(ImageFilter.GaussianBlur(random.uniform(0.1, image.width / 100)))


class Together:
    """One number decides on both."""

    def __call__(self, image):
        number = random.random()
        return image.filter(ImageFilter.GaussianBlur(number + 0.1)) if number < 0.5 else image


class Delegating:
    def drawn(self):
        return random.uniform(0.1, 2.0)

    def __call__(self, image):
        return image.filter(ImageFilter.GaussianBlur(self.drawn()))


def helper(image):
    return image.filter(ImageFilter.GaussianBlur(random.uniform(0.1, 2.0)))


class Helped:
    def __call__(self, image):
        return helper(image)


class Box:
    def __call__(self, image):
        return image.filter(ImageFilter.BoxBlur(random.uniform(0.1, 2.0)))


@pytest.mark.parametrize(
    "kind",
    [Fixed, Always, Squared, Chosen, Normal, Counting, Twice, Sized, Together, Delegating, Helped, Box],
)
def test_what_an_op_does_not_do_in_all_is_left_to_python(kind):
    torch.manual_seed(0)
    random.seed(0)
    np.random.seed(0)
    before = random.getstate(), np.random.get_state()[1].tolist(), torch.get_rng_state().tolist()
    assert recognised(kind()) is None
    assert (random.getstate(), np.random.get_state()[1].tolist(), torch.get_rng_state().tolist()) == before


def test_a_recipe_has_the_op_and_says_so(make_image_folder):
    steps = [transforms.RandomResizedCrop(16), transforms.RandomApply([OfTwo()], p=0.5), transforms.ToTensor()]
    recipe = Recipe.from_torchvision(transforms.Compose(steps))
    assert recipe.ops[1] == ops.RandomApply(ops=(BLUR,), p=0.5)
    from torchvision.datasets import ImageFolder

    folder = ImageFolder(make_image_folder(per_class=2), transforms.Compose(steps))
    with dalipipe.DataLoader(folder, 2, backend="torchvision", num_threads=1) as loader:
        assert f"{__name__}.OfTwo is taken for GaussianBlur" in loader.explain()
        assert next(iter(loader))[0].shape == (2, 3, 16, 16)


@pytest.mark.parametrize("sigma", [0.3, 1.0, 2.0])
def test_torchvisions_blur_is_near_pillows(hymenoptera, sigma):
    path = sorted(hymenoptera.glob("val/*/*.jpg"))[0]
    image = Image.open(path).convert("RGB").resize((224, 224))
    pillows = np.asarray(image.filter(ImageFilter.GaussianBlur(sigma))).astype(int)
    ours = transforms.functional.gaussian_blur(torch.from_numpy(np.array(image)).permute(2, 0, 1), 17, sigma)
    off = np.abs(pillows - ours.permute(1, 2, 0).numpy())
    assert off.mean() < 2


timm_erasing = pytest.importorskip("timm.data.random_erasing")


def test_timms_erasing_and_crop_become_ops():
    from timm.data.transforms import RandomResizedCropAndInterpolation

    normalize = transforms.Normalize([0.5] * 3, [0.5] * 3)
    erase = timm_erasing.RandomErasing(0.4, min_area=0.1, max_area=0.3, device="cpu")
    crop = RandomResizedCropAndInterpolation(32, interpolation="random")
    recipe = Recipe.from_torchvision(transforms.Compose([crop, transforms.ToTensor(), normalize, erase]))
    filters = [op.interpolation for op in recipe.ops[0].ops]
    assert (recipe.ops[0].op, sorted(filters)) == ("RandomChoice", ["bicubic", "bilinear"])
    last = recipe.ops[-1]
    assert (last.op, last.p, last.scale) == ("RandomErasing", 0.4, (0.1, 0.3))
    assert last.ratio == pytest.approx((0.3, 1 / 0.3))
    noise = timm_erasing.RandomErasing(0.4, mode="pixel", device="cpu")
    with pytest.raises(dalipipe.RecipeError, match='mode must be "const"'):
        Recipe.from_torchvision(transforms.Compose([crop, transforms.ToTensor(), normalize, noise]))
