"""What a forked child may not touch: threads and pipelines stay with the process that made them.

`os.fork` copies memory, not threads. Whoever waits in the child for a thread of the parent waits for ever, and DALI
aborts the process that takes a pipeline of its parent apart. So whatever has threads is listed here; in a forked child
each lets go of them before anything else runs, and makes new ones when it is used.
"""

from __future__ import annotations

import gc
import os
import weakref
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from typing import Any, Final, Protocol, TypeVar

import torch

Item = TypeVar("Item")

_FIRST: Final = os.getpid()


class Threaded(Protocol):
    """Something that has threads."""

    def after_fork(self) -> None:
        """Forget the threads, which are another process's, without touching them."""
        ...


_first: weakref.WeakSet[Any] = weakref.WeakSet()
_known: weakref.WeakSet[Any] = weakref.WeakSet()


def register(threaded: Threaded, *, first: bool = False) -> None:
    """Have an object let go of its threads in every child that is forked from now on; with `first` before others."""
    (_first if first else _known).add(threaded)


_collects = True


def _before() -> None:
    """Keep Python from taking apart in the child, before it has let go, what the parent has left as garbage."""
    global _collects
    _collects = gc.isenabled()
    gc.disable()


def _in_parent() -> None:
    if _collects:
        gc.enable()


def _in_child() -> None:
    for threaded in (*_first, *_known):
        threaded.after_fork()
    _in_parent()


if hasattr(os, "register_at_fork"):
    os.register_at_fork(before=_before, after_in_parent=_in_parent, after_in_child=_in_child)


def is_child() -> bool:
    """Return whether this process was forked from one that had this module."""
    return os.getpid() != _FIRST


def elsewhere(items: Iterator[Item]) -> Iterator[Item]:
    """Yield items that are made in a thread of their own.

    The main thread of a forked child can't use torch's own threads where the parent's main thread has used them: GNU
    OpenMP waits for ever. Any other thread gets new ones.
    """
    end = object()
    # Torch mends what the fork broke of its threads when the first new thread asks for them; two at once may fail.
    pool = ThreadPoolExecutor(1, thread_name_prefix="dalipipe", initializer=torch.get_num_threads)
    try:
        while (item := pool.submit(next, items, end).result()) is not end:
            yield item  # type: ignore[misc]
    finally:
        pool.shutdown(wait=False)
        items.close()  # type: ignore[attr-defined]
