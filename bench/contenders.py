"""What is measured beside each other, and on which images."""

from __future__ import annotations

from dataclasses import dataclass


@dataclass(frozen=True)
class Contender:
    """A loader in a run.

    Attributes:
        label: What it is called in the results.
        subject: Name of dalipipe's subject, or of the peer's variant.
        peer: Module in bench/peers and name of its environment; None for dalipipe's own subjects.
        threads: Threads or worker processes; None for those of the run.
        recipe: What is done to the images; a peer does imagenet-train.
    """

    label: str
    subject: str
    peer: str | None = None
    threads: int | None = None
    recipe: str = "imagenet-train"


@dataclass(frozen=True)
class Scene:
    """Images, and the loaders that run on them.

    Attributes:
        name: What it is called in the results.
        longest_px: Longest side that the images are reduced to; None for the images as they are.
        contenders: Labels of those that run.
    """

    name: str
    longest_px: int | None
    contenders: tuple[str, ...]


_ALL = (
    Contender("dali-cpu", "dali-cpu"),
    Contender("dali-cpu, 1 thread", "dali-cpu", threads=1),
    Contender('dali-cpu, cache="ram"', "dali-cpu-cached"),
    Contender("dali-cpu-stock", "dali-cpu-stock"),
    Contender("decode-only", "decode-only"),
    Contender("dali-cpu, small-data", "dali-cpu", recipe="small-data"),
    Contender("dali-cpu-stock, small-data", "dali-cpu-stock", recipe="small-data"),
    *(
        Contender(f"{subject}, {count} worker{'s' * (count > 1)}", subject, threads=count)
        for subject in ("torchvision-pil", "torchvision-tensor")
        for count in (1, 2, 3)
    ),
    Contender("FFCV, JPEG", "ffcv-jpeg", "ffcv"),
    Contender("FFCV, raw", "ffcv-raw", "ffcv"),
    Contender("tf.data", "tfdata", "tfdata"),
    Contender("WebDataset", "webdataset", "webdataset"),
    Contender("SPDL", "spdl", "spdl"),
)
CONTENDERS = {contender.label: contender for contender in _ALL}

_OURS = ("dali-cpu", 'dali-cpu, cache="ram"', "dali-cpu-stock")
SCENES = (
    Scene("photos", None, tuple(label for label in CONTENDERS if label != "FFCV, raw")),
    Scene("500 px", 500, (*_OURS, "torchvision-pil, 2 workers", "tf.data", "FFCV, JPEG")),
    Scene(
        "256 px",
        256,
        (
            *_OURS,
            "decode-only",
            "torchvision-pil, 2 workers",
            "torchvision-tensor, 2 workers",
            "tf.data",
            "WebDataset",
            "SPDL",
            "FFCV, JPEG",
            "FFCV, raw",
        ),
    ),
)
