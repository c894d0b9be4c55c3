"""What can be measured: the loader on each of its backends, what people use instead, and the ceiling.

What each needs is imported when it is made, so that none carries the libraries of another in its memory.
"""

from __future__ import annotations

from collections.abc import Sequence

from dalipipe.benchmark.work import Subject, Work
from dalipipe.errors import ConfigError, nearest

BASELINE = "torchvision-pil"
TENSOR = "torchvision-tensor"
CEILING = "decode-only"
CACHED = "dali-cpu-cached"
REFERENCE = "torchvision"
PEERS = {
    BASELINE: "torch's DataLoader over ImageFolder: Pillow, transforms.v2, worker processes",
    TENSOR: "the same with torchvision.io.decode_image and transforms.v2 on tensors",
}
"""What takes its own random decisions."""


def all_subjects() -> dict[str, str]:
    """Return the subjects and a phrase for each."""
    from dalipipe.backends import BACKENDS

    more = {
        CEILING: "DALI on the CPU decoding, nothing after it: the ceiling",
        CACHED: 'dali-cpu with cache="ram", from the second epoch on',
    }
    return {**{name: backend.sentence for name, backend in BACKENDS.items()}, **PEERS, **more}


def default_subjects() -> tuple[str, ...]:
    """Return every subject that can run here, but the one that may need more memory than there is."""
    from dalipipe.backends import cuda_works, dali_is_there

    left_out = {CACHED}
    if not cuda_works():
        left_out.add("dali-gpu")
    if not dali_is_there():
        left_out |= _of_dali()
    return tuple(name for name in all_subjects() if name not in left_out)


def _of_dali() -> set[str]:
    """Return the subjects that need DALI."""
    from dalipipe.backends import BACKENDS

    return {CACHED, CEILING, *BACKENDS} - {REFERENCE}


def check_subjects(names: Sequence[str]) -> tuple[str, ...]:
    """Return the names, "auto" replaced by what it stands for here.

    Raises:
        ConfigError: an unknown name (the nearest is suggested), the same one twice, or none at all.
        BackendError: dali-gpu where no CUDA device works; what needs DALI where that is not installed.
    """
    from dalipipe.backends import BACKENDS, require_dali, resolve_backend

    known = all_subjects()
    there_are = f"There are: {', '.join(known)}."
    checked: list[str] = []
    for name in names:
        if name not in known and name != "auto":
            raise ConfigError(f"--backends: unknown name {name!r}. {nearest(name, known)}{there_are}")
        if name in _of_dali():
            require_dali(name)
        checked.append(resolve_backend(name) if name in BACKENDS or name == "auto" else name)
        if checked.count(checked[-1]) > 1:
            raise ConfigError(f"--backends: must name each once, got {checked[-1]!r} twice. Remove one.")
    if not checked:
        raise ConfigError(f"--backends: must name at least one, got none. {there_are}")
    return tuple(checked)


def make_subject(name: str, work: Work) -> Subject:
    """Return the subject of that name, its files listed."""
    if name in PEERS:
        from dalipipe.benchmark.peers import TorchPeer

        return TorchPeer(work, "pil" if name == BASELINE else "tensor")
    if name == CEILING:
        from dalipipe.benchmark.ceiling import DecodeOnly

        return DecodeOnly(work)
    from dalipipe.benchmark.loaders import LoaderSubject

    if name == CACHED:
        return LoaderSubject(work, "dali-cpu", cached=True)
    return LoaderSubject(work, name)
