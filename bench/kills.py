"""Kills a training with SIGKILL at random moments, again and again, and compares what it comes to with one left alone.

    python -m bench.kills --kills 50

A ResNet-18 learns generated pictures. Each kill is a real one, of a process of its own; the next process goes on with
`resume`. A run that gets to its end is compared, weights bit for bit and metrics.jsonl byte for byte, and another one
begins, until there were enough kills. The exit status is 1 if anything differs.
"""

import argparse
import multiprocessing
import random
import shutil
import sys
import tempfile
import time
from pathlib import Path
from typing import Any

RECIPE = """
name = "kills"
[[ops]]
op = "RandomResizedCrop"
size = 48
[[ops]]
op = "RandomHorizontalFlip"
[[ops]]
op = "Normalize"
mean = [0.5]
std = [0.25]
"""

OPTIONS = {"weights": "none", "model": "resnet18", "epochs": 5, "batch_size": 8, "report": False, "patience": 0,
           "ema": 0.9, "mixup": 0.2, "balance": "sampler", "optimizer": "adamw", "accumulate": 2, "threads": 2,
           "checkpoint_every": "2"}  # fmt: skip


def work(options: dict[str, Any]) -> None:
    """Train, in a process of its own."""
    import torch

    from dalipipe.training import TrainConfig
    from dalipipe.training.run.loop import train

    torch.set_num_threads(1)
    train(TrainConfig(**options))


def difference(one: Path, other: Path) -> str:
    """Return what differs between the results of two runs; nothing if they are the same."""
    import torch

    from dalipipe.training.network.checkpoint import load_checkpoint

    if (one / "metrics.jsonl").read_bytes() != (other / "metrics.jsonl").read_bytes():
        return "metrics.jsonl"
    for name in ("last.pt", "best.pt"):
        first, second = (load_checkpoint(folder / name) for folder in (one, other))
        same = first.state_dict.keys() == second.state_dict.keys() and first.metrics == second.metrics
        if not same or not all(torch.equal(tensor, second.state_dict[key]) for key, tensor in first.state_dict.items()):
            return name
    return ""


def place(output: Path) -> str:
    """Return where a killed run stands: its newest checkpoint, and files that were being written."""
    checkpoints = sorted(path.stem for path in output.glob("checkpoints/*.pt"))
    half = sorted(path.name for path in output.rglob("*.tmp"))
    newest = checkpoints[-1] if checkpoints else "no checkpoint"
    return f"{newest}, half written: {', '.join(half)}" if half else newest


def campaign(folder: Path, kills: int, rng: random.Random, backend: str) -> tuple[int, list[str]]:
    """Return how many runs got to their end, and for each that differed what did.

    Args:
        folder: For pictures and runs.
        kills: How many.
        rng: Chooses the moments.
        backend: Of the loader.
    """
    from dalipipe import samples

    (folder / "kills.toml").write_text(RECIPE, encoding="utf-8")
    data = samples.ensure(folder / "pictures", train=72, val=24, size=(67, 59))
    options = {**OPTIONS, "data": str(data), "recipe": str(folder / "kills.toml"), "backend": backend}
    context = multiprocessing.get_context("forkserver")  # so that a process begins within moments
    context.set_forkserver_preload(["dalipipe.training.run.loop", "torchmetrics.functional"])

    def start(name: str) -> Any:
        process = context.Process(target=work, args=({**options, "output": str(folder / name), "resume": True},))
        process.start()
        return process

    start("warm-up").join()  # compiles kernels
    began = time.monotonic()
    start("whole").join()
    whole_s = time.monotonic() - began
    print(f"left alone: {whole_s:.1f} s", flush=True)
    done, finished, wrong = 0, 0, []
    while True:
        process = start("run")
        process.join(rng.uniform(0, whole_s) if done < kills else None)
        if process.is_alive():
            process.kill()
            process.join()
            done += 1
            print(f"kill {done}: {place(folder / 'run')}", flush=True)
            continue
        finished += 1
        found = f"exit status {process.exitcode}" if process.exitcode else difference(folder / "run", folder / "whole")
        wrong += [found] if found else []
        print(f"run {finished}: {found or 'the same, bit for bit'}", flush=True)
        shutil.rmtree(folder / "run")
        if done >= kills:
            return finished, wrong


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--kills", type=int, default=20)
    parser.add_argument("--seed", type=int, default=time.time_ns() % 2**32, help="Of the moments.")
    parser.add_argument("--backend", default="dali-cpu")
    given = parser.parse_args()
    with tempfile.TemporaryDirectory() as folder:
        finished, wrong = campaign(Path(folder), given.kills, random.Random(given.seed), given.backend)
    print(f"{given.kills} kills (seed {given.seed}, {given.backend}), {finished} runs to the end, {len(wrong)} differ")
    sys.exit(1 if wrong else 0)


if __name__ == "__main__":
    main()
