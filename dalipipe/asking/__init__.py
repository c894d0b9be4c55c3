"""Data sets of any kind: they are asked for their samples, and what their images go through is left to a backend."""

from dalipipe.asking.account import explained
from dalipipe.asking.asker import Asker
from dalipipe.asking.executor import AskedExecutor, SamplesResult
from dalipipe.asking.patches import installed
from dalipipe.asking.source import AskedSource
from dalipipe.asking.stream import StreamOrder, StreamSource
from dalipipe.asking.structure import Row, default_collated, mapped
from dalipipe.decisions.generators import lent, seed_all

__all__ = [
    "AskedExecutor",
    "AskedSource",
    "Asker",
    "Row",
    "SamplesResult",
    "StreamOrder",
    "StreamSource",
    "default_collated",
    "explained",
    "installed",
    "lent",
    "mapped",
    "seed_all",
]
