"""Signals that ask a run to end: they are noted, and the run ends where it can go on later."""

from __future__ import annotations

import signal
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any, Final

SIGNALS: Final = (signal.SIGTERM, signal.SIGINT)


class Interruption:
    """Whether the process was asked to end.

    Attributes:
        signum: The first signal that came; None before.
    """

    def __init__(self) -> None:
        self.signum: int | None = None

    def note(self, signum: int, _frame: Any = None) -> None:
        """Take a signal. The next SIGINT is the system's, which ends the process even within a long computation."""
        if signum == signal.SIGINT:
            signal.signal(signal.SIGINT, signal.SIG_DFL)
        if self.signum is None:
            self.signum = signum

    @property
    def name(self) -> str:
        """Name of the signal, or nothing."""
        return "" if self.signum is None else signal.Signals(self.signum).name


@contextmanager
def interruptible() -> Iterator[Interruption]:
    """Note SIGTERM and SIGINT instead of ending the process, until the context ends.

    Signals that are ignored stay so. In a thread other than the main one, where Python takes no signals, nothing is
    ever noted.
    """
    interruption = Interruption()
    before = {}
    if threading.current_thread() is threading.main_thread():
        for number in SIGNALS:
            if signal.getsignal(number) is not signal.SIG_IGN:
                before[number] = signal.signal(number, interruption.note)
    try:
        yield interruption
    finally:
        for number, handler in before.items():
            signal.signal(number, signal.SIG_DFL if handler is None else handler)
