"""Whether DALI decodes a file as it would in training: whole, on the CPU, from bytes in memory."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from types import TracebackType

from nvidia.dali import fn, types
from nvidia.dali.data_node import DataNode
from nvidia.dali.pipeline import Pipeline

from dalipipe.backends import pillow
from dalipipe.backends.base import UNREADABLE
from dalipipe.backends.blame import require_bytes
from dalipipe.backends.dali_input import encode, load
from dalipipe.decisions.status import Status


class Decoder:
    """DALI's decoder, which says what it can't decode.

    Args:
        threads: Threads that decode.
        batch_size: Most images at once.
    """

    def __init__(self, threads: int, batch_size: int) -> None:
        self._decoder: Pipeline | None = _build(
            lambda encoded: load(encoded, "bytes", turned=False).decode("cpu"), threads, batch_size
        )
        self._header: Pipeline | None = _build(lambda encoded: (load(encoded, "bytes", turned=False).shape,), 1, 1)

    def __enter__(self) -> Decoder:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self._decoder = self._header = None

    def failures(self, contents: Sequence[bytes]) -> dict[int, str]:
        """Return why the images at some positions can't be decoded; {} where all can.

        DALI gives up a whole batch for one of its images, so that one is looked for by halves.
        """
        assert self._decoder is not None
        self._decoder.feed_input("encoded", [encode(content) for content in contents])
        try:
            _, status = self._decoder.run()
        except RuntimeError as error:
            require_bytes("check", error)
            if len(contents) == 1:
                return _by_pillow(contents, [0])
        else:
            return _by_pillow(contents, [at for at in range(len(contents)) if int(status.at(at)[0]) != Status.OK])
        half = len(contents) // 2
        later = self.failures(contents[half:])
        return self.failures(contents[:half]) | {half + position: reason for position, reason in later.items()}

    def pixels(self, content: bytes) -> int:
        """Return how many pixels DALI reads in the header of an image; 0 where it finds none."""
        assert self._header is not None
        self._header.feed_input("encoded", [encode(content)])
        try:
            (shape,) = self._header.run()
        except RuntimeError as error:
            require_bytes("check", error)
            return 0
        height, width = shape.at(0)[:2]
        return int(height) * int(width)


def _by_pillow(contents: Sequence[bytes], positions: Sequence[int]) -> dict[int, str]:
    """Return why Pillow, whose word counts, can't decode the images at some positions."""
    reasons = {}
    for position in positions:
        try:
            pillow.decode(contents[position])
        except UNREADABLE as error:
            reasons[position] = pillow.why_not("check", contents[position], error)
    return reasons


def _build(make: Callable[[DataNode], Sequence[DataNode]], threads: int, batch_size: int) -> Pipeline:
    pipeline = Pipeline(batch_size, threads, device_id=None, prefetch_queue_depth=1, exec_dynamic=True)
    with pipeline:
        pipeline.set_outputs(*make(fn.external_source(name="encoded", dtype=types.UINT8, ndim=1)))
    pipeline.build()
    return pipeline
