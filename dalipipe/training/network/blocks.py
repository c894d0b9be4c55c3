"""A network as a row of blocks and a head: what can be frozen, and what gets a learning rate of its own."""

from __future__ import annotations

import re
from collections.abc import Iterator
from dataclasses import dataclass

import torch
from torch import nn
from torch.nn.modules.batchnorm import _BatchNorm

from dalipipe.errors import ConfigError
from dalipipe.training.options import NetworkOptions, OptimizerOptions

_NORMS = (_BatchNorm, nn.LayerNorm, nn.GroupNorm, nn.LocalResponseNorm)
_POSITIONS = re.compile(r"(pos(ition)?_embed(ding)?s?|bias_table|relative_position_bias|rel_pos_[hw])$")
"""Names of parameters that say where something is: in torchvision, and in networks of timm that name none."""

_CONTAINERS = (nn.Sequential, nn.ModuleList)


@dataclass(frozen=True)
class Blocks:
    """The parts of a network that hold parameters, in order.

    A block is a part in a row of parts: a convolution of a VGG, a residual block of a ResNet, a layer of a transformer.
    A norm belongs to the block before it.

    Attributes:
        backbone: Names of the modules of each block; a name ending in a dot stands for that module's own parameters.
        heads: Names of the modules that turn features into one number per class: one, or two of a distilled network.
    """

    backbone: tuple[tuple[str, ...], ...]
    heads: tuple[str, ...]

    @classmethod
    def of(cls, model: nn.Module, heads: tuple[str, ...]) -> Blocks:
        """Return the blocks of a network whose heads are the modules of those names."""
        total = sum(parameter.numel() for parameter in model.parameters())
        blocks: list[tuple[str, ...]] = []
        loose: tuple[str, ...] = ()  # parameters that stand before the first block, as the tokens of a transformer do
        for name, module in _leaves(model, "", heads, total):
            if module is None:
                loose += (name,)
            elif isinstance(module, _NORMS) and blocks:
                blocks[-1] += (name,)
            else:
                blocks.append((name,))
        if loose:
            blocks = [loose + blocks[0], *blocks[1:]] if blocks else [loose]
        return cls(tuple(blocks), heads)

    def parameters(self, model: nn.Module, block: int) -> Iterator[tuple[str, nn.Parameter]]:
        """Yield the parameters of a block with their names; block -1 is the head, or both.

        Those that several blocks share are of the first.
        """
        own = {name for name, _ in model.named_parameters()}
        for name in self.heads if block == -1 else self.backbone[block]:
            module = model.get_submodule(name.rstrip("."))
            prefix = f"{name.rstrip('.')}." if name.rstrip(".") else ""
            for inner, parameter in module.named_parameters(recurse=not name.endswith(".") and name != ""):
                if prefix + inner in own:
                    yield prefix + inner, parameter

    def still(self, model: nn.Module, frozen: int) -> Iterator[nn.Module]:
        """Yield the modules that compute as in evaluation where the first blocks are frozen.

        That is what is in these blocks, and what learns nothing and stands before the first block that learns: dropout
        between them or behind the last. Where all blocks are frozen, it is all but the head.
        """
        learning = {name.rstrip(".") for block in self.backbone[frozen:] for name in block} | set(self.heads)
        standing = {name for block in self.backbone[:frozen] for name in block if name and not name.endswith(".")}
        only_heads = frozen == len(self.backbone)
        has_begun = False
        for name, module in model.named_modules():
            if _within(name, standing):
                yield module
            elif _within(name, learning):
                has_begun = has_begun or not _within(name, set(self.heads))
            elif not has_begun and (only_heads or not _holds(name, learning)):
                yield module


def _within(name: str, outer: set[str]) -> bool:
    parts = name.split(".")
    return any(".".join(parts[:count]) in outer for count in range(1, len(parts) + 1))


def _holds(name: str, inner: set[str]) -> bool:
    return any(each == name or each.startswith(f"{name}.") or not name for each in inner)


def _leaves(
    module: nn.Module, prefix: str, heads: tuple[str, ...], total: int
) -> Iterator[tuple[str, nn.Module | None]]:
    """Yield the modules that become blocks: rows of modules, and what holds most of the network, are taken apart."""
    if next(module.parameters(recurse=False), None) is not None:
        yield prefix, None  # "" or "name.": the module's own
    for name, child in module.named_children():
        path = prefix + name
        size = sum(parameter.numel() for parameter in child.parameters())
        if path in heads or size == 0:
            continue
        holds_head = any(head.startswith(f"{path}.") for head in heads)
        is_row = isinstance(child, _CONTAINERS) and (not prefix or _is_row(module, total))
        if holds_head or is_row or (size > total / 2 and list(child.children())):
            yield from _leaves(child, f"{path}.", heads, total)
        else:
            yield path, child


def _is_row(module: nn.Module, total: int) -> bool:
    """Return whether a row within this module is one of the network, rather than the inside of a block."""
    return not isinstance(module, _CONTAINERS) and sum(p.numel() for p in module.parameters()) > total / 2


class Freezing:
    """Which blocks stand still in which epoch.

    Args:
        model: The network; its parameters' `requires_grad` is set.
        blocks: Its blocks.
        cfg: `freeze`, `unfreeze_at` and `unfreeze`.

    Raises:
        ConfigError: more blocks are to be frozen than there are.
    """

    def __init__(self, model: nn.Module, blocks: Blocks, cfg: NetworkOptions) -> None:
        self._model, self._blocks, self._cfg = model, blocks, cfg
        self.frozen = 0
        most = len(blocks.backbone)
        self._first = {"none": 0, "backbone": most}.get(cfg.freeze, -1)
        if self._first < 0:
            self._first = int(cfg.freeze)
        if self._first > most:
            raise ConfigError(
                f"--freeze: must be at most the {most} blocks of {cfg.model}, got {cfg.freeze}. Use --freeze backbone."
            )

    def count(self, epoch: int) -> int:
        """Return how many blocks, from the first on, are frozen in an epoch, counted from 1."""
        begin = self._cfg.unfreeze_at
        if begin is None or epoch < begin:
            return self._first
        return 0 if self._cfg.unfreeze == "all" else max(0, self._first - (epoch - begin + 1))

    def begin_epoch(self, epoch: int) -> bool:
        """Freeze and free what is due in an epoch, and return whether that differs from before."""
        before, self.frozen = self.frozen, self.count(epoch)
        for block in range(len(self._blocks.backbone)):
            for _, parameter in self._blocks.parameters(self._model, block):
                parameter.requires_grad_(block >= self.frozen)
        return self.frozen != before

    def train_mode(self) -> None:
        """Put the network into training mode, and what is frozen into evaluation mode.

        There batch norm takes no statistics, and dropout and stochastic depth let everything through.
        """
        self._model.train()
        still = list(self._blocks.still(self._model, self.frozen)) if self.frozen else []
        for module in still:
            module.training = False
        if self._cfg.head == "gap":  # whose dropout is of the new head
            self._model.get_submodule(self._blocks.heads[0].rpartition(".")[0]).train()


def parameter_groups(model: nn.Module, blocks: Blocks, cfg: OptimizerOptions) -> list[dict[str, object]]:
    """Return the optimizer's groups: by block, each with its learning rate.

    Without weight decay are biases, norms, scales and tokens (all that is a vector), position embeddings and tables,
    and what the network itself names: timm's `no_weight_decay()`.

    The head has `lr`, the last block `lr * backbone_lr_factor`, and each block before it `layer_decay` times that of
    the next.
    """
    groups: dict[tuple[float, float], list[torch.nn.Parameter]] = {}
    depth = len(blocks.backbone)
    named: set[str] = getattr(model, "no_weight_decay", set)()
    for block in range(-1, depth):
        factor = 1.0 if block == -1 else cfg.backbone_lr_factor * cfg.layer_decay ** (depth - 1 - block)
        for name, parameter in blocks.parameters(model, block):
            is_vector = parameter.numel() == max(parameter.shape, default=1)
            decays = not (is_vector or name in named or _POSITIONS.search(name) or name.endswith(".bias"))
            key = (cfg.lr * factor, cfg.weight_decay if decays else 0.0)
            groups.setdefault(key, []).append(parameter)
    return [{"params": params, "lr": lr, "weight_decay": decay} for (lr, decay), params in groups.items()]
