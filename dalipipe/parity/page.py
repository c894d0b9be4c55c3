"""The page of differences, dalipipe/backends/README.md: made from the tolerances and the tables of the backends.

`python -m dalipipe.parity.page` writes it anew.
"""

from __future__ import annotations

from pathlib import Path
from typing import Any, Final

from dalipipe.backends import BACKENDS
from dalipipe.backends.forms import FORMS
from dalipipe.parity.tolerances import MEASURED, TOLERANCES, Tolerance
from dalipipe.recipes.ops import OPS, Container
from dalipipe.recipes.primitives import Family

PAGE: Final = Path(__file__).parents[1] / "backends" / "README.md"

ORIENTATION: Final = (
    "Exif's orientation is ignored, as ImageFolder ignores it. With `apply_exif_orientation = true` in the recipe",
    "JPEG and PNG are turned as their camera noted it, in two bytes or four; the image is then decoded whole. TIFF is",
    "turned as its own tag says either way, since Pillow does that when it loads the file.",
)
REMAINS: Final = (
    "A JPEG whose coded data is damaged, but goes on to its end marker, is a picture to Pillow, and so everywhere. Of",
    "such files about one in a thousand shows other pixels in a window than in the whole, where the damage is.",
)
HUGE: Final = (
    "DALI holds a batch of decoded images. Those beyond 1 GB, and beyond 48 MB a sample of the batch size, go through",
    "afterwards in smaller batches; nothing else of the batch changes. Batches that are prepared ahead, and the",
    "decoders of the threads, take memory besides.",
)
COLLECTIONS: Final[tuple[tuple[str, int, int], ...]] = (
    ("github.com/image-rs/image", 321, 34),
    ("github.com/libvips/libvips", 51, 1),
    ("github.com/python-pillow/Pillow", 711, 44),
)
"""Public collections, how many of their files have ImageFolder's endings, and how many of these Pillow refuses.

All others came with Pillow's pixels on torchvision, dali-cpu (with a cache too) and dali-cpu-stock; no more were
refused.
"""


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
            f"| {family.value} | {backend} | {limit.max_abs:g} | {limit.mean_abs:g} | {_reason(limit)} |"
            for family, limits in TOLERANCES.items()
            for backend, limit in limits.items()
        ),
        "",
        "## Files",
        "",
        "The reference is Pillow: every backend on the CPU gives its pixels, and refuses what it refuses. DALI decodes",
        "what it is known to decode exactly; Pillow decodes everything else, in DALI's threads.",
        "",
        "| File | Decoded by | Why |",
        "| --- | --- | --- |",
        *(f"| {form.what} | {'DALI' if form.dali else 'Pillow'} | {form.why} |" for form in FORMS.values()),
        "",
        *ORIENTATION,
        "",
        "Files of public collections with ImageFolder's endings, as they were in November 2026, whole images beside",
        "Pillow's, on torchvision, dali-cpu (with and without a cache) and dali-cpu-stock:",
        "",
        "| Collection | Files | Refused by Pillow, and so everywhere | Other pixels | Refused besides |",
        "| --- | --- | --- | --- | --- |",
        *(f"| {name} | {files} | {refused} | 0 | 0 |" for name, files, refused in COLLECTIONS),
        "",
        *REMAINS,
        "",
        *HUGE,
        "",
    ]
    return "\n".join(lines)


def _row(name: str) -> str:
    model = OPS[name]
    if issubclass(model, Container):
        return f"| {name} | what the ops within it do |" + " as they |" * len(MEASURED)
    cells = " | ".join("yes" if BACKENDS[backend].has(model) else "refused" for backend in MEASURED)
    return f"| {name} | {_kind(name)} | {cells} |"


def _kind(name: str) -> str:
    model: Any = OPS[name]  # made without its arguments, which no family depends on
    if "interpolation" in model.model_fields and name not in ("Resize", "RandomResizedCrop"):
        ways = [model.model_construct(interpolation=way) for way in ("nearest", "bilinear")]
        return "; ".join(op.family.value for op in ways)
    family: Family = model.model_construct().family
    return family.value


def _reason(limit: Tolerance) -> str:
    return limit.because.replace("|", "/")


if __name__ == "__main__":
    PAGE.write_text(page(), encoding="utf-8")
