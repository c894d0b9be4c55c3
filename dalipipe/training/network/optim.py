"""The optimizer, the course of its learning rate, and the moving average of the weights."""

import math
from collections.abc import Sequence
from typing import Any

from torch import Tensor, nn
from torch.optim import SGD, AdamW, Optimizer
from torch.optim.lr_scheduler import LambdaLR
from torch.optim.swa_utils import AveragedModel, get_ema_multi_avg_fn

from dalipipe.training.network.blocks import Blocks, parameter_groups
from dalipipe.training.options import OptimizerOptions

_BETA_2 = 0.999  # AdamW's, torch's default


def make_optimizer(model: nn.Module, blocks: Blocks, cfg: OptimizerOptions) -> Optimizer:
    """Return the optimizer of all parameters, those that are frozen for now included."""
    groups: list[Any] = parameter_groups(model, blocks, cfg)
    if cfg.optimizer == "adamw":
        return AdamW(groups, cfg.lr, betas=(cfg.momentum, _BETA_2))
    return SGD(groups, cfg.lr, momentum=cfg.momentum, nesterov=cfg.nesterov and cfg.momentum > 0)


def make_schedule(optimizer: Optimizer, cfg: OptimizerOptions, steps_per_epoch: int) -> LambdaLR:
    """Return the schedule, which goes on by one with each step of the optimizer."""
    return LambdaLR(optimizer, lambda step: rate(cfg, step / max(1, steps_per_epoch), 1 / max(1, steps_per_epoch)))


def rate(cfg: OptimizerOptions, epochs: float, step: float) -> float:
    """Return what part of the learning rate holds.

    Args:
        cfg: `schedule`, `warmup_epochs`, `epochs`, `step_epochs` and `step_factor`.
        epochs: Done so far, a fraction within an epoch.
        step: Epochs that a step takes: the warm-up ends, and its first step is not 0.
    """
    if epochs < cfg.warmup_epochs:
        return min(1.0, (epochs + step) / cfg.warmup_epochs)
    if cfg.schedule == "constant":
        return 1.0
    if cfg.schedule == "step":
        return float(cfg.step_factor ** int(epochs / cfg.step_epochs + 1e-9))
    done = (epochs - cfg.warmup_epochs) / max(cfg.epochs - cfg.warmup_epochs, step)
    return 0.5 * (1 + math.cos(math.pi * min(1.0, done)))


def make_average(model: nn.Module, decay: float) -> AveragedModel:
    """Return a moving average of the weights and of batch norm's statistics.

    Its first steps forget faster, so that a short run is not left with its beginnings: step n keeps at most
    (1 + n) / (10 + n). Source: torch.optim.swa_utils; the warm-up is tf.train.ExponentialMovingAverage's.
    """

    def average(averaged: Sequence[Tensor], current: Sequence[Tensor], steps: Tensor | int) -> None:
        count = int(steps)
        get_ema_multi_avg_fn(min(decay, (1 + count) / (10 + count)))(averaged, current, steps)

    return AveragedModel(model, multi_avg_fn=average, use_buffers=True)
