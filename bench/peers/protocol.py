"""How a peer is measured: JSON requests, one a line, on standard input; answers on standard output.

It is the protocol of `dalipipe.benchmark.worker`, for environments that have neither torch nor DALI. The stopwatch is
dalipipe's own. Each peer is a process that lives for the whole run and makes a fresh loader for every timed stretch.
"""

from __future__ import annotations

import contextlib
import json
import os
import sys
from collections.abc import Callable, Iterable
from contextlib import AbstractContextManager
from dataclasses import asdict, dataclass
from importlib import metadata
from typing import Any, Protocol

import numpy as np

from dalipipe.benchmark.meter import Batch, time_stretch
from dalipipe.decisions.permutation import permutation
from dalipipe.sources import FolderSource

SIZE_PX = 224
MEAN = np.array([0.485, 0.456, 0.406], np.float32) * 255
STD = np.array([0.229, 0.224, 0.225], np.float32) * 255


@dataclass(frozen=True)
class Task:
    """What a peer is to load: random crops of 224 px, flipped at random, normalised, in batches.

    Images leave it as float32 (n, 3, 224, 224); whether channels or rows lie together in memory is the peer's choice.
    """

    name: str
    files: tuple[tuple[str, int], ...]  # (path, label) of each image, in an order drawn once for all
    batch_size: int
    threads: int


class Peer(Protocol):
    def first(self, count: int) -> Iterable[Batch]:
        """Yield the first images of the task, in order."""
        ...

    def passes(self, order: list[int]) -> AbstractContextManager[Iterable[Batch]]:
        """Open a fresh loader over positions in the task's files, several passes over all of them."""
        ...


def serve(make: Callable[[Task], Peer], packages: Iterable[str]) -> None:
    """Answer requests until standard input ends."""
    with os.fdopen(os.dup(1), "w", encoding="ascii") as answers:
        os.dup2(2, 1)  # what libraries print must not pass for an answer
        peer: Peer | None = None
        task: Task | None = None
        for line in sys.stdin:
            request = json.loads(line)
            given = request["with"]
            try:
                if request["do"] == "open":
                    task = _task(given["name"], given["work"], given["pool"])
                    peer = make(task)
                    answer: dict[str, Any] = {"versions": {name: metadata.version(name) for name in packages}}
                elif request["do"] == "sample":
                    answer = _sample(peer, given["count"], given["path"])
                else:
                    answer = _time(peer, task, given["passes"], given["limit_s"])
            except (OSError, ValueError, RuntimeError) as error:
                answer = {"error": "BackendError", "message": f"{type(error).__name__}: {error}"}
            answers.write(json.dumps(answer) + "\n")
            answers.flush()


def _task(name: str, work: dict[str, Any], pool: list[int]) -> Task:
    source = FolderSource(work["root"])
    return Task(name, tuple(source.samples[index] for index in pool), work["batch_size"], work["threads"])


def _sample(peer: Peer, count: int, path: str) -> dict[str, Any]:
    batches = [(np.asarray(images), np.asarray(labels)) for images, labels in peer.first(count)]
    images, labels = (np.concatenate(part)[:count] for part in zip(*batches, strict=True))
    np.savez(path, images=images, labels=labels)
    return {}


def _time(peer: Peer, task: Task, passes: int, limit_s: float | None) -> dict[str, Any]:
    order = np.concatenate([permutation(len(task.files), 0, number) for number in range(passes)]).tolist()
    limit_s = float("inf") if limit_s is None else limit_s
    return asdict(time_stretch(lambda: peer.passes(order), limit_s=limit_s))


def main(make: Callable[[Task], Peer], *packages: str) -> None:
    with contextlib.suppress(BrokenPipeError):
        serve(make, packages)
