"""Whether Pillow decodes a file, as the reference would in training: what is asked where DALI is not installed."""

from __future__ import annotations

from collections.abc import Sequence
from concurrent.futures import ThreadPoolExecutor
from types import TracebackType

from dalipipe.backends.torchvision import decoded


class ReferenceDecoder:
    """Pillow, which says what it can't decode, as `decoding.Decoder` does for DALI.

    Args:
        threads: Threads that decode.
    """

    def __init__(self, threads: int) -> None:
        self._pool = ThreadPoolExecutor(threads)

    def __enter__(self) -> ReferenceDecoder:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self._pool.shutdown(cancel_futures=True)

    def failures(self, contents: Sequence[bytes]) -> dict[int, str]:
        """Return why the images at some positions can't be decoded; {} where all can."""
        found = self._pool.map(decoded, contents)
        return {position: reason for position, reason in enumerate(found) if isinstance(reason, str)}

    def pixels(self, _content: bytes) -> int:
        """Return 0: Pillow finds no size in the header of an image that it does not know."""
        return 0
