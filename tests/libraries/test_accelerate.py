"""Hugging Face accelerate over our loader."""

import pytest
import torch
from accelerate import Accelerator
from accelerate.state import AcceleratorState, GradientState
from torch import nn

COUNT = 19


@pytest.fixture
def accelerator():
    yield Accelerator(cpu=True)
    AcceleratorState._reset_state(reset_partial_state=True)
    GradientState._reset_state()


def steps(accelerator, loader, network, optimizer):
    """Train on a batch at a time and yield its labels."""
    for images, labels in loader:
        optimizer.zero_grad()
        accelerator.backward(nn.functional.cross_entropy(network(images), labels))
        optimizer.step()
        yield labels.tolist()


def network_and_optimizer():
    network = nn.Sequential(nn.Flatten(), nn.Linear(7 * 5 * 3, COUNT))
    return network, torch.optim.SGD(network.parameters(), lr=0.1)


def test_prepare_leaves_the_loader_as_it_is_and_a_loop_sees_every_sample_once(accelerator, make_loader):
    mine = make_loader(COUNT)
    network, optimizer, loader = accelerator.prepare(*network_and_optimizer(), mine)
    assert loader is mine
    epochs = [list(steps(accelerator, loader, network, optimizer)) for _ in range(2)]
    for epoch in epochs:
        assert sorted(label for labels in epoch for label in labels) == list(range(COUNT))
    assert epochs[0] != epochs[1]


def test_a_state_saved_by_accelerate_resumes_in_the_middle_of_an_epoch(accelerator, make_loader, tmp_path):
    network, optimizer = accelerator.prepare(*network_and_optimizer())
    loader = make_loader(COUNT)
    accelerator.register_for_checkpointing(loader)
    epoch = steps(accelerator, loader, network, optimizer)
    begun = [next(epoch), next(epoch)]
    accelerator.save_state(tmp_path)
    rest = list(epoch)

    accelerator.load_state(tmp_path)
    assert list(steps(accelerator, loader, network, optimizer)) == rest
    assert sorted(label for labels in begun + rest for label in labels) == list(range(COUNT))


def test_two_processes_see_every_sample_once_over_both(two_processes):
    first, second = (rank["accelerate"] for rank in two_processes)
    assert (first["shard"], second["shard"]) == ([0, 2], [1, 2])
    assert first["same"] and second["same"]
    for one, other in zip(first["seen"], second["seen"], strict=True):
        assert sorted(label for labels in one + other for label in labels) == list(range(21))
        assert len(one) == len(other) == 3
    assert len(first["seen"]) == 2
    assert first["weights"] == second["weights"]
