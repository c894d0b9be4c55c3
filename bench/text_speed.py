"""Sentences per second of dalipipe.text beside nlpaug, on the same operations, on one core.

Both libraries run in this process, in turns batch by batch, so that a disturbance of the machine strikes both. A figure
is the median of the repetitions, the spread the smallest and the largest; a ratio is that of one repetition. Random
numbers are new in each, as they are in a training.

    swap, delete, replace   nlpaug's RandomWordAug; `replace` draws from the same list of words
    insert                  nlpaug's TfIdfAug(action="insert"), trained on the same sentences: its only insertion that
                            needs no network of its own; its words come by tf-idf, dalipipe's by frequency
    text-eda                dalipipe's recipe against nlpaug's four, one of them for each sentence, in one call each

Each operation is done to a tenth of the words, at least one. They are not the same to the letter: nlpaug swaps
neighbours, aligns capitals, and takes white space apart differently.

    python -m venv /tmp/text-speed && /tmp/text-speed/bin/pip install nlpaug==1.1.11 numpy pydantic tomli_w
    PYTHONPATH=. /tmp/text-speed/bin/python bench/text_speed.py --json bench/results/text_speed.json
"""

import argparse
import json
import os
import platform
import random
import statistics
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable
from datetime import UTC, datetime
from importlib.metadata import version
from pathlib import Path
from typing import Any

ROOT = Path(__file__).resolve().parents[1]
RATE = 0.1
Run = Callable[[Any, int], Any]
"""Augments a sentence or a list of them, for an epoch."""

BATCHES = {"batches of 256": 256, "batches of 32": 32, "one by one": 1}

os.environ.update(OMP_NUM_THREADS="1", OPENBLAS_NUM_THREADS="1", MKL_NUM_THREADS="1")  # before numpy is imported


def sentences(count: int) -> list[str]:
    """Return sentences of 5 to 30 words, made of those of examples/sentences.tsv."""
    rows = (ROOT / "examples/sentences.tsv").read_text(encoding="utf-8").splitlines()
    clauses = [row.split("\t")[1].rstrip(".!") for row in rows]
    rng = random.Random(0)
    return [", and ".join(rng.sample(clauses, rng.choice((1, 1, 2, 3)))) + "." for _ in range(count)]


def dalipipe_ops(texts: list[str]) -> dict[str, Run]:
    from dalipipe.text import Recipe, TextAugment
    from dalipipe.text.ops import RandomDeletion, RandomInsertion, RandomReplacement, RandomSwap

    recipes: dict[str, Any] = {
        "swap": RandomSwap(rate=RATE),
        "delete": RandomDeletion(rate=RATE),
        "replace": RandomReplacement(rate=RATE),
        "insert": RandomInsertion(rate=RATE),
    }
    augments = {
        name: TextAugment(Recipe(name=name, ops=(op,)), vocabulary=texts, segmenter="characters")
        for name, op in recipes.items()
    }
    augments["text-eda"] = TextAugment("text-eda", vocabulary=texts, segmenter="characters")

    def call(augment: Any) -> Run:
        def run(batch: Any, epoch: int) -> Any:
            augment.set_epoch(epoch)
            return augment(batch)

        return run

    return {name: call(augment) for name, augment in augments.items()}


def nlpaug_ops(texts: list[str]) -> dict[str, Run]:
    import nlpaug.augmenter.word as naw
    import nlpaug.model.word_stats as nmw

    from dalipipe.text import Vocabulary

    words = list(Vocabulary.from_sentences(texts).words)
    model = nmw.TfIdf()
    model.train([text.split() for text in texts])
    folder = tempfile.mkdtemp()
    model.save(folder)
    amount = {"aug_p": RATE, "aug_min": 1, "aug_max": None}
    augments: dict[str, Any] = {
        "swap": naw.RandomWordAug(action="swap", **amount),
        "delete": naw.RandomWordAug(action="delete", **amount),
        "replace": naw.RandomWordAug(action="substitute", target_words=words, **amount),
        "insert": naw.TfIdfAug(model_path=folder, action="insert", **amount),
    }
    rng = random.Random(0)

    def one_of_four(batch: str | list[str]) -> list[str]:
        groups: dict[str, list[str]] = {}
        for text in [batch] if isinstance(batch, str) else batch:
            groups.setdefault(rng.choice(list(augments)), []).append(text)
        return [text for name, group in groups.items() for text in augments[name].augment(group)]

    def call(augment: Callable[..., Any]) -> Run:
        return lambda batch, epoch: augment(batch)

    return {**{name: call(augment.augment) for name, augment in augments.items()}, "text-eda": call(one_of_four)}


def rates(runs: dict[str, Run], texts: list[str], size: int, epoch: int) -> dict[str, float]:
    """Return each library's sentences per second for one pass over the texts, the libraries in turns batch by batch.

    Args:
        runs: What each library does.
        texts: What it does that to.
        size: Sentences in a batch; 1 for strings one by one.
        epoch: Number of the pass.
    """
    batches: list[Any] = [texts[start : start + size] for start in range(0, len(texts), size)] if size > 1 else texts
    seconds = dict.fromkeys(runs, 0.0)
    for batch in batches:
        for library, run in runs.items():
            start = time.perf_counter()
            run(batch, epoch)
            seconds[library] += time.perf_counter() - start
    return {library: len(texts) / total for library, total in seconds.items()}


def check(runs: dict[str, dict[str, Run]], texts: list[str]) -> None:
    """Fail unless every operation of both changes most of the sentences, and gives as many as it was given."""
    for library, ops in runs.items():
        for name, run in ops.items():
            done = list(run(texts, 0))
            # A tenth of the words of a short sentence is often none for a deletion by chance.
            changed = len(done) == len(texts) and sum(text not in texts for text in done) / len(texts)
            assert changed > 0.5, f"{library} {name}: changed {changed}"


def measure(repetitions: int, count: int) -> dict[str, Any]:
    """Return sentences per second of each library, operation and batch size, for each repetition."""
    texts = sentences(count)
    runs = {"dalipipe": dalipipe_ops(texts), "nlpaug": nlpaug_ops(texts)}
    check(runs, texts[:200])
    found: dict[str, Any] = {}
    for repetition in range(repetitions):
        for batches, size in BATCHES.items():
            for name in runs["dalipipe"]:
                speeds = rates({library: ops[name] for library, ops in runs.items()}, texts, size, repetition + 1)
                for library, speed in speeds.items():
                    found.setdefault(batches, {}).setdefault(name, {}).setdefault(library, []).append(round(speed, 1))
    return found


def summary(speeds: list[float]) -> dict[str, float]:
    return {"median": round(statistics.median(speeds)), "min": round(min(speeds)), "max": round(max(speeds))}


def cpu_model() -> str:
    rows = Path("/proc/cpuinfo").read_text().splitlines() if Path("/proc/cpuinfo").is_file() else []
    return next((row.split(":", 1)[1].strip() for row in rows if row.startswith("model name")), platform.processor())


def environment() -> dict[str, Any]:
    commit = subprocess.run(["git", "rev-parse", "HEAD"], cwd=ROOT, capture_output=True, text=True, check=False)
    return {
        "date": datetime.now(UTC).strftime("%Y-%m-%d"),
        "commit": commit.stdout.strip(),
        "cpu": cpu_model(),
        "cores_used": len(os.sched_getaffinity(0)),
        "load_before": round(os.getloadavg()[0], 2),
        "python": platform.python_version(),
        "versions": {name: version(name) for name in ("nlpaug", "numpy", "pydantic")},
        "command": " ".join(["python", *sys.argv]),
    }


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--repetitions", type=int, default=7)
    parser.add_argument("--sentences", type=int, default=2048)
    parser.add_argument("--json", type=Path, help="where to write the results")
    options = parser.parse_args()

    os.sched_setaffinity(0, {min(os.sched_getaffinity(0))})
    about = environment()
    found = measure(options.repetitions, options.sentences)
    results: dict[str, Any] = {}
    for batches, names in found.items():
        for name, speeds in names.items():
            ratios = [ours / theirs for ours, theirs in zip(speeds["dalipipe"], speeds["nlpaug"], strict=True)]
            ratio = {key: round(value, 1) for key, value in zip(("median", "min", "max"), _three(ratios), strict=True)}
            row = {library: summary(values) for library, values in speeds.items()} | {"ratio": ratio}
            results.setdefault(batches, {})[name] = row
            ours, theirs = row["dalipipe"]["median"], row["nlpaug"]["median"]
            spread = f"{ratio['min']:.1f} to {ratio['max']:.1f}"
            print(
                f"{batches:14} {name:9} {ours:>7,.0f}/s   nlpaug {theirs:>6,.0f}/s   {ratio['median']:.1f} x ({spread})"
            )
    if options.json:
        note = (
            "Sentences per second; both libraries in turns in one run on one core. Ratios are of the same repetition."
        )
        report = {
            "what": note,
            "environment": about,
            "repetitions": options.repetitions,
            "results": results,
            "raw": found,
        }
        options.json.parent.mkdir(parents=True, exist_ok=True)
        options.json.write_text(json.dumps(report, indent=1) + "\n", encoding="utf-8")


def _three(values: list[float]) -> tuple[float, float, float]:
    return statistics.median(values), min(values), max(values)


if __name__ == "__main__":
    main()
