"""With which status a command exits."""

from __future__ import annotations

import signal
from typing import Final

FAILED: Final = 1
"""The command did its work, or could not end it, and what came out is not as it should be."""

USAGE_ERROR: Final = 2
"""A mistake of the user's, as shells and argparse have it."""

SIGNALLED: Final = 128
"""Plus the number of the signal that ended the command, as shells have it."""

INTERRUPTED: Final = SIGNALLED + signal.SIGINT
"""Ctrl-C."""
