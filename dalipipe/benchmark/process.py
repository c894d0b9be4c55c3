"""The other end of `worker`: starts the process of a subject, asks it, and watches its memory."""

from __future__ import annotations

import json
import os
import select
import subprocess
import sys
from collections.abc import Sequence
from dataclasses import asdict
from pathlib import Path
from types import TracebackType
from typing import Any

import numpy as np
import psutil
from numpy.typing import NDArray

from dalipipe import errors
from dalipipe.benchmark.meter import Stretch, tree_memory_mb
from dalipipe.benchmark.work import Work
from dalipipe.errors import BackendError

_MEMORY_INTERVAL_S = 0.1
_PACKAGES = Path(__file__).resolve().parents[2]
WORKER = (sys.executable, "-P", "-m", "dalipipe.benchmark.worker")


class SubjectProcess:
    """One subject in a process of its own.

    Args:
        name: Which subject.
        work: What it loads.
        pool: Indices of the images that a pass goes over.
        command: What to start; by default this Python with dalipipe's own subjects.

    Attributes:
        name: Which subject.
        facts: What the process said of itself, such as the versions of what it runs.
        peak_memory_mb: Most memory seen in a pass with a limit, over the process and its children.
    """

    def __init__(self, name: str, work: Work, pool: NDArray[np.int64], command: Sequence[str | Path] = WORKER) -> None:
        self.name = name
        self.peak_memory_mb = 0.0
        paths = [str(_PACKAGES), *filter(None, [os.environ.get("PYTHONPATH")])]
        self._process = subprocess.Popen(
            command,
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            env={**os.environ, "PYTHONPATH": os.pathsep.join(paths)},
            text=True,
            start_new_session=True,  # Ctrl-C is for the parent, which ends this one
        )
        try:
            told = {**asdict(work), "recipe": work.recipe.to_toml()}
            self.facts = self._ask("open", name=name, work=told, pool=pool.tolist())
        except BaseException:
            self.close()
            raise

    def sample(self, count: int, recipe: str, path: Path) -> None:
        """Write images and labels of the first `count` images of the pool, through a recipe in TOML, to an .npz."""
        self._ask("sample", count=count, recipe=recipe, path=str(path))

    def time(self, passes: int, limit_s: float | None = None) -> Stretch:
        """Time a fresh loader over so many passes; with `limit_s`, for so long only, and memory is watched."""
        answer = self._ask("time", watch_memory=limit_s is not None, passes=passes, limit_s=limit_s)
        return Stretch(**answer)

    def build_model(self, model: str, classes: int) -> str:
        """Build a network in the process, for `train`; return the device that it runs on."""
        return str(self._ask("model", model=model, classes=classes)["device"])

    def train(self, part: str, passes: int, limit_s: float) -> Stretch:
        """Time a part of `dalipipe.benchmark.training` until its first batch after `limit_s`, or over the passes."""
        return Stretch(**self._ask("train", part=part, passes=passes, limit_s=limit_s))

    def _ask(self, what: str, *, watch_memory: bool = False, **arguments: Any) -> dict[str, Any]:
        assert self._process.stdin is not None and self._process.stdout is not None
        try:
            self._process.stdin.write(json.dumps({"do": what, "with": arguments}) + "\n")
            self._process.stdin.flush()
        except BrokenPipeError as error:
            raise self._died() from error
        # Watching costs time on the same CPUs, so it is done in passes that do not count.
        answered = not watch_memory
        while not answered:
            answered = bool(select.select([self._process.stdout], [], [], _MEMORY_INTERVAL_S)[0])
            self.peak_memory_mb = max(self.peak_memory_mb, tree_memory_mb(self._process.pid))
        line = self._process.stdout.readline()
        if not line:
            raise self._died()
        answer: dict[str, Any] = json.loads(line)
        if "error" in answer:
            raise getattr(errors, answer["error"])(answer["message"])
        return answer

    def _died(self) -> BackendError:
        status = self._process.wait()
        how = f"was killed by signal {-status}" if status < 0 else f"ended with exit status {status}"
        return BackendError(
            f"{self.name}: its process must answer, got none: it {how}. See the lines above, or try it alone."
        )

    def close(self) -> None:
        """End the process and its children."""
        for pipe in (self._process.stdin, self._process.stdout):
            if pipe is not None:
                pipe.close()
        try:
            doomed = [*psutil.Process(self._process.pid).children(recursive=True), psutil.Process(self._process.pid)]
        except psutil.NoSuchProcess:
            doomed = []
        for process in doomed:
            try:
                process.kill()
            except psutil.NoSuchProcess:
                continue
        self._process.wait()

    def __enter__(self) -> SubjectProcess:
        """Return the process."""
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        """End the process."""
        self.close()
