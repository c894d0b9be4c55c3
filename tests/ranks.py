"""Several processes that are started as torchrun starts them, and quickly: forked from one that has imported all.

torchrun itself, and each of its processes, takes seconds to import torch and DALI. Tests of what only torchrun does
(it starts anew what was killed) and of the examples still use it.
"""

import multiprocessing
import multiprocessing.process
import os
import pickle
import tempfile
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import torch.distributed as dist

LIMIT_S = 240

# What takes its time to import; none of it starts a thread.
QUICKLY = [
    "torch.distributed.launcher.api",
    "torchmetrics",
    "torchvision.transforms.v2",
    "dalipipe.training.run.loop",
    "dalipipe.loading.loader",
]
# The process that imports it is started by the first test that needs it, and then stays.
_context = multiprocessing.get_context("forkserver")
_context.set_forkserver_preload(QUICKLY)


def run_ranks(target: Callable[..., Any], world: int, *arguments: Any) -> list[Any]:
    """Return what `target(*arguments)` returns in each of several processes, in torchrun's environment.

    Args:
        target: A function of a module that can be imported; what it does to its process is its own affair.
        world: Number of processes.
        arguments: What can be pickled.

    Raises:
        AssertionError: one failed, or took too long; its standard error is the message.
    """
    # As torchrun does: the processes meet at a store that their parent holds, at a port that is free.
    store = dist.TCPStore("127.0.0.1", 0, is_master=True, wait_for_workers=False)
    with tempfile.TemporaryDirectory() as folder:
        environments = [_environment(rank, world, store.port) for rank in range(world)]
        places = [Path(folder, str(rank)) for rank in range(world)]
        processes = [
            _context.Process(target=_run, args=(environment, place, target, arguments))
            for environment, place in zip(environments, places, strict=True)
        ]
        for process in processes:
            process.start()
        _wait(processes)
        failed = [rank for rank, process in enumerate(processes) if process.exitcode != 0]
        said = [f"rank {rank}: {processes[rank].exitcode}\n{_text(places[rank])[-2000:]}" for rank in failed]
        assert not failed, "\n".join(said)
        return [pickle.loads(place.read_bytes()) for place in places]


def _environment(rank: int, world: int, port: int) -> dict[str, str]:
    return {
        "RANK": str(rank),
        "WORLD_SIZE": str(world),
        "LOCAL_RANK": str(rank),
        "LOCAL_WORLD_SIZE": str(world),
        "GROUP_RANK": "0",
        "MASTER_ADDR": "127.0.0.1",
        "MASTER_PORT": str(port),
        "TORCHELASTIC_RESTART_COUNT": "0",
        "TORCHELASTIC_MAX_RESTARTS": "0",
        "TORCHELASTIC_RUN_ID": "tests",
        "TORCHELASTIC_USE_AGENT_STORE": "True",
    }


def _run(environment: dict[str, str], place: Path, target: Callable[..., Any], arguments: tuple[Any, ...]) -> None:
    output = os.open(place.with_suffix(".txt"), os.O_WRONLY | os.O_CREAT)
    for standard in (1, 2):
        os.dup2(output, standard)
    os.environ.update(environment)
    place.write_bytes(pickle.dumps(target(*arguments)))


def _wait(processes: list[multiprocessing.process.BaseProcess]) -> None:
    """Wait until all have ended; where one fails, or time is over, end the others, which may wait for it."""
    end = time.monotonic() + LIMIT_S
    while any(process.is_alive() for process in processes):
        if time.monotonic() > end or any(process.exitcode for process in processes):
            time.sleep(1)  # for the others to fail by themselves and say why
            for process in processes:
                process.kill()
        time.sleep(0.01)


def _text(place: Path) -> str:
    path = place.with_suffix(".txt")
    return path.read_text(errors="replace") if path.exists() else ""
