"""`dalipipe bench`: loaders measured beside each other; a table out."""

from __future__ import annotations

import textwrap
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer
from rich.console import Console
from rich.table import Table
from rich.text import Text

from dalipipe.cli.console import Bar, printable, results
from dalipipe.cli.paths import given_path

if TYPE_CHECKING:
    from dalipipe.benchmark.report import Benchmark, Measured
    from dalipipe.benchmark.training import Training

_WIDTH = 100
_NOISY = 0.15
_CEILING = "decode-only"
_ADVICE = "Compare the ratios: they were taken round by round, so what slows the machine slows all alike."


def register(app: typer.Typer) -> None:
    """Add the command to the app."""
    app.command("bench")(bench)


def bench(
    data: Annotated[
        Path | None,
        typer.Argument(
            parser=given_path,
            metavar="DATA",
            help="Folder that holds a folder of images per class, or train that holds those. "
            "Default: generated demonstration pictures.",
            show_default=False,
        ),
    ] = None,
    recipe: Annotated[
        str, typer.Option("--recipe", help="Augmentation: a name or a TOML file.", metavar="RECIPE")
    ] = "imagenet-train",
    backends: Annotated[
        str, typer.Option("--backends", help="What to measure, with commas between.", metavar="A,B,...")
    ] = "all that run here",
    batch_size: Annotated[int, typer.Option("--batch-size", help="Images per batch.", metavar="N")] = 64,
    threads: Annotated[
        int | None,
        typer.Option(
            "--threads",
            help="Threads of each loader; worker processes of torchvision-pil and -tensor. Default: one per core.",
            metavar="N",
            show_default=False,
        ),
    ] = None,
    repetitions: Annotated[int, typer.Option("--repetitions", help="Timed stretches of each.", metavar="N")] = 5,
    seconds: Annotated[float, typer.Option("--seconds", help="Shortest duration of a stretch.", metavar="S")] = 3.0,
    images: Annotated[
        int, typer.Option("--images", help="Most different images used; drawn at random from DATA.", metavar="N")
    ] = 1000,
    model: Annotated[
        str | None,
        typer.Option(
            "--model",
            help="Also train this ResNet or VGG, alone and fed by a loader: which one limits?",
            metavar="NAME",
            show_default=False,
        ),
    ] = None,
    json: Annotated[
        Path | None,
        typer.Option("--json", parser=given_path, help="Write everything measured to this file.", metavar="FILE"),
    ] = None,
    plot: Annotated[
        Path | None,
        typer.Option(
            "--plot", parser=given_path, help="Draw a chart: .png, .svg or .pdf; needs matplotlib.", metavar="FILE"
        ),
    ] = None,
) -> None:
    """Measure images/s of the loader's backends and of what people use instead."""
    # torch takes seconds to import, which --help should not
    from dalipipe.benchmark import files
    from dalipipe.benchmark.measure import Settings, measure
    from dalipipe.cli.outputs import require_places
    from dalipipe.loading import available_threads

    settings = Settings(
        data=data,
        recipe=recipe,
        backends=() if backends == "all that run here" else tuple(backends.replace(" ", "").strip(",").split(",")),
        batch_size=batch_size,
        threads=available_threads() if threads is None else threads,
        repetitions=repetitions,
        seconds=seconds,
        images=images,
        model=model,
    )
    if plot is not None:
        files.require_plot("--plot", plot)
    require_places({"--json": json, "--plot": plot}, [data, recipe])
    console = results(beside=(json, plot))
    if data is None:
        console.print("No DATA given: measuring on generated demonstration pictures.", markup=False)
    with Bar() as bar:
        benchmark = measure(settings, bar.show)
    show(benchmark, console)
    if json is not None:
        files.write_json(benchmark, json)
        console.print(f"Everything measured is in {printable(json)}.", markup=False)
    if plot is not None:
        files.write_plot(benchmark, plot)
        console.print(f"The chart is in {printable(plot)}.", markup=False)


def show(benchmark: Benchmark, console: Console) -> None:
    """Print a benchmark: what was measured, the table, and how far to trust it."""
    if not console.is_terminal:
        console.width = _WIDTH
    for line in _head(benchmark):
        console.print(line, markup=False)
    console.print(_table(benchmark))
    for line in _foot(benchmark):
        console.print(line, markup=False)


def _head(benchmark: Benchmark) -> list[str]:
    settings, machine, versions = benchmark.settings, benchmark.environment, benchmark.environment["versions"]
    names = {"torch": "torch", "torchvision": "torchvision", "nvidia-dali-cuda120": "DALI", "pillow": "Pillow"}
    libraries = ", ".join(f"{shown} {versions[key]}" for key, shown in names.items() if key in versions)
    return [
        "",
        f"data     {printable(benchmark.data['root'])}: {benchmark.data['images']} images used, "
        f"{benchmark.data['mean_kb']:.0f} KB on average, from memory",
        f"recipe   {settings['recipe']}, batches of {settings['batch_size']}, {settings['threads']} threads or workers",
        f"machine  {machine['cpu']}, {machine['cpus']} CPUs; {machine['gpu'] or 'no GPU used'}",
        f"with     dalipipe {versions['dalipipe']}, {libraries}, Python {versions['python']}",
        f"timed    each {settings['repetitions']} times for {settings['seconds']:g} s or more, in turns",
        "",
    ]


def _table(benchmark: Benchmark) -> Table:
    table = Table(box=None, pad_edge=False, padding=(0, 2, 0, 0))
    table.add_column("backend", no_wrap=True)
    for title in ("img/s", "min to max", "x torchvision-pil", "CPU s per\n1,000 img", "first\nbatch s", "peak\nMB"):
        table.add_column(title, justify="right", no_wrap=True)
    for one in sorted(benchmark.ranking, key=lambda one: one.name == _CEILING):
        table.add_row(one.name, *_cells(benchmark, one))
    for one in benchmark.refused:
        table.add_row(one.name, Text("not ranked", style="bold"))
    return table


def _cells(benchmark: Benchmark, one: Measured) -> list[str]:
    speed, ratio = one.img_per_s, benchmark.ratio(one)
    return [
        f"{speed.median:,.0f}",
        f"{speed.low:,.0f} to {speed.high:,.0f}",
        "" if ratio is None else f"{ratio.median:.2f}",
        f"{one.cpu_s_per_1000.median:.2f}",
        f"{one.first_batch_s.median:.2f}",
        f"{one.peak_memory_mb:,.0f}",
    ]


def _foot(benchmark: Benchmark) -> list[str]:
    lines = [""]
    for one in benchmark.refused:
        because = one.agreement.because if one.agreement else ""
        lines.append(f"{one.name} is not ranked: beside the reference, {because}.")
    if any(one.name == _CEILING for one in benchmark.ranking):
        lines.append("decode-only is the ceiling on a CPU: DALI decodes, and nothing is done with the pixels.")
    spread = benchmark.largest_spread
    rounds = benchmark.settings["repetitions"]
    if rounds == 1:
        lines.append("One repetition says nothing about noise; take the default of 5 before you believe a figure.")
    elif spread > _NOISY:
        lines.append(f"Noisy: one loader's own repetitions lie {spread:.0%} apart. Close other programs and run again.")
    else:
        lines.append(f"Medians of {rounds} repetitions; the repetitions of a loader lie at most {spread:.0%} apart.")
    lines.append(_ADVICE)
    if benchmark.training is not None:
        lines += ["", *_training(benchmark.training, benchmark.settings["batch_size"])]
    return lines


def _training(training: Training, batch_size: int) -> list[str]:
    model, loader, both = (training.img_per_s(part).median for part in ("model", "loader", "both"))
    return [
        f"{training.model} in training on {training.device}, batches of {batch_size}, images per second:",
        f"    model only  {model:,.0f}    {training.loader} only  {loader:,.0f}    both together  {both:,.0f}",
        *textwrap.wrap(training.verdict, _WIDTH),
    ]
