"""Saves a run while it goes on: when it is time, when an epoch is done, and when the process is asked to end."""

from __future__ import annotations

import os
import shlex
import time
from collections.abc import Callable, Iterator
from dataclasses import replace
from pathlib import Path
from typing import Any

from dalipipe.errors import StoppedError
from dalipipe.training.intervals import Interval
from dalipipe.training.measures.metrics import Batch, Batches
from dalipipe.training.resume.resumption import Checkpoints, RunCheckpoint
from dalipipe.training.run.interruption import Interruption
from dalipipe.training.run.state import TrainState


class Saver:
    """Writes the checkpoints of a run, and ends it when that is asked for.

    Args:
        state: Of the run.
        checkpoints: Where they go.
        template: A checkpoint of the run: all but the state and the time is taken from it.
        interruption: Says whether the process is asked to end.
        output: What people give as --output to go on.
        clock: Seconds; replaced in tests.
    """

    def __init__(
        self,
        state: TrainState,
        checkpoints: Checkpoints,
        template: RunCheckpoint,
        interruption: Interruption,
        output: Path,
        clock: Callable[[], float] = time.monotonic,
    ) -> None:
        self._state, self._checkpoints, self._template = state, checkpoints, template
        self._interruption, self._output, self._clock = interruption, output, clock
        self._interval = Interval.parse(state.cfg.checkpoint_every)
        self._began = clock() - template.elapsed_s
        self._batches = 0  # since the last checkpoint
        self._written_s = clock()
        self._place = state.place  # of the last checkpoint, or of the beginning

    @property
    def elapsed_s(self) -> float:
        """Seconds that the run has taken, those before it was broken off included."""
        return self._clock() - self._began

    def after_batch(self) -> None:
        """Write a checkpoint if one is due; end the run if that is asked for.

        Both happen only where the weights have just moved: gradients that were gathered are not saved.

        Raises:
            StoppedError: the process is asked to end, and a checkpoint is written.
            ConfigError: the checkpoint can't be written.
        """
        self._batches += 1
        if not self._state.has_moved:
            return
        is_due = self._interval.over(self._batches, self._clock() - self._written_s)
        signum, due = self._state.processes.greatest([self._interruption.signum or 0, is_due])
        if signum:  # it came to one of the processes: all end, at the same batch
            self._interruption.signum = self._interruption.signum or int(signum)
            self.end_if_asked()
        if due:
            self.write()

    def end_if_asked(self) -> None:
        """Write a checkpoint and end the run if the process is asked to end.

        Raises:
            StoppedError: it is.
            ConfigError: the checkpoint can't be written.
        """
        if self._interruption.signum is None:
            return
        if self._state.place != self._place:
            self.write()
        raise self.stopped(self._state.where)

    def stopped(self, where: str) -> StoppedError:
        """Return the error that ends the run.

        Args:
            where: What comes next.
        """
        signum = self._interruption.signum
        assert signum is not None
        return StoppedError(
            f"stopped by {self._interruption.name} before {where}. "
            f"Go on with: dalipipe train --resume --output {quoted(self._output.absolute())}",
            signum,
        )

    @property
    def is_asked_to_end(self) -> bool:
        """Whether the process is asked to end."""
        return self._interruption.signum is not None

    def write(self) -> None:
        """Write a checkpoint of the run as it is. All processes must call it, and the first one writes.

        Raises:
            ConfigError: the file can't be written.
        """
        checkpoint = replace(self._template, state=self._state.state_dict(), elapsed_s=self.elapsed_s)
        self._state.processes.from_first(lambda: self._checkpoints.write(checkpoint))
        self._batches, self._written_s, self._place = 0, self._clock(), self._state.place

    def watch(self, loader: Batches) -> Batches:
        """Return batches such that the run ends between two of them if that is asked for.

        Where several processes validate, each its own part, they end together after the next training step instead.
        """
        return loader if self._state.processes.size > 1 else _Watched(loader, self.end_if_asked)


def quoted(path: Path) -> str:
    """Return a path as shells read it, in printable letters."""
    text = str(path)
    if text.isprintable():
        return shlex.quote(text)
    letters = (chr(byte) if 32 <= byte < 127 and byte not in b"'\\" else f"\\{byte:03o}" for byte in os.fsencode(text))
    return f"$'{''.join(letters)}'"


class _Watched:
    """A loader that something is called before each batch of, and that is otherwise itself."""

    def __init__(self, loader: Batches, call: Callable[[], None]) -> None:
        self._loader, self._call = loader, call

    def __iter__(self) -> Iterator[Batch]:
        for batch in self._loader:
            self._call()
            yield batch

    def __len__(self) -> int:
        return len(self._loader)

    def __getattr__(self, name: str) -> Any:
        return getattr(self._loader, name)
