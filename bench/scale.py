"""What the number of samples costs: start, first batch, state, going on in the middle, memory.

    listed      a folder of class folders, listed as the loader is made
    indexed     the same, with the list that `dalipipe index` has left there
    torch       torchvision's ImageFolder and torch's DataLoader with a RandomSampler, no worker processes
    synthetic   a source of as many samples as are asked for, all of them one photo: nothing is listed
    torch, synthetic    a Dataset of as many, and a RandomSampler

Each is measured in a process of its own that has loaded a batch before, and again with few samples: what differs is
what the number costs. All make the same of an image, with torchvision's operators. Seconds of the clock, and in
brackets of the processor, which a busy machine does not lengthen; memory is what the peak of the process has grown by.

    PYTHONPATH=. python bench/scale.py PHOTOS --many 1280000 --most 100000000 --json bench/results/scale.json

PHOTOS is a folder of a few JPEG files. The folder of many is made of links to them, below --folder.
"""

import argparse
import json
import os
import platform
import resource
import shutil
import subprocess
import sys
import time
from collections.abc import Callable
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import numpy as np

BATCH = 64
CLASS = 1281  # images of one
LINKS = 30_000  # to one file: a file system has a limit
ROWS = ("start", "first batch", "state, first", "state, again", "resume to first batch")
NAMES = ("listed", "indexed", "torch", "synthetic", "torch, synthetic")
Clock = Callable[[str], None]


class Repeated:
    """As many samples as are asked for, all of them one photo; a Source of dalipipe's, and a data set of torch's."""

    classes = ("one",)

    def __init__(self, photo: Path, count: int, transform: Any = None) -> None:
        self.blob, self.transform = photo.read_bytes(), transform
        self.labels = np.zeros(count, np.int64)

    def __len__(self) -> int:
        return len(self.labels)

    def item(self, index: int) -> bytes:
        """Return the photo."""
        return self.blob

    def fingerprint(self) -> str:
        """Return what tells one number of samples from another."""
        return f"{len(self):016x}"

    def __getitem__(self, index: int) -> tuple[Any, int]:
        import io

        from PIL import Image

        return self.transform(Image.open(io.BytesIO(self.blob)).convert("RGB")), 0


def transform() -> Any:
    """Return what is done to each image."""
    from torchvision import transforms

    return transforms.Compose([transforms.Resize(256), transforms.CenterCrop(224), transforms.ToTensor()])


def ours(make: Callable[[], Any], note: Clock) -> None:
    """Go through the stations of a loader of dalipipe's."""
    import dalipipe
    from dalipipe.recipes import Recipe

    recipe = Recipe.from_torchvision(transform())

    def loader(data: Any) -> Any:
        return dalipipe.DataLoader(
            data, BATCH, shuffle=True, seed=1, recipe=recipe, backend="torchvision", num_threads=2
        )

    note("")
    first = loader(make())
    note("start")
    batches = iter(first)
    next(batches)
    note("first batch")
    state = first.state_dict()
    note("state, first")
    first.state_dict()
    note("state, again")
    batches.close()
    assert len(json.dumps(state)) < 1024
    note("")
    second = loader(first.source)
    second.load_state_dict({**state, "position": len(first.source) // 2})
    next(iter(second))
    note("resume to first batch")


def torchs(make: Callable[[], Any], note: Clock) -> None:
    """Go through the stations of torch's loader: it has no state of its own."""
    import torch

    note("")
    loader = torch.utils.data.DataLoader(make(), BATCH, shuffle=True)
    note("start")
    next(iter(loader))
    note("first batch")


def measure(name: str, photos: Path, folder: Path, count: int) -> dict[str, Any]:
    """Return the figures of one, in this process."""
    photo = min(photos.rglob("*.[jJ]*[gG]"))
    if name.startswith("torch"):
        torchs(lambda: Repeated(photo, BATCH, transform()), Stations())
    else:
        ours(lambda: Repeated(photo, BATCH), Stations())
    if name.startswith("torch"):
        from torchvision.datasets import ImageFolder

        steps = transform()
        torchs(
            lambda: Repeated(photo, count, steps) if "synthetic" in name else ImageFolder(folder, steps),
            note := Stations(),
        )
    else:
        from dalipipe.sources import FolderSource

        ours(
            lambda: Repeated(photo, count) if name == "synthetic" else FolderSource(folder, indexed=name == "indexed"),
            note := Stations(),
        )
    return note.figures()


class Stations:
    """Notes what has passed since the last station."""

    def __init__(self) -> None:
        self.found: dict[str, dict[str, float]] = {}
        self._kib = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
        self._began = time.perf_counter(), time.process_time()
        self._counts = False

    def __call__(self, name: str) -> None:
        """Note what has passed, under a name; under none it is forgotten."""
        now = time.perf_counter(), time.process_time()
        if name:
            clock_s, cpu_s = (after - before for after, before in zip(now, self._began, strict=True))
            self.found[name] = {"s": round(clock_s, 4), "cpu_s": round(cpu_s, 4)}
        elif not self._counts:  # what was imported before doesn't
            self._kib, self._counts = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss, True
        self._began = time.perf_counter(), time.process_time()

    def figures(self) -> dict[str, Any]:
        """Return what was noted, and by how many MB the process has grown."""
        grown_kib = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss - self._kib
        return {**self.found, "memory_mb": round(grown_kib / 1024, 1)}


def make_folder(photos: Path, folder: Path, count: int) -> Path:
    """Return a folder of so many links to photos, in folders of `CLASS` each; one that is there is taken."""
    root = folder / f"{count}"
    if root.is_dir():
        return root
    found = sorted(photos.rglob("*.[jJ]*[gG]"))
    if not found:
        sys.exit(f"{photos}: holds no JPEG file. Give a folder of photos.")
    sources = folder / "photos"
    sources.mkdir(parents=True, exist_ok=True)
    copies = [sources / f"{number}.jpg" for number in range(max(len(found[:40]), -(-count // LINKS)))]
    for number, copy in enumerate(copies):
        shutil.copyfile(found[number % len(found)], copy)
    begun = folder / f"{count}.begun"
    for number in range(count):
        place = begun / f"n{number // CLASS:08d}"
        if number % CLASS == 0:
            place.mkdir(parents=True)
        os.link(copies[number % len(copies)], place / f"n{number // CLASS:08d}_{number}.JPEG")
    begun.rename(root)
    return root


def table(figures: dict[str, dict[str, Any]]) -> str:
    """Return the figures as Markdown."""
    lines = [f"| | samples | {' | '.join(ROWS)} | memory |", "| --- | ---: " + "| ---: " * (len(ROWS) + 1) + "|"]
    for name, found in figures.items():
        kind, count = name.rsplit(" ", 1)
        cells = [f"{found[row]['s']:.3g} ({found[row]['cpu_s']:.2g}) s" if row in found else "" for row in ROWS]
        lines.append(f"| {kind} | {int(count):,} | {' | '.join(cells)} | {found['memory_mb']:,.0f} MB |")
    return "\n".join(lines)


def main() -> None:
    """Measure, print a table and write the figures."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("photos", type=Path)
    parser.add_argument("--few", type=int, default=2 * CLASS)
    parser.add_argument("--many", type=int, default=1_280_000)
    parser.add_argument("--most", type=int, default=100_000_000)
    parser.add_argument("--folder", type=Path, default=Path("/tmp/dalipipe-scale"))
    parser.add_argument("--only", nargs="*", default=NAMES, choices=NAMES)
    parser.add_argument("--one", nargs=2, metavar=("NAME", "COUNT"), help=argparse.SUPPRESS)
    parser.add_argument("--json", type=Path)
    args = parser.parse_args()
    if args.one:
        name, count = args.one
        print(json.dumps(measure(name, args.photos, args.folder / count, int(count))))
        return
    from dalipipe.sources import index_folder

    figures: dict[str, dict[str, Any]] = {}
    for count in (args.few, args.many):
        if {"listed", "indexed", "torch"} & set(args.only):
            index_folder(make_folder(args.photos, args.folder, count))
    for name in args.only:
        for count in (args.few, args.many, *([args.most] if "synthetic" in name else [])):
            command = [sys.executable, __file__, str(args.photos), "--folder", str(args.folder), "--one", name]
            done = subprocess.run([*command, str(count)], stdout=subprocess.PIPE, text=True, check=True)
            figures[f"{name} {count}"] = json.loads(done.stdout)
            print(name, count, figures[f"{name} {count}"], flush=True)
    print(table(figures))
    if args.json is not None:
        git = subprocess.run(["git", "rev-parse", "HEAD"], capture_output=True, text=True, check=False)
        whole = {
            "date": datetime.now(UTC).isoformat(timespec="seconds"),
            "commit": git.stdout.strip(),
            "machine": {"cpu": platform.processor() or platform.machine(), "cpus": os.cpu_count()},
            "batch_size": BATCH,
            "figures": figures,
        }
        args.json.write_text(json.dumps(whole, indent=2) + "\n", encoding="utf-8")


if __name__ == "__main__":
    main()
