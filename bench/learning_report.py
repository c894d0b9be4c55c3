"""Makes the table and the picture of what networks learnt, from the committed results of `bench.learning`.

    python -m bench.learning_report

It replaces what is between the markers in bench/README.md and draws bench/results/learning.png.
"""

from __future__ import annotations

import json
import statistics
from pathlib import Path
from typing import Any

from bench.learning import BACKENDS, CONTROLS, RESULTS
from bench.report import PAGE, digest, put
from dalipipe.training.measures.metrics import EpochMetrics
from dalipipe.training.report.style import BLUE, MUTED, ORANGE, RED, new_figure, style
from dalipipe.training.run.stopping import Stopper

BEGIN, END = "<!-- from bench/results/learning.json: begin -->", "<!-- end of learning -->"

Epochs = list[dict[str, Any]]

KINDS = {
    "augmented": "random crop and flip",
    "plain": "no augmentation",
    "full": "all of it fine-tuned, from the backbone",
    "frozen": "the head alone, on the frozen backbone",
}
"""The four trainings of the study, and how the page calls them."""


LABELS = {
    **{name: f"`{name}`" for name in BACKENDS},
    "other rounding": "`torchvision`, one thread in torch",
    "other seed": "`torchvision`, another seed",
}


def kept(epochs: Epochs) -> dict[str, Any]:
    """Return the epoch with the lowest validation loss, whose network training keeps."""
    return min(epochs, key=lambda row: row["val_loss"])


def stopped(epochs: Epochs, patience: int) -> Epochs:
    """Return the epochs that early stopping would have run: a run that stops has the first epochs of one that doesn't.

    The learning rate falls over the same number of epochs in both.
    """
    stopper = Stopper("val_loss", patience)
    for number, row in enumerate(epochs, 1):
        missing = {name: 0.0 for name in EpochMetrics.__dataclass_fields__ if name not in row}
        stopper.update(EpochMetrics(**row, **missing))
        if stopper.stopped:
            return epochs[:number]
    return epochs


def spread(values: list[float], form: str) -> str:
    """Return mean and, in brackets, least and greatest."""
    low, high = min(values), max(values)
    return f"{statistics.fmean(values):{form}} ({low:{form}} to {high:{form}})"


def gap(one: Epochs, other: Epochs) -> float:
    """Return by how much the training losses of two runs differ in the epoch in which they differ most."""
    return max(abs(a["train_loss"] - b["train_loss"]) for a, b in zip(one, other, strict=True))


def render(result: dict[str, Any]) -> str:
    """Return what bench/README.md says of the results, in Markdown."""
    return "\n".join([*_curves(result), "", *_study(result), "", "![The same as curves](results/learning.png)"])


def _curves(result: dict[str, Any]) -> list[str]:
    lines = [
        "Ants and bees, same seed, random start: mean training loss of each epoch.",
        "",
        "| network | loaded by | " + " | ".join(f"epoch {row['epoch']}" for row in _first(result)) + " |",
        "| --- | --- |" + " ---: |" * len(_first(result)),
    ]
    for model, runs in result["curves"].items():
        for name in (*BACKENDS, *CONTROLS):
            cells = " | ".join(f"{row['train_loss']:.3f}" for row in runs[name])
            lines.append(f"| {model} | {LABELS[name]} | {cells} |")
    words = []
    for model, runs in result["curves"].items():
        dali = max(gap(runs[name], runs["torchvision"]) for name in BACKENDS)
        rounding, seed = (gap(runs[name], runs["torchvision"]) for name in CONTROLS)
        words.append(f"{model} {dali:.3f} (rounding alone {rounding:.3f}, another seed {seed:.3f})")
    return [
        *lines,
        "",
        "The same images, random decisions and first weights; pixels differ a little between backends, and training "
        "amplifies that. By how much shows in the lines with one thread: there the very same images come, and torch "
        f"adds up in another order. The greatest distance from torchvision's curve: {'; '.join(words)}.",
    ]


def _first(result: dict[str, Any]) -> Epochs:
    return next(iter(result["curves"].values()))["torchvision"]  # type: ignore[no-any-return]


def _study(result: dict[str, Any]) -> list[str]:
    settings, machine = result["settings"], result["environment"]
    sets, patience, side = settings["sets"], settings["patience"], settings["side_px"]
    rows = []
    for kind, words in KINDS.items():
        best = [kept(epochs) for epochs in result["study"][kind].values()]
        cells = spread([row["val_acc"] for row in best], ".1%"), spread([row["val_loss"] for row in best], ".3f")
        images = sets["few" if kind in ("frozen", "full") else "small"]["train"]
        rows.append(f"| {words} | {images} | {len(result['study'][kind]['0'])} | {cells[0]} | {cells[1]} |")
    versions = ", ".join(
        f"{title} {machine['versions'][name]}"
        for name, title in {"torch": "PyTorch", "torchvision": "torchvision", "nvidia-dali-cuda120": "DALI"}.items()
    )
    return [
        f"ResNet-18 on generated pictures of four classes, validated on {sets['small']['val']}; mean over "
        f"{len(settings['seeds'])} seeds, in brackets the lowest and the highest. The "
        f"backbone was trained on {sets['other']['train']} other pictures of the same kinds, under other class names.",
        "",
        "| training | images | epochs | accuracy of the kept epoch | its loss |",
        "| --- | ---: | ---: | ---: | ---: |",
        *rows,
        "",
        *[_stopping(result, kind, patience) for kind in ("augmented", "full")],
        "",
        f"{side} px images, {machine['cpus']} CPUs, no GPU, {versions}, {result['date']}. Made by "
        "[bench/learning.py](learning.py); [all figures](results/learning.json).",
    ]


def _stopping(result: dict[str, Any], kind: str, patience: int) -> str:
    """Return a sentence on what stopping early saves and costs."""
    runs = list(result["study"][kind].values())
    short = [stopped(epochs, patience) for epochs in runs]
    lengths = [float(len(epochs)) for epochs in short]
    with_it = statistics.fmean(kept(epochs)["val_acc"] for epochs in short)
    last = statistics.fmean(epochs[-1]["val_acc"] for epochs in runs)
    best = statistics.fmean(kept(epochs)["val_acc"] for epochs in runs)
    short_of_it = " A patience of that is too short there." if best - with_it > 0.05 else ""
    return (
        f"- Early stopping (patience {patience}) in “{KINDS[kind]}”: {spread(lengths, '.0f')} epochs of "
        f"{len(runs[0])}; accuracy {with_it:.1%} with it, {best:.1%} without (of the last epoch, not the kept one: "
        f"{last:.1%}).{short_of_it}"
    )


def draw(result: dict[str, Any], path: Path) -> None:
    """Draw the training losses by backend, and the validation losses of the study."""
    with style():
        figure = new_figure(10.5, 5.6)
        top = figure.subplots(2, 2)
        looks = {
            "dali-cpu": (BLUE, "-", 3.4),
            "dali-cpu-stock": (ORANGE, "-", 2.0),
            "torchvision": ("#1f2933", (0, (2, 2)), 1.4),
            "other rounding": ("#1f2933", "-", 0.8),
            "other seed": (MUTED, (0, (1, 2)), 1.2),
        }
        for axes, (model, runs) in zip(top[0], result["curves"].items(), strict=True):
            for name, (colour, line, width) in looks.items():
                epochs = [row["epoch"] for row in runs[name]]
                losses = [row["train_loss"] for row in runs[name]]
                axes.plot(
                    epochs, losses, color=colour, linestyle=line, linewidth=width, label=LABELS[name].replace("`", "")
                )
            _finish(axes, f"{model} on ants and bees: training loss")
        pairs = (("augmented", "plain"), ("full", "frozen"))
        for axes, kinds in zip(top[1], pairs, strict=True):
            for kind, colour in zip(kinds, (BLUE, RED), strict=True):
                for number, epochs in enumerate(result["study"][kind].values()):
                    axes.plot(
                        [row["epoch"] for row in epochs],
                        [row["val_loss"] for row in epochs],
                        color=colour,
                        linewidth=1.1,
                        alpha=0.85,
                        label=KINDS[kind] if number == 0 else None,
                    )
            _logarithmic(axes)
            _finish(axes, "Generated pictures: validation loss")
        figure.savefig(path, dpi=150, metadata={"Description": digest(result)})


def _logarithmic(axes: Any) -> None:
    from matplotlib.ticker import FuncFormatter, LogLocator, NullLocator

    axes.set_yscale("log")
    axes.yaxis.set_major_locator(LogLocator(subs=(1.0, 2.0, 5.0)))
    axes.yaxis.set_major_formatter(FuncFormatter(lambda value, _: f"{value:g}"))
    axes.yaxis.set_minor_locator(NullLocator())


def _finish(axes: Any, title: str) -> None:
    axes.set_title(title)
    axes.set_xlabel("epoch")
    axes.xaxis.get_major_locator().set_params(integer=True)
    axes.legend(fontsize=8)


def main() -> None:
    result = json.loads(RESULTS.read_text(encoding="utf-8"))
    put(PAGE, render(result), BEGIN, END)
    draw(result, RESULTS.with_suffix(".png"))


if __name__ == "__main__":
    main()
