"""Fine-tune GPT-2 on a small text with augmentation and without, and compare the perplexity on a held-out part.

Only the sentences that are trained on are augmented, anew in each epoch. Both trainings start from the same weights and
take the same number of steps.

    python examples/finetune_gpt2.py FILE.txt --model gpt2
        the pretrained GPT-2, fetched from the Hugging Face hub
    python examples/finetune_gpt2.py FILE.txt
        a tiny GPT-2 from scratch and a tokenizer trained on the spot: no download, to see the script work

FILE.txt has a sentence a line; without it the sentences of examples/sentences.tsv are taken.
Needs dalipipe with its extra `text`: pip install "dalipipe[text]".
"""

import argparse
import json
import math
import random
from pathlib import Path
from typing import Any

import datasets
import torch
from tokenizers import Tokenizer, decoders, models, pre_tokenizers, trainers
from torch.utils.data import DataLoader
from transformers import AutoModelForCausalLM, AutoTokenizer, GPT2Config, GPT2LMHeadModel, PreTrainedTokenizerFast

from dalipipe.text import TextAugment

SENTENCES = Path(__file__).parent / "sentences.tsv"
END = "<|endoftext|>"


def read(path: Path) -> list[str]:
    lines = path.read_text(encoding="utf-8").splitlines()
    return [line.split("\t")[-1].strip() for line in lines if line.strip()]


def tiny(sentences: list[str]) -> tuple[Any, Any]:
    """Return a GPT-2 of 0.1 million weights and a byte-level BPE tokenizer trained on the sentences."""
    bpe = Tokenizer(models.BPE())
    bpe.pre_tokenizer = pre_tokenizers.ByteLevel(add_prefix_space=False)
    bpe.decoder = decoders.ByteLevel()
    alphabet = pre_tokenizers.ByteLevel.alphabet()
    trainer = trainers.BpeTrainer(vocab_size=512, special_tokens=[END], initial_alphabet=alphabet, show_progress=False)
    bpe.train_from_iterator(sentences, trainer)
    tokenizer = PreTrainedTokenizerFast(tokenizer_object=bpe, bos_token=END, eos_token=END)
    config = GPT2Config(
        vocab_size=len(tokenizer),
        n_positions=128,
        n_embd=64,
        n_layer=2,
        n_head=2,
        bos_token_id=tokenizer.bos_token_id,
        eos_token_id=tokenizer.eos_token_id,
    )
    return GPT2LMHeadModel(config), tokenizer


def load(name: str, sentences: list[str]) -> tuple[Any, Any]:
    if name == "tiny":
        model, tokenizer = tiny(sentences)
    else:
        model, tokenizer = AutoModelForCausalLM.from_pretrained(name), AutoTokenizer.from_pretrained(name)
    model.loss_type = "ForCausalLM"  # transformers guesses it from the class's name, which GPT-2's does not tell
    return model, tokenizer


def collate(tokenizer: Any, length: int, rows: list[dict[str, str]]) -> dict[str, torch.Tensor]:
    """Return token ids, each sentence between two ends of text; what pads the shorter ones counts for no loss."""
    ends = tokenizer.eos_token_id
    ids = [[ends, *tokenizer(row["text"])["input_ids"][: length - 2], ends] for row in rows]
    longest = max(map(len, ids))
    return {
        "input_ids": torch.tensor([row + [ends] * (longest - len(row)) for row in ids]),
        "attention_mask": torch.tensor([[1] * len(row) + [0] * (longest - len(row)) for row in ids]),
        "labels": torch.tensor([row + [-100] * (longest - len(row)) for row in ids]),
    }


@torch.no_grad()
def perplexity(model: Any, loader: DataLoader[Any]) -> float:
    """Return exp of the mean loss of a token."""
    model.eval()
    total, tokens = 0.0, 0
    for batch in loader:
        count = int((batch["labels"][:, 1:] != -100).sum())
        total += model(**batch).loss.item() * count
        tokens += count
    return math.exp(total / tokens)


def train(options: argparse.Namespace, sentences: list[str], held_out: list[str], recipe: str | None) -> dict[str, Any]:
    """Return the loss of each epoch and the perplexity before and after."""
    torch.manual_seed(options.seed)
    model, tokenizer = load(options.model, sentences)

    def loader(data: Any, shuffle: bool) -> DataLoader[Any]:
        generator = torch.Generator().manual_seed(options.seed)
        length = model.config.n_positions
        return DataLoader(
            data,
            batch_size=options.batch_size,
            shuffle=shuffle,
            generator=generator,
            collate_fn=lambda rows: collate(tokenizer, length, rows),
        )

    training = datasets.Dataset.from_dict({"text": sentences, "index": list(range(len(sentences)))})
    augment = TextAugment(recipe, vocabulary=sentences, seed=options.seed) if recipe else None
    if augment is not None:
        training.set_transform(augment.transform("text", index_column="index"))
    batches, testing = (
        loader(training, shuffle=True),
        loader(datasets.Dataset.from_dict({"text": held_out}), shuffle=False),
    )

    before = perplexity(model, testing)
    optimizer = torch.optim.AdamW(model.parameters(), lr=options.lr or (1e-3 if options.model == "tiny" else 5e-5))
    losses = []
    for epoch in range(options.epochs):
        if augment is not None:
            augment.set_epoch(epoch)
        model.train()
        steps = []
        for batch in batches:
            loss = model(**batch).loss
            optimizer.zero_grad()
            loss.backward()
            optimizer.step()
            steps.append(loss.item())
        losses.append(sum(steps) / len(steps))
    return {"losses": losses, "perplexity_before": before, "perplexity": perplexity(model, testing)}


def main(arguments: list[str] | None = None) -> dict[str, Any]:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("file", nargs="?", type=Path, default=SENTENCES, metavar="FILE.txt")
    parser.add_argument("--model", default="tiny", help="gpt2, another causal model of the hub or a folder; or tiny")
    parser.add_argument("--recipe", default="text-light")
    parser.add_argument("--epochs", type=int, default=20)
    parser.add_argument("--batch-size", type=int, default=8)
    parser.add_argument("--lr", type=float, help="default: 5e-5, for tiny 1e-3")
    parser.add_argument("--seed", type=int, default=0)
    parser.add_argument("--json", type=Path, help="where to write the results")
    options = parser.parse_args(arguments)

    sentences = read(options.file)
    random.Random(options.seed).shuffle(sentences)
    held = max(1, len(sentences) // 5)
    results = {}
    for name, recipe in (("plain", None), (options.recipe, options.recipe)):
        results[name] = found = train(options, sentences[held:], sentences[:held], recipe)
        print(
            f"{name:12} training loss {found['losses'][0]:.3f} -> {found['losses'][-1]:.3f}   held-out perplexity "
            f"{found['perplexity_before']:.1f} -> {found['perplexity']:.1f}"
        )
    if options.json:
        options.json.write_text(json.dumps(results), encoding="utf-8")
    return results


if __name__ == "__main__":
    main()
