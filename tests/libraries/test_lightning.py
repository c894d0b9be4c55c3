"""PyTorch Lightning's Trainer over our loader."""

import importlib

import pytest
import torch

COUNT = 19


@pytest.fixture(scope="module")
def run():
    """`tests.libraries.lightning_run`, imported by the process that needs it alone."""
    return importlib.import_module("tests.libraries.lightning_run")


def every_sample_once(module, epochs=2):
    for epoch in range(epochs):
        seen = [label for number, labels in module.seen if number == epoch for label in labels]
        if sorted(seen) != list(range(COUNT)):
            return False
    return len(module.seen) == 5 * epochs


def test_a_trainer_sees_every_sample_once_an_epoch(run, make_loader):
    module, loader, validation = run.ValidatedModule(), make_loader(COUNT), make_loader(7, shuffle=False)
    trainer = run.trainer(max_epochs=2)
    trainer.fit(module, loader, validation)
    assert trainer.train_dataloader is loader  # not wrapped, nor made anew with another sampler
    assert every_sample_once(module)
    assert module.seen[0][1] != module.seen[5][1]  # each epoch has its order
    assert module.validated == [*range(7)] * 2


@pytest.mark.filterwarnings("ignore:The dirpath has changed:UserWarning")  # the resumed run writes elsewhere
@pytest.mark.parametrize("steps", [2, 7])
def test_a_run_resumed_in_the_middle_of_an_epoch_has_exactly_what_was_left(run, make_loader, tmp_path, steps):
    whole = run.Module()
    run.trainer(max_epochs=3).fit(whole, make_loader(COUNT))

    begun = run.Module()

    def checkpoints(folder):
        return run.every_step(tmp_path / folder, steps)

    run.trainer(checkpoints("begun"), max_epochs=3, max_steps=steps).fit(begun, make_loader(COUNT))
    saved = tmp_path / "begun" / f"step={steps}.ckpt"
    torch.load(saved, weights_only=True)  # our state holds nothing that this refuses
    resumed = run.Module()
    run.trainer(checkpoints("resumed"), max_epochs=3).fit(resumed, make_loader(COUNT, seed=77), ckpt_path=saved)

    assert begun.seen + resumed.seen == whole.seen
    assert begun.sums + resumed.sums == whole.sums  # the same random decisions too
    assert every_sample_once(whole, 3)


def test_two_processes_see_every_sample_once_over_both(two_processes):
    first, second = (rank["lightning"] for rank in two_processes)
    assert (first["shard"], second["shard"]) == ([0, 2], [1, 2])
    assert first["same"] and second["same"]
    for one, other in zip(first["seen"], second["seen"], strict=True):
        assert sorted(label for labels in one + other for label in labels) == list(range(21))
        assert len(one) == len(other) == 3
    assert len(first["seen"]) == 2
    assert first["weights"] == second["weights"]
