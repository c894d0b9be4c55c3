"""A process that measures one subject: JSON requests, one a line, on standard input; answers on standard output.

Each subject has its own process, so that memory is its own and no loader meets what another one left behind.
"""

from __future__ import annotations

import contextlib
import json
import logging
import os
import sys
from collections.abc import Callable, Iterable, Iterator
from contextlib import contextmanager
from dataclasses import asdict
from typing import TYPE_CHECKING, Any

import numpy as np
from numpy.typing import NDArray

from dalipipe.benchmark.meter import Batch, time_stretch
from dalipipe.benchmark.subjects import make_subject
from dalipipe.benchmark.work import Subject, Work
from dalipipe.decisions.permutation import permutation
from dalipipe.errors import DalipipeError
from dalipipe.recipes import Recipe

if TYPE_CHECKING:
    from dalipipe.benchmark.trainee import TrainingStep


def main() -> None:
    """Answer requests until standard input ends."""
    logging.getLogger("dalipipe").setLevel(logging.ERROR)  # the process that asks has said it
    log = logging.getLogger("dalipipe.compilation")  # says when there is a wait for the compiler
    log.setLevel(logging.INFO)
    log.addHandler(logging.StreamHandler())
    # What libraries print to standard output must not pass for an answer.
    with os.fdopen(os.dup(1), "w", encoding="ascii") as answers:
        os.dup2(2, 1)
        for line in sys.stdin:
            request = json.loads(line)
            try:
                answer = _answer(request)
            except DalipipeError as error:
                answer = {"error": type(error).__name__, "message": str(error)}
            except (OSError, ValueError, RuntimeError) as error:
                # torch's workers send a traceback as the message; its last line says what happened.
                reason = str(error).strip().splitlines()[-1:] or [type(error).__name__]
                answer = {"error": "BackendError", "message": f"{_State.name}: failed with: {reason[0]}"}
            answers.write(json.dumps(answer) + "\n")
            answers.flush()


class _State:
    """The subject of this process, once the first request has named it."""

    name = ""
    work: Work
    subject: Subject
    pool: NDArray[np.int64]
    step: TrainingStep


def _answer(request: dict[str, Any]) -> dict[str, Any]:
    do: dict[str, Callable[..., dict[str, Any]]]
    do = {"open": _open, "sample": _sample, "time": _time, "model": _model, "train": _train}
    return do[request["do"]](**request["with"])


def _open(name: str, work: dict[str, Any], pool: list[int]) -> dict[str, Any]:
    _State.name = name
    recipe = Recipe.from_toml(work.pop("recipe"))
    _State.work = Work(recipe=recipe, **work)
    _State.subject = make_subject(name, _State.work)
    _State.pool = np.array(pool, dtype=np.int64)
    return {}


def _sample(count: int, recipe: str, path: str) -> dict[str, Any]:
    """Write the first images of the pool and their labels, as they leave a recipe, to a file."""
    images, labels = [], []
    with _State.subject.open(Recipe.from_toml(recipe), _State.pool[:count]) as batches:
        for some, their in batches:
            images.append(some.cpu().numpy())
            labels.append(their.cpu().numpy())
    np.savez(path, images=np.concatenate(images), labels=np.concatenate(labels))
    return {}


def _time(passes: int, limit_s: float | None) -> dict[str, Any]:
    indices = _passes(passes)
    return asdict(
        time_stretch(
            lambda: _State.subject.open(_State.work.recipe, indices),
            limit_s=float("inf") if limit_s is None else limit_s,
            finish=_wait_for_gpu,
        )
    )


def _passes(count: int) -> NDArray[np.int64]:
    pool, seed = _State.pool, _State.work.seed
    return np.concatenate([pool[permutation(len(pool), seed, number)] for number in range(count)])


def _model(model: str, classes: int) -> dict[str, Any]:
    """Build the network that the next requests train; return where it runs."""
    from dalipipe.benchmark.trainee import TrainingStep

    _State.step = TrainingStep(model, classes, _State.work)
    return {"device": str(_State.step.device)}


def _train(part: str, passes: int, limit_s: float) -> dict[str, Any]:
    """Time the network, the loader, or the network fed by the loader."""
    indices = _passes(passes)

    @contextmanager
    def both() -> Iterator[Iterable[Batch]]:
        with _State.subject.open(_State.work.recipe, indices) as batches:
            yield _State.step.over(batches)

    opener = {
        "model": _State.step.replayed,
        "loader": lambda: _State.subject.open(_State.work.recipe, indices),
        "both": both,
    }[part]
    return asdict(time_stretch(opener, limit_s=limit_s, finish=_wait_for_gpu))


def _wait_for_gpu() -> None:
    torch = sys.modules.get("torch")
    if torch is not None and torch.cuda.is_initialized():
        torch.cuda.synchronize()


if __name__ == "__main__":
    with contextlib.suppress(BrokenPipeError):
        main()
