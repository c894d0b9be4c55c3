"""Several processes that train one network together, as torchrun starts them, and what they tell each other.

What all must know is summed, gathered or sent by rank 0, so that every process takes the same decisions; only rank 0
writes.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import AbstractContextManager, contextmanager, nullcontext
from types import MethodType
from typing import Any, TypeVar

import torch
from torch import Tensor, distributed, nn
from torch._C._distributed_c10d import PrefixStore
from torch.distributed.rendezvous import rendezvous
from torch.nn.modules.batchnorm import _BatchNorm
from torch.nn.parallel import DistributedDataParallel

from dalipipe.errors import ConfigError, DalipipeError, PeerError
from dalipipe.training.config import TrainConfig
from dalipipe.training.launch import Launch

_CLOSED = ("Connection closed by peer", "Connection reset by peer", "Broken pipe", "Socket closed", "NCCL error")

Value = TypeVar("Value")


class Processes(Launch):
    """This process and what it exchanges with the others; alone, every exchange is with itself."""

    def device_name(self, wanted: str) -> str:
        """Return the device of this process: its own GPU where `wanted` leaves that open."""
        is_open = wanted == "cuda" or (wanted == "auto" and torch.cuda.is_available())
        return f"cuda:{self.local_rank}" if self.size > 1 and is_open else wanted

    def seed(self, seed: int) -> None:
        """Seed torch's generators such that every process draws other numbers, rank 0 those of a process alone."""
        torch.manual_seed((seed + self.rank * 0x9E3779B97F4A7C15) % 2**63)

    @contextmanager
    def joined(self, device: torch.device) -> Iterator[None]:
        """Form a group with the others: gloo on the CPU, NCCL for GPUs.

        Raises:
            PeerError: another process has ended.
        """
        if self.size == 1:
            yield
            return
        try:
            with self._group(device):
                yield
        except RuntimeError as error:
            if isinstance(error, DalipipeError) or not any(words in str(error) for words in _CLOSED):
                raise
            raise PeerError(
                f"rank {self.rank}: every process must go on, got an end of another one. Its own message says why."
            ) from error

    @contextmanager
    def _group(self, device: torch.device) -> Iterator[None]:
        if distributed.is_initialized():
            yield
            return
        if device.type == "cuda":
            torch.cuda.set_device(device)
        # After a restart the store may still hold the addresses of processes that have ended.
        store, rank, size = next(rendezvous("env://"))
        store = PrefixStore(f"restart {self.restarts}", store)
        # Tensors of the CPU, such as counts and pickled objects, always travel by gloo.
        backend = "cpu:gloo,cuda:nccl" if device.type == "cuda" else "gloo"
        distributed.init_process_group(backend, store=store, rank=rank, world_size=size)
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

    def from_first(self, make: Callable[[], Value]) -> Value:
        """Return what a function returns on rank 0, where alone it is called, on every process.

        Raises:
            DalipipeError: the function raised it; every process does.
        """
        if self.size == 1:
            return make()
        sent: list[Any] = [None, None]
        if self.is_first:
            try:
                sent[0] = make()
            except DalipipeError as error:
                sent[1] = error
        distributed.broadcast_object_list(sent, src=0)
        if sent[1] is not None:
            raise sent[1]
        found: Value = sent[0]
        return found

    def together(self, make: Callable[[], Value]) -> Value:
        """Return what a function returns, once it has returned on every process.

        Raises:
            DalipipeError: the function raised it here.
            ConfigError: it raised a DalipipeError elsewhere; the message names the process.
        """
        if self.size == 1:
            return make()
        made: list[Value] = []
        problem: DalipipeError | None = None
        try:
            made.append(make())
        except DalipipeError as error:
            problem = error
        told = self.gathered(None if problem is None else str(problem))
        well = [rank for rank, text in enumerate(told) if text is None]
        if problem is not None:
            if well:
                problem.add_note(f"This is of rank {self.rank}; rank {well[0]} has no such problem.")
            raise problem
        for rank, text in enumerate(told):
            if text is not None:
                raise ConfigError(f"rank {rank}: {text} Rank {self.rank} has no such problem.")
        return made[0]

    def require_same(self, what: Mapping[str, str]) -> None:
        """Refuse to go on where the processes differ in something.

        Args:
            what: What this process has, by name.

        Raises:
            ConfigError: another has something else; both sides are named.
        """
        if self.size == 1:
            return
        first, *others = self.gathered(dict(what))
        for rank, other in enumerate(others, 1):
            for name in {**first, **other}:
                wanted, got = first.get(name, "none"), other.get(name, "none")
                if wanted != got:
                    raise ConfigError(
                        f"rank {rank}: the {name} must be the same as on rank 0, {wanted}, got {got}. "
                        "Give every process the same data and options."
                    )

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


def check_launch(cfg: TrainConfig, processes: Processes) -> TrainConfig:
    """Return the options under which a run goes on: it is resumed where torchrun has started it anew.

    Raises:
        ConfigError: options that several processes can't share.
    """
    if processes.size == 1:
        return cfg
    if "output" not in cfg.model_fields_set:
        raise ConfigError(
            "--output: must be given with torchrun, since all processes must have the same, got none. "
            "Add --output runs/NAME."
        )
    if cfg.batch_size % processes.size:
        near = processes.size * max(1, round(cfg.batch_size / processes.size))
        raise ConfigError(
            f"--batch-size: must be a multiple of the {processes.size} processes that share it, "
            f"got {cfg.batch_size}. Use {near}."
        )
    if cfg.on_error == "skip":
        raise ConfigError("--on-error: must keep batches equally large with torchrun, got skip. Use substitute.")
    return cfg.model_copy(update={"resume": cfg.resume or processes.restarts > 0})


_OWN_OPTIONS = ("data", "recipe", "weights", "threads", "device")
"""Options that may differ between machines. What comes of the first three is compared."""


def shared_options(cfg: TrainConfig) -> dict[str, str]:
    """Return the options that must be the same on every process, by name as `Processes.require_same` takes them."""
    return {f"option {name}": str(value) for name, value in cfg.plain().items() if name not in _OWN_OPTIONS}


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
