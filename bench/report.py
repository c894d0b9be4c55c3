"""Makes the table and the picture of speed from the committed results.

    python -m bench.report

It replaces what is between the markers in bench/README.md (all of it) and in README.md (the picture, with its
conditions), and draws bench/results/cpu.png.
"""

from __future__ import annotations

import hashlib
import json
import statistics
from dataclasses import dataclass
from pathlib import Path
from typing import Any

ROOT = Path(__file__).resolve().parents[1]
README = ROOT / "README.md"
PAGE = ROOT / "bench" / "README.md"
RESULTS = ROOT / "bench" / "results" / "cpu.json"
BEGIN, END = "<!-- from bench/results/cpu.json: begin -->", "<!-- end -->"
BASE = "torchvision-pil"

LOADERS = {
    'dali-cpu, cache="ram"': '`dali-cpu`, `cache="ram"`',
    "dali-cpu": "`dali-cpu`",
    "dali-cpu-stock": "`dali-cpu-stock`",
    "FFCV, raw": "FFCV, raw pixels",
    "FFCV, JPEG": "FFCV, JPEG",
    "tf.data": "tf.data",
    "SPDL": "SPDL",
    "torchvision-tensor": "PyTorch `DataLoader`, torchvision on tensors",
    BASE: "PyTorch `DataLoader`, Pillow",
    "WebDataset": "WebDataset, Pillow",
    "decode-only": "decoding alone, by DALI: the ceiling",
}
"""The loaders that are compared, and how the pages call them."""

_OTHER_THREADS = "dali-cpu, 1 thread"


@dataclass(frozen=True)
class Speed:
    """Images per second of a loader over the rounds: the number of threads or workers with the best median."""

    median: float
    low: float
    high: float
    threads: int


def speeds(scene: dict[str, Any]) -> dict[str, Speed]:
    """Return the speed of each contender of a scene; torchvision's under one name, with its best number of workers."""
    found: dict[str, Speed] = {}
    for one in scene["contenders"]:
        if one["refused"]:
            continue
        label = one["subject"] if one["subject"].startswith("torchvision-") else one["label"]
        rates = [stretch["images"] / stretch["wall_s"] for stretch in one["rounds"]]
        speed = Speed(statistics.median(rates), min(rates), max(rates), one["threads"])
        if label not in found or speed.median > found[label].median:
            found[label] = speed
    return found


def render(result: dict[str, Any]) -> str:
    """Return what bench/README.md says of the results, in Markdown."""
    scenes = {scene["name"]: (scene, speeds(scene)) for scene in result["scenes"]}
    first = next(iter(scenes))
    heads = [_head(scene) for scene, _ in scenes.values()]
    rows = [f"| images per second | {' | '.join(heads)} |", f"| --- |{' ---: |' * len(heads)}"]
    main = scenes[first][1]
    for label in sorted((one for one in LOADERS if one in main), key=lambda one: -main[one].median) + [
        one for one in LOADERS if one not in main
    ]:
        cells = [_cell(found, label) for _, found in scenes.values()]
        if any(cells):
            rows.append(f"| {LOADERS[label]} | {' | '.join(cells)} |")
    return "\n".join([*rows, "", *_words(result, main), "", "![The same as a picture](results/cpu.png)"])


def render_short(result: dict[str, Any]) -> str:
    """Return what README.md says of the results: the picture, and under which conditions it was made."""
    settings, machine = result["settings"], result["environment"]
    main = speeds(result["scenes"][0])
    lines = ["![Images per second of dalipipe and other loaders](bench/results/cpu.png)", ""]
    lines.append(
        f"{result['scenes'][0]['images']} photos, random crop to 224 px, flip, normalised; "
        f"{settings['threads']} threads or worker processes each; medians of {settings['rounds']} rounds in one run. "
        f"{machine['cpu']}, {machine['cpus']} CPUs, {result['date']}."
    )
    if "dali-cpu" in main and BASE in main:
        ratio = main["dali-cpu"].median / main[BASE].median
        lines.append(f"`dali-cpu` gave {ratio:.1f} times as many images as PyTorch's loader.")
    lines.append("[Method and all results](bench/README.md).")
    return "\n".join(lines)


def _head(scene: dict[str, Any]) -> str:
    size = "as they are" if scene["longest_px"] is None else f"longest side {scene['longest_px']} px"
    return f"{size}, {scene['mean_kb']:.0f} KB"


def _cell(found: dict[str, Speed], label: str) -> str:
    if label not in found:
        return ""
    speed = f"{found[label].median:,.0f}"
    return f"{speed} (×{found[label].median / found[BASE].median:.1f})" if BASE in found else speed


def _words(result: dict[str, Any], main: dict[str, Speed]) -> list[str]:
    settings, machine, scene = result["settings"], result["environment"], result["scenes"][0]
    contenders = [one for each in result["scenes"] for one in each["contenders"]]
    versions = {name: version for one in contenders for name, version in one["versions"].items()}
    shown = {"ffcv": "FFCV", "tensorflow-cpu": "TensorFlow", "webdataset": "WebDataset", "spdl": "SPDL"}
    ours = {"torch": "PyTorch", "torchvision": "torchvision", "nvidia-dali-cuda120": "DALI"}
    listed = [f"{title} {machine['versions'][name]}" for name, title in ours.items()]
    listed += [f"{title} {versions[name]}" for name, title in shown.items() if name in versions]
    own = result["own"]
    lines = [
        f"In brackets: how many times as fast as PyTorch's `DataLoader` with Pillow. {scene['images']} photos of "
        f"{scene['mean_mp']:.2f} megapixels on average; random crop to 224 px, flip, normalised to float32, batches of "
        f"{settings['batch_size']}; {settings['threads']} threads or worker processes each, PyTorch's `DataLoader` "
        "with the best of 1 to 3 (with 2 for the smaller images). Medians of "
        f"{settings['rounds']} rounds of at least {settings['seconds']:g} s, "
        f"taken in turns, the wait for the first batch included. {machine['cpu']}, {machine['cpus']} CPUs, "
        f"{result['date']}, commit {result['commit']}; {', '.join(listed)}. [All figures](results/cpu.json).",
        "",
        "- FFCV reads a file of its own that was written beforehand, JPEG images at its default quality of 90; its "
        "pipeline was compiled beforehand too. tf.data resizes without antialiasing.",
        '- `cache="ram"` is what the second and later epochs are like.',
    ]
    fused, stock = main.get("dali-cpu, small-data"), main.get("dali-cpu-stock, small-data")
    if fused and stock:
        lines.append(
            f"- With `small-data`, which rotates: `dali-cpu` {fused.median:,.0f}, `dali-cpu-stock` {stock.median:,.0f}."
        )
    if _OTHER_THREADS in main and "dali-cpu" in main:
        lines.append(
            f"- With 1 thread `dali-cpu` gives {main[_OTHER_THREADS].median:,.0f}; the {settings['threads']} threads "
            f"above give {main['dali-cpu'].median / main[_OTHER_THREADS].median:.1f} times as much."
        )
    feed, start = own["feed_ms_per_batch"], own["start_s"]
    lines.append(
        f"- A batch costs the training thread {feed['median']:.2f} ms of Python. From the start of Python to the first "
        f"batch: {start['warm']:.1f} s, and {start['cold']:.0f} s the first time on a machine, when the kernels are "
        "compiled."
    )
    return lines


def digest(result: dict[str, Any]) -> str:
    """Return what tells a picture of these results from one of others."""
    return hashlib.sha256(json.dumps(result, sort_keys=True).encode()).hexdigest()[:16]


def draw(result: dict[str, Any], path: Path) -> None:
    """Draw the speeds, a panel for each scene: a bar to the median, a line from the slowest round to the fastest."""
    from matplotlib.backends.backend_agg import FigureCanvasAgg
    from matplotlib.figure import Figure

    scenes = result["scenes"]
    figure = Figure(figsize=(11, 4.6), layout="constrained")
    FigureCanvasAgg(figure)
    for axes, scene in zip(figure.subplots(1, len(scenes)), scenes, strict=True):
        found = {label: speed for label, speed in speeds(scene).items() if label in LOADERS}
        labels = sorted(found, key=lambda label: found[label].median)
        middle = [found[label].median for label in labels]
        ordered = [found[label] for label in labels]
        ends = [[one.median - one.low for one in ordered], [one.high - one.median for one in ordered]]
        colors = [_color(label) for label in labels]
        bars = axes.barh(labels, middle, xerr=ends, color=colors, ecolor="#333333", capsize=2)
        axes.bar_label(bars, [f"{value:,.0f}" for value in middle], padding=5, fontsize=8)
        axes.set_title(_head(scene), fontsize=10)
        axes.set_xlim(0, 1.25 * max(found[label].high for label in labels))
        axes.spines[["top", "right"]].set_visible(False)
        axes.tick_params(labelsize=8)
    settings = result["settings"]
    figure.supxlabel(
        f"images per second, {settings['threads']} threads or workers, {result['environment']['cpu']} "
        "(median; the line goes from the slowest round to the fastest)",
        fontsize=9,
    )
    figure.savefig(path, dpi=150, metadata={"Description": digest(result)})


def _color(label: str) -> str:
    if label == "decode-only":
        return "#bbbbbb"
    return "#4c78a8" if label.startswith("dali") else "#e8a54b"


def between(page: str, begin: str = BEGIN, end: str = END) -> str:
    """Return what stands between the markers."""
    return page.split(begin)[1].split(end)[0].strip()


def put(path: Path, text: str, begin: str = BEGIN, end: str = END) -> None:
    """Replace what stands between the markers of a page."""
    head, rest = path.read_text(encoding="utf-8").split(begin)
    tail = rest.split(end, 1)[1]
    path.write_text(f"{head}{begin}\n{text}\n{end}{tail}", encoding="utf-8")


def main() -> None:
    result = json.loads(RESULTS.read_text(encoding="utf-8"))
    put(PAGE, render(result))
    put(README, render_short(result))
    draw(result, RESULTS.with_suffix(".png"))


if __name__ == "__main__":
    main()
