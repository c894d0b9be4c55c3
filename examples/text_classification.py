"""Tell good from bad reviews with a bag of embeddings, with augmented sentences and without, over five seeds.

A hundred sentences (examples/sentences.tsv) are few: 60 to train on, 40 to test on, divided anew for each seed. They
come in pairs, a good review and a bad one of the same thing, and a pair is never divided: its words would point to the
wrong answer. Both trainings take the same number of steps from the same first weights; one sees each sentence twice an
epoch, the other the sentence and a variant of it.

    python examples/text_classification.py [--recipe text-eda] [--epochs 60] [--seeds 5] [--json FILE]

Needs torch and dalipipe. Takes seconds on one core.
"""

import argparse
import json
import random
import statistics
from pathlib import Path

import torch
from torch import nn

from dalipipe.text import Segmenter, TextAugment

SENTENCES = Path(__file__).parent / "sentences.tsv"
TRAIN = 60
SEGMENTER = Segmenter("characters")


def read(path: Path) -> list[tuple[int, str]]:
    """Return (label, sentence) of every line; label 1 is good."""
    rows = (line.split("\t", 1) for line in path.read_text(encoding="utf-8").splitlines())
    return [(int(label == "good"), sentence) for label, sentence in rows]


def words(sentence: str) -> list[str]:
    return [word.lower() for word in SEGMENTER(sentence).words]


class BagOfEmbeddings(nn.Module):
    """The mean of a sentence's word vectors, and one linear layer. Word 0 stands for those never seen in training."""

    def __init__(self, sentences: list[str], width: int = 32) -> None:
        super().__init__()
        known = sorted({word for sentence in sentences for word in words(sentence)})
        self.numbers = {word: number for number, word in enumerate(known, 1)}
        self.vectors = nn.EmbeddingBag(len(known) + 1, width, mode="mean")
        self.decide = nn.Linear(width, 2)

    def forward(self, sentences: list[str]) -> torch.Tensor:
        bags = [[self.numbers.get(word, 0) for word in words(sentence)] for sentence in sentences]
        starts = torch.tensor([0, *(len(bag) for bag in bags[:-1])]).cumsum(0)
        return self.decide(self.vectors(torch.tensor([number for bag in bags for number in bag]), starts))


def train_and_test(rows: list[tuple[int, str]], seed: int, epochs: int, recipe: str | None) -> float:
    """Return the share of test sentences that are told right."""
    pairs = random.Random(seed).sample(range(0, len(rows), 2), len(rows) // 2)
    rows = [row for first in pairs for row in rows[first : first + 2]]
    train, test = rows[:TRAIN], rows[TRAIN:]
    sentences, labels = [sentence for _, sentence in train], torch.tensor([label for label, _ in train])
    augment = TextAugment(recipe, vocabulary=sentences, seed=seed, segmenter="characters") if recipe else None

    torch.manual_seed(seed)
    model = BagOfEmbeddings(sentences)
    optimizer = torch.optim.Adam(model.parameters(), lr=0.01)
    for epoch in range(epochs):
        variants = sentences
        if augment is not None:
            augment.set_epoch(epoch)
            variants = augment(sentences, range(TRAIN))
        loss = nn.functional.cross_entropy(model(sentences + variants), torch.cat([labels, labels]))
        optimizer.zero_grad()
        loss.backward()
        optimizer.step()

    with torch.no_grad():
        guesses = model([sentence for _, sentence in test]).argmax(1)
    return (guesses == torch.tensor([label for label, _ in test])).float().mean().item()


def main(arguments: list[str] | None = None) -> dict[str, list[float]]:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--recipe", default="text-eda")
    parser.add_argument("--epochs", type=int, default=60)
    parser.add_argument("--seeds", type=int, default=5)
    parser.add_argument("--json", type=Path)
    options = parser.parse_args(arguments)

    torch.set_num_threads(1)
    rows = read(SENTENCES)
    results: dict[str, list[float]] = {}
    for name, recipe in (("plain", None), (options.recipe, options.recipe)):
        results[name] = [train_and_test(rows, seed, options.epochs, recipe) for seed in range(options.seeds)]
        spread = statistics.stdev(results[name]) if options.seeds > 1 else 0.0
        each = " ".join(f"{accuracy:.3f}" for accuracy in results[name])
        print(f"{name:12} accuracy {statistics.mean(results[name]):.3f} ± {spread:.3f}   each seed: {each}")
    if options.json:
        options.json.write_text(json.dumps(results), encoding="utf-8")
    return results


if __name__ == "__main__":
    main()
