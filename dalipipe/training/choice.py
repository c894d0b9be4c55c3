"""Which recipes a run trains and validates with: those that are named, or those that its weights were trained with."""

from __future__ import annotations

from pathlib import Path
from typing import Final, NamedTuple

from dalipipe.errors import ConfigError
from dalipipe.recipes import Recipe
from dalipipe.training.config import AUTO, TrainConfig
from dalipipe.training.network.checkpoint import Checkpoint, checked_checkpoint, is_checkpoint, read_tensors
from dalipipe.training.network.preprocessing import Preprocessing, preprocessing_of, usual_preprocessing

_FROM_SCRATCH: Final = "imagenet-train"


class Chosen(NamedTuple):
    """The recipes of a run.

    Attributes:
        train: Of the training images.
        evaluation: Of those that validate it, and of all that the network sees later.
        words: Why it is these, for people; empty where they were named.
        warning: What speaks against them; empty for nothing.
    """

    train: Recipe
    evaluation: Recipe
    words: str = ""
    warning: str = ""


def choose_recipes(cfg: TrainConfig) -> Chosen:
    """Return the recipes that a configuration asks for.

    A recipe that is named is taken, and held against what the weights were trained with, where that is known. With
    `auto`, that is what the recipes are made from: of torchvision's and timm's weights their libraries tell it; a
    checkpoint of dalipipe holds its recipes; other files don't tell, so that what is usual for the network is taken.
    Without weights it is `imagenet-train`.

    Raises:
        DalipipeError: no such recipe, network or file of weights, or the network can't take `cfg.img_size`.
    """
    own = _own_checkpoint(cfg.weights)
    if cfg.recipe != AUTO:
        recipe = Recipe.load(cfg.recipe)
        known = _known(cfg, own)
        misfit = "" if known is None else known.misfit(recipe)
        return Chosen(recipe, recipe.eval_twin(), warning=misfit and f"--recipe {cfg.recipe}: {misfit}")
    if own is not None and cfg.img_size is None:
        return _of_checkpoint(own, cfg.weights)
    usual = usual_preprocessing(cfg.model) if own is None else _of_run(own, cfg.weights)
    if cfg.weights == "none":
        return _from_scratch(cfg, usual)
    chosen = usual if cfg.img_size is None else _resized(cfg, usual)
    name = cfg.model.rpartition("/")[2]
    words = f"as {chosen.words}"
    if cfg.weights != "default" and own is None:
        words = f"{Path(cfg.weights).name} doesn't say what it was trained with, so {words}"
    warning = f"--recipe auto: {chosen.origin}: {chosen.caveat}." if chosen.caveat else ""
    return Chosen(chosen.training(f"{name}-train"), chosen.evaluation(f"{name}-eval"), words, warning)


def _known(cfg: TrainConfig, own: Checkpoint | None) -> Preprocessing | None:
    """Return what the weights were trained with; None where there are none, or nobody says it."""
    if own is not None:
        return _of_run(own, cfg.weights)
    return usual_preprocessing(cfg.model) if cfg.weights == "default" else None


def _own_checkpoint(weights: str) -> Checkpoint | None:
    """Return the checkpoint, where the weights are a file that dalipipe wrote."""
    if weights in ("none", "default") or weights.endswith(".safetensors"):
        return None
    content = read_tensors(Path(weights))
    return checked_checkpoint(Path(weights), content) if is_checkpoint(content) else None


def _of_run(own: Checkpoint, weights: str) -> Preprocessing:
    return preprocessing_of(_read(own.eval_recipe, weights), f"the run of {weights}")


def _read(text: str, weights: str) -> Recipe:
    recipe = Recipe.from_toml(text, where=f"{weights}: recipe")
    return recipe.model_copy(update={"name": f"{recipe.name} of {Path(weights).name}"})


def _of_checkpoint(own: Checkpoint, weights: str) -> Chosen:
    return Chosen(_read(own.recipe, weights), _read(own.eval_recipe, weights), f"those in {weights}")


def _from_scratch(cfg: TrainConfig, usual: Preprocessing) -> Chosen:
    """Return the usual recipes for random weights, in the size that was asked for, or that alone fits the network."""
    recipe = Recipe.load(_FROM_SCRATCH)
    words = "the weights are random"
    own = preprocessing_of(recipe.eval_twin(), recipe.name)
    wanted = usual.size if usual.is_fixed else own.size
    if cfg.img_size is not None:
        _resized(cfg, usual)
        wanted = (cfg.img_size, cfg.img_size)
    if wanted == own.size or wanted[0] != wanted[1]:
        return Chosen(recipe, recipe.eval_twin(), words)
    sized = own.at(wanted[0])
    names = f"{recipe.name}-{wanted[0]}", f"imagenet-eval-{wanted[0]}"
    return Chosen(sized.training(names[0]), sized.evaluation(names[1]), words)


def _resized(cfg: TrainConfig, usual: Preprocessing) -> Preprocessing:
    assert cfg.img_size is not None
    height, width = usual.size
    if usual.is_fixed and (height, width) != (cfg.img_size, cfg.img_size):
        raise ConfigError(
            f"--img-size: {cfg.model} takes images of {height} x {width} px only, got {cfg.img_size}. Leave it out, or "
            "choose a --model for that size."
        )
    return usual.at(cfg.img_size)
