"""The examples run as they are, without a network."""

import json
import os
import subprocess
import sys
from pathlib import Path

ROOT = Path(__file__).resolve().parents[2]
EXAMPLES = ROOT / "examples"


def run(script: str, *arguments: object) -> str:
    environment = {
        **os.environ,
        "HF_HUB_OFFLINE": "1",
        "TRANSFORMERS_VERBOSITY": "error",
        "OMP_NUM_THREADS": "1",
        "PYTHONPATH": os.pathsep.join([str(ROOT), os.environ.get("PYTHONPATH", "")]),
    }
    result = subprocess.run(
        [sys.executable, str(EXAMPLES / script), *map(str, arguments)],
        env=environment,
        capture_output=True,
        text=True,
        timeout=240,
        check=False,
    )
    assert result.returncode == 0, result.stderr
    return result.stdout


def test_finetuning_a_tiny_gpt2_lowers_the_loss_with_and_without_augmentation(tmp_path):
    lines = (EXAMPLES / "sentences.tsv").read_text(encoding="utf-8").splitlines()
    text = tmp_path / "text.txt"
    text.write_text("\n".join(line.split("\t")[1] for line in lines[:40]) + "\n\n", encoding="utf-8")
    found = tmp_path / "found.json"
    shown = run("finetune_gpt2.py", text, "--epochs", 3, "--batch-size", 4, "--recipe", "text-eda", "--json", found)
    results = json.loads(found.read_text(encoding="utf-8"))
    assert list(results) == ["plain", "text-eda"]
    for name, result in results.items():
        assert name in shown
        assert result["losses"][-1] < 0.9 * result["losses"][0]
        assert result["perplexity"] < 0.5 * result["perplexity_before"]
    plain, augmented = results.values()
    assert plain["perplexity_before"] == augmented["perplexity_before"], "the same weights, the same held-out part"
    assert plain["losses"] != augmented["losses"], "the training part is augmented"


def test_classification_reports_every_seed(tmp_path):
    found = tmp_path / "found.json"
    shown = run("text_classification.py", "--epochs", 15, "--seeds", 5, "--json", found)
    results = json.loads(found.read_text(encoding="utf-8"))
    assert list(results) == ["plain", "text-eda"]
    for name, accuracies in results.items():
        assert len(accuracies) == 5
        assert f"{sum(accuracies) / 5:.3f}" in shown.split(name)[1]
        assert sum(accuracies) / 5 > 0.5, "better than a guess"
    assert results["plain"] != results["text-eda"]


def test_the_sentences_are_pairs_of_a_good_and_a_bad_one():
    labels = [line.split("\t")[0] for line in (EXAMPLES / "sentences.tsv").read_text(encoding="utf-8").splitlines()]
    assert labels == ["good", "bad"] * 50
