"""The page of differences, dalipipe/backends/README.md: made from the tolerances and the tables of the backends.

`python -m dalipipe.parity.page` writes it anew.
"""

from __future__ import annotations

from pathlib import Path
from typing import Any, Final, Literal

from dalipipe.backends.dali import LOWERINGS
from dalipipe.ops import OPS, Container
from dalipipe.parity.tolerances import FAMILIES, MEASURED, TOLERANCES, Tolerance, family_of

PAGE: Final = Path(__file__).parents[1] / "backends" / "README.md"

Reading = Literal["as the reference", "another way", "refused"]

FILES: Final[dict[str, tuple[Reading, str]]] = {
    "JPEG, progressive, grey, CMYK": ("as the reference", "pixel by pixel on the CPU"),
    "PNG, palette, alpha, one bit": ("as the reference", "alpha is dropped"),
    "BMP, TIFF, PNM, JPEG 2000, WebP": ("as the reference", ""),
    "animated PNG": ("as the reference", "its first picture"),
    "EXIF orientation": ("as the reference", "ignored, as ImageFolder ignores it"),
    "EXIF orientation, `apply_exif_orientation = true` in the recipe": (
        "as the reference",
        "JPEG and PNG are turned as their camera noted it; the image is then decoded whole",
    ),
    "16-bit PNG and TIFF": (
        "another way",
        "DALI keeps the upper 8 bits; Pillow, and so the reference, makes all but the darkest levels white",
    ),
    "GIF, animated or not": ("refused", "a bad file on DALI's backends; the reference takes its first picture"),
    "animated WebP": ("refused", "a bad file on DALI's backends; the reference takes its first picture"),
    "WebP in its extended form: lossy with alpha, or with Exif": (
        "refused",
        "a bad file on DALI's backends; the reference reads it",
    ),
    "TIFF with an orientation other than upright": ("refused", "a bad file on DALI's backends; the reference reads it"),
}
"""Kinds of files: how DALI's CPU backends read them, and what is to be said of it."""


def page() -> str:
    """Return the page as Markdown."""
    lines = [
        "# How far the backends are from torchvision",
        "",
        "Made by `python -m dalipipe.parity.page` from the tables that the tests use. Differences are in levels of",
        "255; `dalipipe parity` measures them on your images. Those of dali-gpu are expected: no GPU has run it yet.",
        "",
        "## Ops",
        "",
        f"| Op | What it does to pixels | {' | '.join(MEASURED)} |",
        "| --- | --- |" + " --- |" * len(MEASURED),
        *(_row(name) for name in OPS),
        "",
        "## Tolerances",
        "",
        "| What is done | Backend | Greatest | Mean | Why |",
        "| --- | --- | --- | --- | --- |",
        *(
            f"| {FAMILIES[family]} | {backend} | {limit.max_abs:g} | {limit.mean_abs:g} | {_reason(limit)} |"
            for family, limits in TOLERANCES.items()
            for backend, limit in limits.items()
        ),
        "",
        "## Files",
        "",
        "| File | dali-cpu, dali-cpu-stock | |",
        "| --- | --- | --- |",
        *(f"| {kind} | {reading} | {note} |" for kind, (reading, note) in FILES.items()),
        "",
    ]
    return "\n".join(lines)


def _row(name: str) -> str:
    model = OPS[name]
    if issubclass(model, Container):
        return f"| {name} | what the ops within it do |" + " as they |" * len(MEASURED)
    held = model.stage != "pixels" or model in LOWERINGS
    cells = " | ".join("yes" if backend == "dali-cpu" or held else "refused" for backend in MEASURED)
    return f"| {name} | {_kind(name)} | {cells} |"


def _kind(name: str) -> str:
    model: Any = OPS[name]  # made without its arguments, which no family depends on
    if "interpolation" in model.model_fields and name not in ("Resize", "RandomResizedCrop"):
        ways = [model.model_construct(interpolation=way) for way in ("nearest", "bilinear")]
        return "; ".join(FAMILIES[family_of(op)] for op in ways)
    return FAMILIES[family_of(model.model_construct())]


def _reason(limit: Tolerance) -> str:
    return limit.because.replace("|", "/")


if __name__ == "__main__":
    PAGE.write_text(page(), encoding="utf-8")
