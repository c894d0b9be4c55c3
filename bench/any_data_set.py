"""What asking a data set costs, and what its views and steps of its own give, as ratios within one run.

    direct      files and labels known, one recipe: the loader goes to the files
    own         a data set over paths, which is asked for its samples
    asking      of that, what the data set's own code takes, in microseconds a sample; nothing is decoded meanwhile
    two views   a data set that gives two crops of each image, decoded once; beside two loaders of one crop
    own step    a Compose whose last step is a function of the user's, beside torch's loader with as many processes

Loaders take turns, epoch by epoch, so that a disturbance of the machine strikes all. A figure is the median of the
epochs, its spread the smallest and the largest; a ratio is that of one turn. The first turn is not counted.

    PYTHONPATH=. python bench/any_data_set.py PHOTOS --json bench/results/any_data_set.json
"""

import argparse
import json
import os
import platform
import statistics
import subprocess
import sys
import time
from collections.abc import Callable
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import numpy as np
import torch
from PIL import Image
from torch.utils.data import DataLoader as TorchLoader
from torch.utils.data import Dataset
from torchvision import transforms

import dalipipe
from dalipipe.sources.derived import SampleSource

BATCH = 64
COPIES = 3  # of the list of photos, for an epoch that is long enough
CROP = transforms.Compose(
    [
        transforms.RandomResizedCrop(224),
        transforms.RandomHorizontalFlip(),
        transforms.ToTensor(),
        transforms.Normalize((0.5,) * 3, (0.25,) * 3),
    ]
)


def brighter(image: torch.Tensor) -> torch.Tensor:
    """Return an image a tenth brighter: a step that no recipe has."""
    return image * 1.1


class Photos(Dataset[Any]):
    """A data set as people write it: paths, and a transform that is called once or twice."""

    def __init__(self, paths: list[str], transform: Callable[[Any], Any], views: int = 1) -> None:
        self.paths, self.transform, self.views = paths, transform, views

    def __len__(self) -> int:
        return len(self.paths)

    def __getitem__(self, index: int) -> tuple[Any, int]:
        image = Image.open(self.paths[index]).convert("RGB")
        made = [self.transform(image) for _ in range(self.views)]
        return (made[0] if self.views == 1 else made), index % 2


def loaders(paths: list[str], threads: int, backend: str) -> dict[str, Any]:
    """Return the loaders that take turns."""
    labels = np.arange(len(paths), dtype=np.int64) % 2
    usual = {"batch_size": BATCH, "num_threads": threads, "backend": backend, "seed": 1}
    last = transforms.Compose([*CROP.transforms, transforms.Lambda(brighter)])
    files = SampleSource(paths, labels, ("even", "odd"))
    return {
        "direct": dalipipe.DataLoader(files, recipe=dalipipe.Recipe.from_torchvision(CROP), **usual),
        "own": dalipipe.DataLoader(Photos(paths, CROP), **usual),
        "two views": dalipipe.DataLoader(Photos(paths, CROP, views=2), **usual),
        "own step": dalipipe.DataLoader(Photos(paths, last), **usual),
        "own step, torch": TorchLoader(Photos(paths, last), BATCH, num_workers=threads, persistent_workers=True),
    }


def images_per_s(loader: Any, count: int) -> float:
    """Return how many samples an epoch gives each second."""
    began = time.perf_counter()
    for _ in loader:
        pass
    return count / (time.perf_counter() - began)


def over(ones: list[float], others: list[float]) -> list[float]:
    """Return the ratio of each turn."""
    return [one / other for one, other in zip(ones, others, strict=True)]


def told(values: list[float], digits: int = 0) -> dict[str, float]:
    """Return the median and the spread."""
    return {
        "median": round(statistics.median(values), digits),
        "least": round(min(values), digits),
        "most": round(max(values), digits),
    }


def main() -> None:
    """Measure, print a table and write the figures."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("photos", type=Path, help="a folder of JPEG files, any deep")
    parser.add_argument("--turns", type=int, default=9)
    parser.add_argument("--threads", type=int, default=len(os.sched_getaffinity(0)))
    parser.add_argument("--backend", default="dali-cpu")
    parser.add_argument("--json", type=Path)
    args = parser.parse_args()
    paths = sorted(str(path) for path in args.photos.rglob("*.jpg")) * COPIES
    if not paths:
        sys.exit(f"{args.photos}: holds no .jpg file. Give a folder of photos.")
    torch.set_num_threads(1)
    contenders = loaders(paths, args.threads, args.backend)
    rates: dict[str, list[float]] = {name: [] for name in contenders}
    asking: list[float] = []
    for turn in range(args.turns + 1):
        for name, loader in contenders.items():
            rate = images_per_s(loader, len(paths))
            if turn:
                rates[name].append(rate)
        line = contenders["own"].explain().splitlines()[0]
        asking.append(1000 * float(line.split(" takes ")[1].split(" ms")[0]))
    ratios = {
        "own over direct": [own / direct for own, direct in zip(rates["own"], rates["direct"], strict=True)],
        "two views over two loaders": [
            2 * two / one for two, one in zip(rates["two views"], rates["own"], strict=True)
        ],
        "own step over torch": [a / b for a, b in zip(rates["own step"], rates["own step, torch"], strict=True)],
    }
    for name, values in rates.items():
        print(f"{name:28} {told(values)} images/s")
    for name, values in ratios.items():
        print(f"{name:28} {told(values, 2)}")
    print(f"{'asking':28} {asking[-1]:.0f} us a sample, the mean of all epochs")
    if args.json is not None:
        commit = subprocess.run(
            ["git", "rev-parse", "HEAD"], capture_output=True, text=True, check=False
        ).stdout.strip()
        figures = {
            "date": datetime.now(UTC).isoformat(timespec="seconds"),
            "commit": commit,
            "machine": {"cpu": platform.processor() or platform.machine(), "threads": args.threads},
            "versions": {"python": platform.python_version(), "torch": torch.__version__},
            "backend": args.backend,
            "photos": len(paths),
            "turns": args.turns,
            "images_per_s": {name: told(values) for name, values in rates.items()},
            "ratios": {name: told(values, 2) for name, values in ratios.items()},
            "asking_us": round(asking[-1]),
        }
        args.json.write_text(json.dumps(figures, indent=2) + "\n", encoding="utf-8")
    for loader in contenders.values():
        if hasattr(loader, "close"):
            loader.close()


if __name__ == "__main__":
    main()
