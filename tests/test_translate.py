"""What torchvision's transforms become, and that it is the same thing."""

import numpy as np
import pytest
import torch
from torch import nn
from torchvision import transforms as v1
from torchvision.transforms import InterpolationMode, v2
from torchvision.transforms import _presets as presets

from dalipipe.errors import RecipeError
from dalipipe.recipes import Recipe, ops
from dalipipe.recipes.ops import OPS
from dalipipe.recipes.placing import MOVABLE
from dalipipe.recipes.translation import ops_of
from dalipipe.recipes.translators import TABLE

MEAN, STD = (0.485, 0.456, 0.406), (0.229, 0.224, 0.225)
FLOAT = "ToDtype(scale=True)"


def texts(transform, **size) -> list[str]:
    """Return the ops of a translated transform, with the arguments that are not defaults."""
    recipe = Recipe.from_torchvision(transform, **size)
    assert Recipe.from_toml(recipe.to_toml()).ops == recipe.ops
    return [f"{op.op}({', '.join(f'{name}={value}' for name, value in op.arguments().items())})" for op in recipe.ops]


def to_float(api):
    return api.ToTensor() if api is v1 else v2.Compose([v2.ToImage(), v2.ToDtype(torch.float32, scale=True)])


ONE_OP = [
    (lambda t: t.RandomResizedCrop(7), "RandomResizedCrop(size=[7, 7])"),
    (
        lambda t: t.RandomResizedCrop((7, 9), scale=(0.2, 1), ratio=[1.0, 2.0]),
        "RandomResizedCrop(size=[7, 9], scale=[0.2, 1.0], ratio=[1.0, 2.0])",
    ),
    (lambda t: t.RandomCrop(7, padding=[1, 2, 3, 4]), "RandomCrop(size=[7, 7], padding=[1, 2, 3, 4])"),
    (lambda t: t.Resize((7, 9)), "Resize(size=[7, 9])"),
    (lambda t: t.Resize((7, 9), interpolation=InterpolationMode.BILINEAR), "Resize(size=[7, 9])"),
    (lambda t: t.Resize((7, 9), interpolation=2), "Resize(size=[7, 9])"),
    (lambda t: t.Resize((7, 9), interpolation=3), "Resize(size=[7, 9], interpolation=bicubic)"),
    (lambda t: t.CenterCrop(7), "CenterCrop(size=[7, 7])"),
    (lambda t: t.RandomCrop(7), "RandomCrop(size=[7, 7])"),
    (lambda t: t.RandomCrop(7, padding=4), "RandomCrop(size=[7, 7], padding=[4, 4, 4, 4])"),
    (
        lambda t: t.RandomCrop((7, 9), padding=(1, 2), pad_if_needed=True, fill=(1, 2, 3)),
        "RandomCrop(size=[7, 9], padding=[1, 2, 1, 2], pad_if_needed=True, fill=[1.0, 2.0, 3.0])",
    ),
]
SIZE_KEPT = [
    (lambda t: t.RandomHorizontalFlip(), "RandomHorizontalFlip()"),
    (lambda t: t.RandomHorizontalFlip(p=0.25), "RandomHorizontalFlip(p=0.25)"),
    (lambda t: t.RandomVerticalFlip(1), "RandomVerticalFlip(p=1.0)"),
    (lambda t: t.RandomRotation(15), "RandomRotation(degrees=[-15.0, 15.0])"),
    (
        lambda t: t.RandomRotation((0, 30), InterpolationMode.BILINEAR, center=[3, 4], fill=128),
        "RandomRotation(degrees=[0.0, 30.0], interpolation=bilinear, center=[3.0, 4.0], fill=[128.0, 128.0, 128.0])",
    ),
    (
        lambda t: t.RandomAffine(5, translate=(0.1, 0.2), scale=(0.9, 1.1), shear=3),
        "RandomAffine(degrees=[-5.0, 5.0], translate=[0.1, 0.2], scale=[0.9, 1.1], shear=[-3.0, 3.0, 0.0, 0.0])",
    ),
    (lambda t: t.RandomAffine(0, shear=(1, 2, 3, 4)), "RandomAffine(degrees=[0.0, 0.0], shear=[1.0, 2.0, 3.0, 4.0])"),
]


COLOURS = [
    (
        lambda t: t.ColorJitter(0.4, (0.5, 2), hue=0.1),
        "ColorJitter(brightness=[0.6, 1.4], contrast=[0.5, 2.0], hue=[-0.1, 0.1])",
    ),
    (lambda t: t.Grayscale(3), "Grayscale()"),
    (lambda t: t.RandomGrayscale(), "RandomGrayscale()"),
    (lambda t: t.RandomInvert(0.3), "RandomInvert(p=0.3)"),
    (lambda t: t.RandomSolarize(128), "RandomSolarize(threshold=128.0)"),
    (lambda t: t.RandomPosterize(3), "RandomPosterize(bits=3)"),
    (lambda t: t.RandomAutocontrast(), "RandomAutocontrast()"),
    (lambda t: t.RandomEqualize(), "RandomEqualize()"),
    (lambda t: t.RandomAdjustSharpness(2), "RandomAdjustSharpness(sharpness_factor=2.0)"),
    (lambda t: t.GaussianBlur(5), "GaussianBlur(kernel_size=[5, 5])"),
    (lambda t: t.GaussianBlur((3, 5), 1.5), "GaussianBlur(kernel_size=[3, 5], sigma=[1.5, 1.5])"),
    (lambda t: t.RandomPerspective(0.3), "RandomPerspective(distortion_scale=0.3)"),
    (lambda t: t.Pad(4), "Pad(padding=[4, 4, 4, 4])"),
    (lambda t: t.Pad((1, 2, 3, 4), fill=7), "Pad(padding=[1, 2, 3, 4], fill=[7.0, 7.0, 7.0])"),
    (lambda t: t.RandAugment(magnitude=5), "RandAugment(magnitude=5)"),
    (lambda t: t.TrivialAugmentWide(), "TrivialAugmentWide()"),
    (lambda t: t.AutoAugment(fill=[1, 2, 3]), "AutoAugment(fill=[1.0, 2.0, 3.0])"),
]


@pytest.mark.parametrize("api", [v1, v2], ids=["v1", "v2"])
@pytest.mark.parametrize(("make", "expected"), COLOURS)
def test_colours_and_policies_are_copied_with_their_arguments(api, make, expected):
    compose = api.Compose([make(api), api.CenterCrop(9), to_float(api)])
    assert texts(compose) == [expected, "CenterCrop(size=[9, 9])", FLOAT]


@pytest.mark.parametrize("api", [v1, v2], ids=["v1", "v2"])
@pytest.mark.parametrize(("make", "expected"), ONE_OP)
def test_an_op_that_fixes_the_size_is_copied_with_its_arguments(api, make, expected):
    assert texts(api.Compose([make(api), to_float(api)])) == [expected, FLOAT]


@pytest.mark.parametrize("api", [v1, v2], ids=["v1", "v2"])
@pytest.mark.parametrize(("make", "expected"), SIZE_KEPT)
def test_an_op_that_keeps_the_size_is_copied_with_its_arguments(api, make, expected):
    transform = api.Compose([api.CenterCrop(9), make(api), to_float(api)])
    assert texts(transform) == ["CenterCrop(size=[9, 9])", expected, FLOAT]


ERASING = "RandomErasing(scale=[0.02, 0.4], value=[{0}, {0}, {0}])"


@pytest.mark.parametrize("api", [v1, v2], ids=["v1", "v2"])
def test_erasing_stays_where_it_is(api):
    def erase(value):
        return api.RandomErasing(scale=(0.02, 0.4), value=value)

    normal = f"Normalize(mean={list(MEAN)}, std={list(STD)})"
    crop, convert, normalize = api.CenterCrop(9), to_float(api), api.Normalize(MEAN, STD)
    after, before, levels = ERASING.format(0.5), ERASING.format(0.25), ERASING.format(7.0)
    window = "CenterCrop(size=[9, 9])"
    assert texts(api.Compose([crop, convert, normalize, erase(0.5)])) == [window, normal, after]
    assert texts(api.Compose([crop, convert, erase(0.25), normalize])) == [window, FLOAT, before, normal]
    assert texts(api.Compose([crop, api.PILToTensor(), erase(7), api.ConvertImageDtype(torch.float32)])) == [
        window,
        levels,
        FLOAT,
    ]


@pytest.mark.parametrize(
    ("steps", "message"),
    [
        ([v1.RandomErasing(), v1.ToTensor()], "must get a tensor, got a PIL image"),
        ([v1.ToTensor(), v1.RandomErasing(value="random")], "would not be the same on every backend"),
        ([v1.ToTensor(), v1.RandomErasing(), v1.RandomHorizontalFlip()], "must come before RandomErasing"),
    ],
)
def test_an_erasing_that_cannot_be_translated_is_refused(steps, message):
    with pytest.raises(RecipeError, match=message):
        Recipe.from_torchvision(v1.Compose([v1.CenterCrop(9), *steps]))


def nested(op):
    inner = ", ".join(nested(child) for child in op.ops) if isinstance(op, ops.Container) else ""
    arguments = {name: value for name, value in op.arguments().items() if name != "ops"}
    return f"{op.op}({inner}{arguments or ''})"


@pytest.mark.parametrize("api", [v1, v2], ids=["v1", "v2"])
def test_containers_are_translated_with_what_they_hold(api):
    flip, turn = api.RandomHorizontalFlip(p=0.25), api.RandomRotation(9)
    apply = api.RandomApply([api.Compose([flip, turn])], p=0.3)
    choice = api.RandomChoice([turn, apply, api.Compose([flip, turn])], p=[1, 2, 1])
    recipe = Recipe.from_torchvision(api.Compose([api.CenterCrop(9), apply, choice, to_float(api)]))
    turned = "RandomRotation({'degrees': [-9.0, 9.0]})"
    both = "RandomHorizontalFlip({'p': 0.25}), " + turned
    weights = [1.0, 2.0, 1.0] if api is v1 else [0.25, 0.5, 0.25]
    assert [nested(op) for op in recipe.ops[1:3]] == [
        f"RandomApply({both}{{'p': 0.3}})",
        f"RandomChoice({turned}, RandomApply({both}{{'p': 0.3}}), RandomApply({both}{{'p': 1.0}}){{'p': {weights}}})",
    ]
    even = Recipe.from_torchvision(api.Compose([api.CenterCrop(9), api.RandomChoice([flip, turn]), to_float(api)]))
    assert even.ops[1].p is None


@pytest.mark.parametrize(
    ("part", "message"),
    [
        (v1.RandomApply([v1.ToTensor()]), r"transforms\[1\].transforms\[0\].*may hold what keeps levels levels"),
        (
            v1.RandomApply([v1.LinearTransformation(torch.eye(3), torch.zeros(3))]),
            "LinearTransformation can't be translated",
        ),
        (v2.RandomChoice([v2.Identity(), v2.RandomHorizontalFlip()]), "must do something"),
    ],
)
def test_what_a_container_cannot_hold_is_refused(part, message):
    with pytest.raises(RecipeError, match=message):
        Recipe.from_torchvision(v1.Compose([v1.CenterCrop(9), part, v1.ToTensor()]))


def test_every_op_that_works_on_pixels_is_in_the_table():
    assert {name for name, model in OPS.items() if model.stage == "pixels"} <= set(TABLE)
    assert set(OPS) >= MOVABLE


CONVERSIONS = [
    ([v1.ToTensor()], [FLOAT]),
    ([v1.PILToTensor()], []),
    ([v2.ToImage()], []),
    ([v2.PILToTensor(), v2.ToPureTensor()], []),
    ([v1.PILToTensor(), v1.ConvertImageDtype(torch.float32)], [FLOAT]),
    ([v2.ToImage(), v2.ConvertImageDtype(torch.float32)], [FLOAT]),
    ([v2.ToImage(), v2.ToDtype(torch.float32, scale=True)], [FLOAT]),
    ([v2.ToImage(), v2.ToDtype(torch.float32)], ["ToDtype()"]),
    ([v2.ToImage(), v2.ToDtype(torch.uint8, scale=True)], []),
    ([v1.ToTensor(), v2.ToDtype(torch.float32, scale=True)], [FLOAT]),
    ([v1.ToTensor(), v1.ToPILImage(), v1.PILToTensor()], []),
    ([v2.RGB(), v2.Identity(), nn.Identity(), v1.ToTensor()], [FLOAT]),
    ([v1.ToTensor(), v1.Normalize(MEAN, STD)], [f"Normalize(mean={list(MEAN)}, std={list(STD)})"]),
    (
        [v1.ToTensor(), v1.Normalize((0.1307,), (0.3081,), inplace=True)],
        ["Normalize(mean=[0.1307, 0.1307, 0.1307], std=[0.3081, 0.3081, 0.3081])"],
    ),
    (
        [v1.ToTensor(), v2.Normalize(torch.tensor([0.5, 0.25, 0.75]), np.array([1.0, 2.0, 0.5]))],
        ["Normalize(mean=[0.5, 0.25, 0.75], std=[1.0, 2.0, 0.5])"],
    ),
    (
        [v2.ToImage(), v2.ToDtype(torch.float32), v2.Normalize([127.0], [64.0])],
        ["ToDtype()", "Normalize(mean=[127.0, 127.0, 127.0], std=[64.0, 64.0, 64.0])"],
    ),
]


@pytest.mark.parametrize(("steps", "expected"), CONVERSIONS)
def test_conversions(steps, expected):
    assert texts(v1.Compose([v1.CenterCrop(9), *steps])) == ["CenterCrop(size=[9, 9])", *expected]


def test_the_deprecated_totensor_of_v2_lets_tensors_pass():
    with pytest.warns(UserWarning, match="deprecated"):
        convert = v2.ToTensor()
    assert texts(v2.Compose([convert]), size=(5, 7)) == ["CenterCrop(size=[5, 7])", FLOAT]
    assert texts(v2.Compose([v2.ToImage(), convert]), size=(5, 7)) == ["CenterCrop(size=[5, 7])"]


def test_what_follows_the_conversion_is_moved_before_it():
    transform = v1.Compose(
        [v1.ToTensor(), v1.RandomCrop(9, padding=1), v1.Normalize(MEAN, STD), v1.RandomHorizontalFlip()]
    )
    assert texts(transform) == [
        "RandomCrop(size=[9, 9], padding=[1, 1, 1, 1])",
        "RandomHorizontalFlip()",
        f"Normalize(mean={list(MEAN)}, std={list(STD)})",
    ]


@pytest.mark.parametrize(
    ("before", "fill", "level"),
    [
        ([], 128, 128),
        ([v1.PILToTensor()], 128, 128),
        ([v1.ToTensor()], 0.5, 128),
        ([v1.ToTensor(), v1.Normalize(0.5, 0.25)], 0, 128),
        ([v1.ToTensor(), v1.Normalize(0.5, 0.25)], -2.0, 0),
        ([v2.ToImage(), v2.ToDtype(torch.float32)], 40, 40),
    ],
)
def test_fill_becomes_a_level(before, fill, level):
    (op, *_) = ops_of(v1.Compose([*before, v2.RandomCrop(9, padding=1, fill=fill), v2.ToImage()]))
    assert op.fill == (level,) * 3


def test_antialias_counts_on_tensors_alone():
    for value in (False, None, True):
        resize = v2.Resize((7, 9), antialias=value)
        assert ops_of(v2.Compose([resize, v2.ToImage()]))[0].antialias is True
        assert ops_of(v2.Compose([v2.ToImage(), resize]))[0].antialias is bool(value)


def test_nested_compositions_are_one_list():
    inner = v2.Compose([v2.RandomHorizontalFlip(), nn.Sequential(v2.RandomVerticalFlip(), v2.Compose([v2.ToImage()]))])
    assert texts(v1.Compose([v1.CenterCrop(9), inner])) == [
        "CenterCrop(size=[9, 9])",
        "RandomHorizontalFlip()",
        "RandomVerticalFlip()",
    ]
    assert texts(v1.ToTensor(), size=(5, 7)) == ["CenterCrop(size=[5, 7])", FLOAT]


def test_the_transforms_of_weights():
    transform = presets.ImageClassification(crop_size=224, resize_size=232, antialias=False)
    expected = ["Resize(size=232)", "CenterCrop(size=[224, 224])", f"Normalize(mean={list(MEAN)}, std={list(STD)})"]
    assert texts(transform) == expected
    assert texts(v1.Compose([transform])) == expected
    bicubic = presets.ImageClassification(crop_size=224, interpolation=InterpolationMode.BICUBIC)
    assert texts(bicubic)[0] == "Resize(size=256, interpolation=bicubic)"
    with pytest.raises(RecipeError, match=r"transform \(Resize\): interpolation.*got 'lanczos'"):
        ops_of(presets.ImageClassification(crop_size=224, interpolation=InterpolationMode.LANCZOS))


def test_a_known_size_is_written_down():
    steps = v1.Compose([v1.Resize(10), v1.ToTensor(), v1.Normalize(MEAN, STD)])
    with pytest.raises(RecipeError, match=r"^from_torchvision: the output is \? x \? x 3 float32, so images of"):
        Recipe.from_torchvision(steps)
    recipe = Recipe.from_torchvision(steps, "mine", size=(20, 31))
    assert recipe.name == "mine"
    assert [op.op for op in recipe.ops] == ["Resize", "CenterCrop", "Normalize"]
    assert recipe.output_shape == (3, 10, 15)
    cifar = v1.Compose([v1.RandomCrop(32, padding=4), v1.ToTensor()])
    assert Recipe.from_torchvision(cifar).ops == Recipe.from_torchvision(cifar, size=(32, 32)).ops
    with pytest.raises(RecipeError, match="from_torchvision: op 1: CenterCrop: size 40 exceeds the incoming height"):
        Recipe.from_torchvision(v1.Compose([v1.CenterCrop(40), v1.ToTensor()]), size=(32, 32))


class MyFlip(v1.RandomHorizontalFlip):
    pass


def sharpen(image):
    return image


TO = v1.ToTensor()
REFUSED = [
    (
        [v1.Lambda(sharpen), TO],
        r"transforms\[0\]: Lambda can't be translated\. There are: .*RandomResizedCrop.*recipe=",
    ),
    ([TO, v1.Compose([v1.Lambda(sharpen)])], r"transforms\[1\]\.transforms\[0\]: Lambda can't"),
    (
        [TO, nn.Sequential(v2.RandomVerticalFlip(), v2.ElasticTransform())],
        r"transforms\[1\]\[1\]: ElasticTransform can't",
    ),
    ([sharpen, TO], r"transforms\[0\]: sharpen, which is none of torchvision's own, can't be translated"),
    ([MyFlip(), TO], r"transforms\[0\]: .*MyFlip, which is none of torchvision's own, can't be translated"),
    ([v1.RandomOrder([v1.RandomVerticalFlip()]), TO], "RandomOrder can't be translated"),
    ([v1.FiveCrop(3), TO], r"FiveCrop makes five images of one.* Use CenterCrop"),
    ([v2.TenCrop(3), TO], r"TenCrop makes ten images of one.* Use CenterCrop"),
    ([v2.AugMix(), TO], r"AugMix blends several chains"),
    ([v2.MixUp(num_classes=2), TO], r"MixUp mixes a batch.* Use dalipipe.MixUp"),
    ([nn.Dropout(), TO], "Dropout can't be translated"),
    ([v1.Resize((7, 7), InterpolationMode.LANCZOS), TO], r"transforms\[0\] \(Resize\): interpolation.*got 'lanczos'"),
    ([v2.Resize((7, 7), 1), TO], r"\(Resize\): interpolation.*got 'lanczos'"),
    ([v2.PILToTensor(), v2.Resize((7, 7), 3, antialias=False)], r"\(Resize\): bicubic needs antialias = true"),
    ([v2.Resize(None, max_size=9), TO], r"\(Resize\): size"),
    ([v1.RandomRotation(9, expand=True), TO], r"transforms\[0\] \(RandomRotation\): expand must be False, got True"),
    ([v1.RandomCrop(7, padding=1, padding_mode="reflect"), TO], "padding_mode must be 'constant', got 'reflect'"),
    ([v2.RandomCrop(7, padding=1, fill={"others": 3}), TO], r"fill must be one number or three, got \{'others': 3\}"),
    ([v1.CenterCrop(7)], r"must end in a tensor, got a PIL image after CenterCrop\. Add ToTensor\(\)"),
    ([], r"must end in a tensor, got a PIL image after no transform at all"),
    ([TO, v1.ToPILImage()], "must end in a tensor, got a PIL image after ToTensor, ToPILImage"),
    ([TO, v1.Resize((7, 9)), v1.ToPILImage(), TO], r"\(ToPILImage\): must get whole levels, got floats"),
    ([v1.PILToTensor(), v1.ToPILImage("L"), TO], r"\(ToPILImage\): mode must be None or 'RGB', got 'L'"),
    ([v1.Normalize(MEAN, STD)], r"transforms\[0\] \(Normalize\): must get floats, got a PIL image"),
    ([v1.PILToTensor(), v1.Normalize(MEAN, STD)], r"\(Normalize\): must get floats, got a uint8 tensor"),
    ([TO, v1.Normalize(0.5, 0.5), v1.Normalize(0.5, 0.5)], r"transforms\[2\] \(Normalize\): must come once"),
    ([TO, v1.Normalize((1, 2), (1, 2))], r"transforms\[1\] \(Normalize\): mean"),
    ([TO, v1.Normalize(MEAN, STD), v1.CenterCrop(7)], r"\(CenterCrop\): must come before Normalize"),
    ([TO, TO], r"transforms\[1\] \(ToTensor\): must get a PIL image, got a tensor"),
    ([TO, v1.PILToTensor()], r"transforms\[1\] \(PILToTensor\): must get a PIL image, got a tensor"),
    ([v2.ToDtype(torch.float32, scale=True), v2.ToImage()], r"\(ToDtype\): must get a tensor, got a PIL image"),
    ([v2.ToImage(), v2.ToDtype(torch.float16)], r"dtype must be torch\.float32, got torch\.float16"),
    ([TO, v2.ToDtype(torch.uint8, scale=True)], r"\(ToDtype\): dtype must be torch\.float32 once pixels are floats"),
]


@pytest.mark.parametrize(("steps", "message"), REFUSED)
def test_what_cannot_be_translated_says_what_and_where(steps, message):
    with pytest.raises(RecipeError, match=message) as caught:
        Recipe.from_torchvision(v1.Compose(steps))
    assert str(caught.value).startswith("from_torchvision: ")
    assert str(caught.value).endswith(".")


def test_timms_transforms_become_the_same_ops():
    create = pytest.importorskip("timm.data").create_transform
    crop, flip, jitter, normalize = ops_of(create(24, is_training=True, auto_augment=None, interpolation="bicubic"))
    assert (crop.op, crop.size, crop.interpolation) == ("RandomResizedCrop", (24, 24), "bicubic")
    assert (flip.op, jitter.op, normalize.op) == ("RandomHorizontalFlip", "ColorJitter", "Normalize")
    assert [op.op for op in ops_of(create(24, is_training=False))] == ["Resize", "CenterCrop", "Normalize"]
    drawn, *_ = ops_of(create(24, is_training=True, interpolation="random"))
    assert sorted(op.interpolation for op in drawn.ops) == ["bicubic", "bilinear"]
