"""Several processes that train one network together, as torchrun starts them, and what they tell each other.

What all must know is summed, gathered or sent by rank 0, so that every process takes the same decisions; only rank 0
writes.
"""

from __future__ import annotations

import os
from collections.abc import Iterator, Sequence
from contextlib import AbstractContextManager, contextmanager, nullcontext
from dataclasses import dataclass
from types import MethodType
from typing import Any, Final, TypeVar

import torch
from torch import Tensor, distributed, nn
from torch.nn.modules.batchnorm import _BatchNorm
from torch.nn.parallel import DistributedDataParallel

from dalipipe.errors import ConfigError

_RANK, _SIZE, _LOCAL = "RANK", "WORLD_SIZE", "LOCAL_RANK"
_RESTARTS: Final = "TORCHELASTIC_RESTART_COUNT"

Value = TypeVar("Value")


@dataclass(frozen=True)
class Processes:
    """This process among those that train together; alone by default, when every exchange is with itself.

    Attributes:
        rank: Of this process, from 0.
        size: Number of processes.
        local_rank: Of this process among those on its machine: the number of its GPU.
        restarts: How often torchrun has started all of them anew.
    """

    rank: int = 0
    size: int = 1
    local_rank: int = 0
    restarts: int = 0

    @classmethod
    def from_environment(cls) -> Processes:
        """Return what torchrun has put into the environment.

        Raises:
            ConfigError: a part of it is missing or is no number.
        """
        if _SIZE not in os.environ or _RANK not in os.environ:
            return cls()
        try:
            rank, size = int(os.environ[_RANK]), int(os.environ[_SIZE])
            return cls(rank, size, int(os.environ.get(_LOCAL, rank)), int(os.environ.get(_RESTARTS, 0)))
        except ValueError as error:
            raise ConfigError(
                f"{_RANK}, {_SIZE}: must be whole numbers in the environment, got {os.environ[_RANK]!r} and "
                f"{os.environ[_SIZE]!r}. Start with torchrun, or unset them."
            ) from error

    @property
    def is_first(self) -> bool:
        """Whether this process is the one that writes and speaks."""
        return self.rank == 0

    def device_name(self, wanted: str) -> str:
        """Return the device of this process: its own GPU where `wanted` leaves that open."""
        is_open = wanted == "cuda" or (wanted == "auto" and torch.cuda.is_available())
        return f"cuda:{self.local_rank}" if self.size > 1 and is_open else wanted

    @contextmanager
    def joined(self, device: torch.device) -> Iterator[None]:
        """Form a group with the others: gloo on the CPU, NCCL for GPUs. A group that is there already is used."""
        if self.size == 1 or distributed.is_initialized():
            yield
            return
        if device.type == "cuda":
            torch.cuda.set_device(device)
        # Tensors of the CPU, such as counts and pickled objects, always travel by gloo.
        distributed.init_process_group("cpu:gloo,cuda:nccl" if device.type == "cuda" else "gloo")
        try:
            yield
        finally:
            distributed.destroy_process_group()

    def total(self, values: Sequence[float]) -> list[float]:
        """Return the sums of some numbers over all processes, in float64."""
        return self._reduced(values, distributed.ReduceOp.SUM) if self.size > 1 else list(values)

    def greatest(self, values: Sequence[float]) -> list[float]:
        """Return the greatest of some numbers over all processes."""
        return self._reduced(values, distributed.ReduceOp.MAX) if self.size > 1 else list(values)

    def _reduced(self, values: Sequence[float], operation: Any) -> list[float]:
        numbers = torch.tensor(values, dtype=torch.float64)
        distributed.all_reduce(numbers, operation)
        found: list[float] = numbers.tolist()
        return found

    def gathered(self, value: Value) -> list[Value]:
        """Return what each process has, by rank, on every process."""
        if self.size == 1:
            return [value]
        values: list[Any] = [None] * self.size
        distributed.all_gather_object(values, value)
        return values

    def from_first(self, value: Value) -> Value:
        """Return what rank 0 has, on every process."""
        if self.size == 1:
            return value
        sent: list[Any] = [value]
        distributed.broadcast_object_list(sent, src=0)
        found: Value = sent[0]
        return found

    def wrapped(self, model: nn.Module) -> nn.Module:
        """Return a module whose gradients are the mean over all processes; the model itself where there is only one."""
        if self.size == 1 or not any(parameter.requires_grad for parameter in model.parameters()):
            return model
        device = next(model.parameters()).device
        return DistributedDataParallel(model, device_ids=[device] if device.type == "cuda" else None)

    def gathering(self, forward: object) -> AbstractContextManager[Any]:
        """Return a context in which gradients stay with each process, as before a step of several batches."""
        return forward.no_sync() if isinstance(forward, DistributedDataParallel) else nullcontext()

    def synchronised(self, model: nn.Module) -> nn.Module:
        """Return a model whose batch norm in training takes mean and variance of the batches of all processes.

        Its parameters, buffers and their names stay what they are.
        """
        if self.size == 1:
            return model
        if next(model.parameters()).device.type == "cuda":
            converted: nn.Module = nn.SyncBatchNorm.convert_sync_batchnorm(model)
            return converted
        for module in model.modules():
            if isinstance(module, _BatchNorm):
                module.forward = MethodType(_normalise_over_processes, module)  # type: ignore[method-assign]
        return model


class _Sum(torch.autograd.Function):
    """The sum over all processes, whose gradient is the sum of theirs."""

    @staticmethod
    def forward(ctx: Any, values: Tensor) -> Tensor:
        summed = values.clone()
        distributed.all_reduce(summed)
        return summed

    @staticmethod
    def backward(ctx: Any, *gradients: Tensor) -> Tensor:
        summed = gradients[0].contiguous().clone()
        distributed.all_reduce(summed)
        return summed


def _normalise_over_processes(norm: _BatchNorm, images: Tensor) -> Tensor:
    """Return what batch norm does, in training with the statistics of all processes' batches.

    torch.nn.SyncBatchNorm does this on GPUs only.
    """
    if not norm.training:
        return type(norm).forward(norm, images)
    axes = [axis for axis in range(images.ndim) if axis != 1]
    shape = [1, -1, *[1] * (images.ndim - 2)]
    count = images.new_tensor([images.numel() / images.shape[1]])
    sums = _Sum.apply(torch.cat([images.sum(axes), count]))
    total = sums[-1].detach()
    mean = sums[:-1] / total
    centred = images - mean.view(shape)
    variance = _Sum.apply((centred * centred).sum(axes)) / total
    if norm.track_running_stats and norm.running_mean is not None and norm.running_var is not None:
        assert norm.num_batches_tracked is not None
        norm.num_batches_tracked.add_(1)
        momentum = norm.momentum if norm.momentum is not None else 1.0 / float(norm.num_batches_tracked)
        with torch.no_grad():
            norm.running_mean.lerp_(mean.detach(), momentum)
            norm.running_var.lerp_(variance.detach() * (total / (total - 1)), momentum)
    normed: Tensor = centred * torch.rsqrt(variance + norm.eps).view(shape)
    if norm.affine:
        normed = normed * norm.weight.view(shape) + norm.bias.view(shape)
    return normed
