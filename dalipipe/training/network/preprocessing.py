"""What images a network's weights were trained on, as their library says, and the recipes that make such images."""

from __future__ import annotations

from dataclasses import dataclass, replace
from typing import Any, Final, get_args

import torchvision

from dalipipe.errors import ConfigError
from dalipipe.recipes import Recipe
from dalipipe.recipes.ops import CenterCrop, Normalize, Op, RandomHorizontalFlip, RandomResizedCrop, Resize
from dalipipe.recipes.ops.sizing import Filter
from dalipipe.training.network.models import TIMM, check_model_name, require_timm

Three = tuple[float, float, float]

_OFF_IN_MEAN: Final = 0.01  # of the range of the levels: 0.485 and 0.48235 are the same images to a network
_OFF_IN_STD: Final = 0.05  # of the standard deviation


@dataclass(frozen=True)
class Preprocessing:
    """What images a network's weights were trained on and measured with.

    Attributes:
        origin: Whose they are, for people: "torchvision's ResNet18_Weights.IMAGENET1K_V1".
        size: (height, width) of the images in px.
        resize: What an image is resized to before that is cropped from its centre, as `Resize` takes it.
        interpolation: Filter of every resize.
        mean: Of the red, green and blue channel, levels counted as 0 to 1.
        std: Standard deviations likewise.
        is_fixed: Whether the network takes images of that size only.
        caveat: How its library measures it otherwise, where recipes have no op for that; empty for nothing.
    """

    origin: str
    size: tuple[int, int]
    resize: int | tuple[int, int]
    interpolation: Filter
    mean: Three
    std: Three
    is_fixed: bool = False
    caveat: str = ""

    def at(self, side: int) -> Preprocessing:
        """Return the same for squares of another size in px, cropped from the same part of an image."""
        height, width = self.size
        if isinstance(self.resize, int):
            return replace(self, size=(side, side), resize=round(self.resize * side / min(height, width)))
        resize = (round(self.resize[0] * side / height), round(self.resize[1] * side / width))
        return replace(self, size=(side, side), resize=resize)

    def training(self, name: str) -> Recipe:
        """Return the recipe to train with: random area and aspect ratio, flip, and this size, filter and range.

        Source: `imagenet-train`, torchvision's references/classification/presets.py, which has these ops.
        """
        ops: tuple[Op, ...] = (
            RandomResizedCrop(size=self.size, interpolation=self.interpolation),
            RandomHorizontalFlip(),
            Normalize(mean=self.mean, std=self.std),
        )
        return Recipe(name=name, description=f"Random crop and flip, as for {self.words}.", ops=ops)

    def evaluation(self, name: str) -> Recipe:
        """Return the recipe to validate with, which does what the library does."""
        ops: tuple[Op, ...] = (Resize(size=self.resize, interpolation=self.interpolation),)
        if self.resize != self.size:
            ops += (CenterCrop(size=self.size),)
        ops += (Normalize(mean=self.mean, std=self.std),)
        return Recipe(name=name, description=f"Central crop, as for {self.words}.", ops=ops)

    @property
    def words(self) -> str:
        """Whose weights they are and how the images are made, for people."""
        height, width = self.size
        return f"{self.origin}: {height} x {width} px, {self.interpolation}"

    def misfit(self, recipe: Recipe) -> str:
        """Return in what a recipe's images differ from these, and what to write in it; empty where they are alike.

        Size, mean and standard deviation are compared, with a margin that no network notices.
        """
        _, *size = recipe.output_shape
        wanted, got, write = [], [], []
        if tuple(size) != self.size:
            wanted.append(f"{self.size[0]} x {self.size[1]} px")
            got.append(f"{size[0]} x {size[1]} px")
            write.append(f"size = {self.size[0] if self.size[0] == self.size[1] else list(self.size)}")
        if recipe.levels is not None and not _alike(recipe.levels, (self.mean, self.std)):
            mean, std = (tuple(value / 255 for value in values) for values in recipe.levels)
            wanted.append(f"mean {_shown(self.mean)} and std {_shown(self.std)}")
            got.append(f"mean {_shown(mean)} and std {_shown(std)}")
            write.append(f"mean = {list(self.mean)}, std = {list(self.std)}")
        if not wanted:
            return ""
        return (
            f"must make images like those that the weights learnt from ({self.origin}: {', '.join(wanted)}), got "
            f"{', '.join(got)} from {recipe.name}. Use --recipe auto, or write in the recipe: {', '.join(write)}."
        )


def _alike(levels: tuple[Three, Three], fractions: tuple[Three, Three]) -> bool:
    pairs = [list(zip(one, other, strict=True)) for one, other in zip(levels, fractions, strict=True)]
    means = all(abs(level / 255 - mean) <= _OFF_IN_MEAN for level, mean in pairs[0])
    return means and all(abs(level / 255 - std) <= _OFF_IN_STD * std for level, std in pairs[1])


def _shown(values: tuple[float, ...]) -> str:
    parts = [f"{value:.3g}" for value in values]
    return parts[0] if len(set(parts)) == 1 else f"({', '.join(parts)})"


def usual_preprocessing(name: str) -> Preprocessing:
    """Return what the library says of the weights that `--weights default` stands for. Nothing is downloaded.

    Args:
        name: Of the network, as `create_model` takes it.

    Raises:
        ConfigError: no such network, or its weights want what recipes don't have.
    """
    check_model_name(name)
    return _of_timm(name) if name.startswith(TIMM) else _of_torchvision(name)


def _of_torchvision(name: str) -> Preprocessing:
    """Source: torchvision.transforms._presets.ImageClassification."""
    weights = torchvision.models.get_model_weights(name).DEFAULT
    made: Any = weights.transforms()
    return Preprocessing(
        origin=f"torchvision's {weights}",
        size=_pair(made.crop_size),
        resize=made.resize_size[0] if len(made.resize_size) == 1 else _pair(made.resize_size),
        interpolation=_filter(name, made.interpolation.value),
        mean=_three(made.mean),
        std=_three(made.std),
        is_fixed=name.startswith(("vit_", "maxvit_")),
    )


def _of_timm(name: str) -> Preprocessing:
    """Source: timm.data.transforms_factory.transforms_imagenet_eval."""
    timm = require_timm()
    found = timm.models.get_pretrained_cfg(name.removeprefix(TIMM))
    told = {} if found is None else found.to_dict()
    made = timm.data.resolve_data_config({"img_size": None}, pretrained_cfg=told)
    size, mode = _pair(made["input_size"][1:]), made["crop_mode"]
    resize = (int(size[0] / made["crop_pct"]), int(size[1] / made["crop_pct"]))
    caveat = ""
    if mode == "border":
        caveat = "timm puts a border around images that are no squares, and here they are stretched"
    elif mode == "center" and size[0] != size[1]:
        caveat = "timm keeps the proportions of an image, and here it is stretched"
    tag = told.get("tag") or ""
    return Preprocessing(
        origin=f"timm's {told.get('architecture') or name.removeprefix(TIMM)}{'.' if tag else ''}{tag}",
        size=size,
        resize=resize[0] if mode == "center" and size[0] == size[1] else resize,
        interpolation=_filter(name, made["interpolation"]),
        mean=_three(made["mean"]),
        std=_three(made["std"]),
        is_fixed=bool(told.get("fixed_input_size")),
        caveat=caveat,
    )


def preprocessing_of(recipe: Recipe, origin: str) -> Preprocessing:
    """Return what a run trained its weights on, from the evaluation recipe in its checkpoint.

    Args:
        recipe: That recipe.
        origin: Whose weights they are, for people.
    """
    _, height, width = recipe.output_shape
    sized = [op for op in recipe.ops if isinstance(op, Resize)]
    mean, std = recipe.levels or ((0.0,) * 3, (255.0,) * 3)
    return Preprocessing(
        origin=origin,
        size=(height, width),
        resize=sized[-1].size if sized else (height, width),
        interpolation=sized[-1].interpolation if sized else "bilinear",
        mean=_three([round(value / 255, 9) for value in mean]),
        std=_three([round(value / 255, 9) for value in std]),
    )


def _filter(name: str, interpolation: str) -> Filter:
    for known in get_args(Filter):
        if known == interpolation:
            found: Filter = known
            return found
    raise ConfigError(
        f"--recipe auto: {name} wants images resized with {interpolation}, and recipes have "
        f"{', '.join(get_args(Filter))}. Give --recipe a file with the nearest of them, bicubic."
    )


def _pair(values: Any) -> tuple[int, int]:
    return int(values[0]), int(values[-1])


def _three(values: Any) -> Three:
    red, green, blue = (float(value) for value in values)
    return red, green, blue
