"""Whether networks learn the same whatever loads the images, and what augmentation, freezing and stopping bring.

    python -m bench.learning HYMENOPTERA CACHE

HYMENOPTERA is the folder of ants and bees (train and val) of PyTorch's transfer-learning tutorial. Each finished run is
kept as a file in CACHE, so that the command can be interrupted, and goes on when it is given again; when no run is
missing it writes bench/results/learning.json. Sizes are chosen for two CPU cores: about ten minutes.
"""

from __future__ import annotations

import argparse
import json
import os
import platform
import tempfile
import time
from dataclasses import dataclass, field
from importlib.metadata import version
from pathlib import Path
from typing import Any

from dalipipe import samples
from dalipipe.training.config import TrainConfig

ROOT = Path(__file__).resolve().parents[1]
RESULTS = ROOT / "bench" / "results" / "learning.json"

BACKENDS = ("dali-cpu", "dali-cpu-stock", "torchvision")
CONTROLS = ("other rounding", "other seed")
MODELS = ("resnet18", "vgg11_bn")
SEEDS = (0, 1, 2)
SIDE_PX = 64
PATIENCE = 3
KEPT = ("epoch", "train_loss", "train_acc", "val_loss", "val_acc")

_NORMALIZE = '[[ops]]\nop = "Normalize"\nmean = [0.485, 0.456, 0.406]\nstd = [0.229, 0.224, 0.225]\n'
_CENTRE = f'[[ops]]\nop = "Resize"\nsize = 73\n[[ops]]\nop = "CenterCrop"\nsize = {SIDE_PX}\n'
RECIPES = {
    "augmented": f'[[ops]]\nop = "RandomResizedCrop"\nsize = {SIDE_PX}\nscale = [0.35, 1.0]\n'
    f'[[ops]]\nop = "RandomHorizontalFlip"\n{_NORMALIZE}',
    "plain": _CENTRE + _NORMALIZE,
}
"""What the runs train with; all of them are validated with "plain"."""

SETS = {
    "small": {"train": 60, "val": 80, "size": (160, 120), "seed": 0},
    "few": {"train": 24, "val": 80, "size": (160, 120), "seed": 2},
    "other": {"train": 240, "val": 40, "size": (160, 120), "seed": 1},
}
"""The generated pictures: those to be told apart, and ("other") those that a backbone is trained on before."""


@dataclass(frozen=True)
class Run:
    """One training.

    Attributes:
        name: Of its file in the cache.
        data: "hymenoptera" or one of `SETS`.
        recipe: One of `RECIPES`.
        options: Of the training, beside the common ones.
        start: Name of the run whose kept network it starts from; empty for random weights.
        threads: Of torch: sums are rounded differently with another number; None for its own choice.
    """

    name: str
    data: str
    recipe: str = "augmented"
    options: dict[str, Any] = field(default_factory=dict)
    start: str = ""
    threads: int | None = None


def plan() -> list[Run]:
    """Return every run, in an order in which each comes after the one that it starts from."""
    short = {"epochs": 5, "batch_size": 32, "lr": 0.002}
    runs = []
    for model in MODELS:
        options = {**short, "model": model, "head": "gap" if model.startswith("vgg") else "linear"}
        runs += [
            Run(f"{model} {backend}", "hymenoptera", options={**options, "backend": backend}) for backend in BACKENDS
        ]
        reference = {**options, "backend": "torchvision"}
        runs.append(Run(f"{model} other rounding", "hymenoptera", options=reference, threads=1))
        runs.append(Run(f"{model} other seed", "hymenoptera", options={**reference, "seed": 1}))
    long = {"epochs": 15, "batch_size": 8, "lr": 0.003}
    backbone = "backbone"  # of a seed of its own, or a new head would be the very one that it once began with
    runs.append(Run(backbone, "other", options={"epochs": 6, "batch_size": 16, "lr": 0.01, "seed": 100}))
    for seed in SEEDS:
        tuned = {"epochs": 8, "batch_size": 8, "lr": 0.003, "seed": seed}
        runs += [
            Run(f"augmented {seed}", "small", options={**long, "seed": seed}),
            Run(f"plain {seed}", "small", "plain", {**long, "seed": seed}),
            Run(f"frozen {seed}", "few", options={**tuned, "freeze": "backbone"}, start=backbone),
            Run(f"full {seed}", "few", options=tuned, start=backbone),
        ]
    return runs


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("hymenoptera", type=Path)
    parser.add_argument("cache", type=Path)
    parser.add_argument("--minutes", type=float, default=1e9, help="begin no further run after so long")
    arguments = parser.parse_args()
    arguments.cache.mkdir(parents=True, exist_ok=True)
    began = time.monotonic()
    runs = plan()
    for number, run in enumerate(runs, 1):
        file = _file(arguments.cache, run.name)
        if file.exists():
            continue
        if time.monotonic() - began > 60 * arguments.minutes:
            print(f"{number - 1} of {len(runs)} runs are there; give the command again for the rest", flush=True)
            return
        result = carry_out(run, arguments.cache, arguments.hymenoptera)
        file.write_text(json.dumps(result), encoding="utf-8")
        print(f"{number} of {len(runs)}: {run.name}, {result['seconds']:.0f} s", flush=True)
    found = {run.name: json.loads(_file(arguments.cache, run.name).read_text(encoding="utf-8")) for run in runs}
    RESULTS.write_text(json.dumps(collect(found), indent=1) + "\n", encoding="utf-8")
    print(f"wrote {RESULTS}; now: python -m bench.learning_report")


def _file(cache: Path, name: str) -> Path:
    return cache / f"{name.replace(' ', '_')}.json"


def carry_out(run: Run, cache: Path, hymenoptera: Path) -> dict[str, Any]:
    """Do a run and return its epochs; the network of a run that others start from stays in the cache."""
    import torch

    from dalipipe.training.run.loop import train

    torch.set_num_threads(run.threads or os.cpu_count() or 1)
    data = hymenoptera if run.data == "hymenoptera" else _pictures(run.data, cache)
    for name, ops in RECIPES.items():
        text = f'name = "{name}"\nevaluation = "plain.toml"\n{ops}' if name != "plain" else f'name = "plain"\n{ops}'
        (cache / f"{name}.toml").write_text(text, encoding="utf-8")
    weights = str(cache / f"{run.start}.pt") if run.start else "none"
    common = {"recipe": str(cache / f"{run.recipe}.toml"), "patience": 0, "report": False, "backend": "dali-cpu"}
    began = time.monotonic()
    with tempfile.TemporaryDirectory() as folder:
        output = Path(folder, "run")
        train(TrainConfig(**{**common, "data": data, "weights": weights, "output": output, **run.options}))
        lines = (output / "metrics.jsonl").read_text(encoding="utf-8").splitlines()
        if any(other.start == run.name for other in plan()):
            (cache / f"{run.name}.pt").write_bytes((output / "best.pt").read_bytes())
    rows = [{name: row[name] for name in KEPT} for row in map(json.loads, lines)]
    return {"data": run.data, "options": run.options, "epochs": rows, "seconds": time.monotonic() - began}


def _pictures(name: str, cache: Path) -> Path:
    """Return a generated set; the classes of "other" get other names, so that a head is never taken over."""
    root = samples.ensure(cache, **SETS[name])  # type: ignore[arg-type]
    if name != "other":
        return root
    renamed = cache / "other"
    for folder in sorted(root.glob("*/*")):
        if folder.is_dir():
            link = renamed / folder.parent.name / f"other {folder.name}"
            link.parent.mkdir(parents=True, exist_ok=True)
            if not link.exists():
                link.symlink_to(folder.absolute(), target_is_directory=True)
    return renamed


def collect(found: dict[str, dict[str, Any]]) -> dict[str, Any]:
    """Return what learning.json holds: the epochs of every run, and where and with what they ran."""
    curves = {model: {name: found[f"{model} {name}"]["epochs"] for name in (*BACKENDS, *CONTROLS)} for model in MODELS}
    study = {
        kind: {str(seed): found[f"{kind} {seed}"]["epochs"] for seed in SEEDS}
        for kind in ("augmented", "plain", "frozen", "full")
    }
    packages = ("torch", "torchvision", "nvidia-dali-cuda120")
    return {
        "date": time.strftime("%Y-%m-%d"),
        "environment": {
            "cpus": os.cpu_count(),
            "machine": platform.machine(),
            "versions": {name: version(name) for name in packages},
        },
        "settings": {"side_px": SIDE_PX, "patience": PATIENCE, "seeds": list(SEEDS), "sets": SETS},
        "options": {name: run["options"] for name, run in found.items()},
        "curves": curves,
        "study": study,
    }


if __name__ == "__main__":
    main()
