"""Processes that start quickly: forked from one that has imported what takes seconds, and that has no threads.

`run_apart` is for what may crash, or is measured, in a process of its own; `run_ranks` for several that find what
torchrun puts into the environment; `Served` for one that answers on its standard output. What only a real start shows
(how an interpreter ends, the command line, torchrun itself, the examples) is tested with real ones.
"""

import multiprocessing
import os
import pickle
import sys
import tempfile
import time
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
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


def run_apart(target: Callable[..., Any], *arguments: Any) -> Any:
    """Return what `target(*arguments)` returns in a process of its own; see `run_ranks`."""
    (found,) = _run_all([{}], target, arguments)
    return found


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
    return _run_all([_environment(rank, world, store.port) for rank in range(world)], target, arguments)


@contextmanager
def started(target: Callable[..., Any], *arguments: Any) -> Iterator[Any]:
    """Start `target(*arguments)` in a process of its own, a multiprocessing.Process, and kill it in the end."""
    process = _context.Process(target=target, args=arguments)
    process.start()
    try:
        yield process
    finally:
        process.kill()
        process.join(60)


class Served:
    """A process that reads standard input and writes standard output, as subprocess.Popen has it.

    Args:
        target: A function of a module that can be imported; what the process does.
        arguments: What can be pickled.
    """

    def __init__(self, target: Callable[..., None], *arguments: Any) -> None:
        (requests, asked), (answered, answers) = _context.Pipe(duplex=False), _context.Pipe(duplex=False)
        self._process = _context.Process(target=_serve, args=(requests, answers, target, arguments))
        self._process.start()
        self.pid = self._process.pid
        self.stdin = os.fdopen(os.dup(asked.fileno()), "w")
        self.stdout = os.fdopen(os.dup(answered.fileno()))
        for end in (requests, asked, answered, answers):
            end.close()

    def wait(self) -> int | None:
        """Wait until it has ended, and return its exit status."""
        self._process.join(LIMIT_S)
        self.stdin.close()
        self.stdout.close()
        return self._process.exitcode


def _serve(requests: Any, answers: Any, target: Callable[..., None], arguments: tuple[Any, ...]) -> None:
    os.setsid()
    os.dup2(requests.fileno(), 0)
    os.dup2(answers.fileno(), 1)
    for end in (requests, answers):
        end.close()
    # For as long as the process lives.
    sys.stdin = open(0, encoding="utf-8", closefd=False)  # noqa: SIM115
    sys.stdout = open(1, "w", encoding="utf-8", buffering=1, closefd=False)  # noqa: SIM115
    target(*arguments)


def _run_all(environments: list[dict[str, str]], target: Callable[..., Any], arguments: tuple[Any, ...]) -> list[Any]:
    with tempfile.TemporaryDirectory() as folder:
        places = [Path(folder, str(number)) for number in range(len(environments))]
        processes = [
            _context.Process(target=_run, args=(environment, place, target, arguments))
            for environment, place in zip(environments, places, strict=True)
        ]
        for process in processes:
            process.start()
        _wait(processes)
        failed = [number for number, process in enumerate(processes) if process.exitcode != 0]
        said = [f"process {number}: {processes[number].exitcode}\n{_text(places[number])}" for number in failed]
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


def _run(environment: Mapping[str, str], place: Path, target: Callable[..., Any], arguments: tuple[Any, ...]) -> None:
    output = os.open(place.with_suffix(".txt"), os.O_WRONLY | os.O_CREAT | os.O_APPEND)
    for standard in (1, 2):
        os.dup2(output, standard)
    os.environ.update(environment)
    place.write_bytes(pickle.dumps(target(*arguments)))


def _wait(processes: list[Any]) -> None:
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
    return path.read_text(errors="replace")[-2000:] if path.exists() else ""
