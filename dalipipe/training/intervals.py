"""How often something is done: every so many batches, or every so much time."""

from __future__ import annotations

import re
from dataclasses import dataclass
from typing import Final

_UNITS: Final = {"s": 1.0, "min": 60.0, "h": 3600.0}
_FORM: Final = re.compile(r"(\d+(?:\.\d+)?)\s*(s|min|h)|(\d+)")


@dataclass(frozen=True)
class Interval:
    """Either of the two is given, and is more than 0.

    Attributes:
        batches: How many.
        seconds: How long.
    """

    batches: int | None = None
    seconds: float | None = None

    @classmethod
    def parse(cls, text: str) -> Interval:
        """Return the interval that people write as `200`, `90s`, `10min` or `1.5h`.

        Raises:
            ValueError: it is none of these, or 0.
        """
        found = _FORM.fullmatch(text.strip())
        if found is None or not float(found[1] or found[3]):
            raise ValueError(f"must be a number of batches or a time, got {text!r}. Write 200, 90s, 10min or 1h.")
        if found[3]:
            return cls(batches=int(found[3]))
        return cls(seconds=float(found[1]) * _UNITS[found[2]])

    def over(self, batches: int, seconds: float) -> bool:
        """Return whether it is over after so many batches and seconds."""
        if self.batches is not None:
            return batches >= self.batches
        return self.seconds is not None and seconds >= self.seconds
