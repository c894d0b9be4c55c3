"""Measures dalipipe beside other loaders and writes what was found as JSON.

    python -m bench.run PHOTOS ENVIRONMENTS

PHOTOS is a folder with a folder of images per class; ENVIRONMENTS is what `python -m bench.environments` made. Run it
at the root of the repository, on a machine that does nothing else, then `python -m bench.report`.
"""

from __future__ import annotations

import argparse
import datetime
import json
import os
import subprocess
import sys
import tempfile
import time
from pathlib import Path

from bench import own
from bench.contenders import CONTENDERS, SCENES
from bench.suite import JPEG_QUALITY, Plan, measure, reduce
from dalipipe.benchmark.measure import Settings
from dalipipe.benchmark.report import environment
from dalipipe.errors import DalipipeError
from dalipipe.loading.loader import available_threads

ROOT = Path(__file__).resolve().parents[1]
RESULTS = ROOT / "bench" / "results" / "cpu.json"
SCHEMA = 1


def commit() -> str:
    """Return the commit that is measured, with a plus sign where files differ from it."""

    def git(*arguments: str) -> str:
        return subprocess.run(["git", *arguments], cwd=ROOT, capture_output=True, text=True, check=True).stdout.strip()

    return git("rev-parse", "--short=12", "HEAD") + ("+" if git("status", "--porcelain", "--", "dalipipe") else "")


def parse() -> argparse.Namespace:
    parser = argparse.ArgumentParser(description="Measure dalipipe beside other loaders.")
    parser.add_argument("photos", type=Path)
    parser.add_argument("environments", type=Path)
    parser.add_argument("--out", type=Path, default=RESULTS, help="JSON file (default: %(default)s)")
    parser.add_argument("--threads", type=int, default=2, help="threads or workers of each loader")
    parser.add_argument("--rounds", type=int, default=5, help="timed stretches of each")
    parser.add_argument("--seconds", type=float, default=3.0, help="shortest duration of a stretch")
    parser.add_argument("--images", type=int, default=1000, help="most images of a pass")
    parser.add_argument("--only", action="append", metavar="PART", help="only what has this in its label; repeatable")
    return parser.parse_args()


def main() -> None:
    arguments = parse()
    started = time.monotonic()
    settings = Settings(
        threads=arguments.threads, repetitions=arguments.rounds, seconds=arguments.seconds, images=arguments.images
    )

    def notify(what: str) -> None:
        print(f"{time.monotonic() - started:6.0f} s  {what}", file=sys.stderr, flush=True)

    result = {
        "schema": SCHEMA,
        "date": datetime.datetime.now(datetime.UTC).date().isoformat(),
        "commit": commit(),
        "environment": {**environment(None), "threads_available": available_threads()},
        "settings": {
            "batch_size": settings.batch_size,
            "threads": settings.threads,
            "rounds": settings.repetitions,
            "seconds": settings.seconds,
            "jpeg_quality": JPEG_QUALITY,
        },
        "scenes": [],
    }
    parts = arguments.only or [""]
    with tempfile.TemporaryDirectory(prefix="dalipipe-bench-") as scratch:
        # What the peers write, and the tools that show a bar, go by these.
        os.environ |= {"TMPDIR": scratch, "TQDM_DISABLE": "1"}
        notify("feeding and starting")
        result["own"] = own.measure(arguments.photos, settings.batch_size, settings.threads, settings.repetitions)
        for scene in SCENES:
            root = arguments.photos
            if scene.longest_px is not None:
                root = Path(scratch, f"{scene.longest_px}px")
                reduce(arguments.photos, scene.longest_px, root)
            chosen = [CONTENDERS[label] for label in scene.contenders if any(part in label for part in parts)]
            found = measure(
                root,
                chosen,
                Plan(settings, arguments.environments),
                lambda what, name=scene.name: notify(f"{name}: {what}"),
            )
            result["scenes"].append({"name": scene.name, "longest_px": scene.longest_px, **found})
    arguments.out.parent.mkdir(parents=True, exist_ok=True)
    arguments.out.write_text(json.dumps(result, indent=1, allow_nan=False) + "\n", encoding="utf-8")
    notify(f"written to {arguments.out}")


if __name__ == "__main__":
    try:
        main()
    except DalipipeError as error:
        sys.exit(f"error: {error}")
