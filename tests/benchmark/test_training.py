"""A network beside its loader."""

import pytest
import torch

from dalipipe.benchmark.meter import Stretch
from dalipipe.benchmark.trainee import TrainingStep
from dalipipe.benchmark.training import PARTS, Training, train_in_turns
from dalipipe.benchmark.work import Work
from dalipipe.errors import ConfigError
from dalipipe.recipes import Recipe


def training(model, loader, both, device="cpu"):
    speeds = {"model": model, "loader": loader, "both": both}
    rounds = {part: (Stretch(100, 100 / speed, 0.1, 1.0, 10),) * 3 for part, speed in speeds.items()}
    return Training("resnet18", device, "dali-cpu", rounds)


@pytest.mark.parametrize(
    ("speeds", "limit", "said"),
    [
        ((10, 1000, 9.5), "model", "The model limits: dali-cpu could feed 100.0 times as much. A GPU"),
        ((900, 300, 290), "loader", "The loader limits: the model could take 3.0 times as much."),
        ((300, 300, 290), "model", "The model limits"),
        ((400, 500, 200), "sharing", "Sharing limits: together they reach 50% of what the slower one does alone"),
    ],
)
def test_the_verdict_names_what_limits(speeds, limit, said):
    found = training(*speeds)
    assert found.limit == limit
    assert found.verdict.startswith(said)
    assert found.plain()["verdict"] == found.verdict
    assert found.plain()["img_per_s"]["model"]["median"] == pytest.approx(speeds[0])


def test_on_a_gpu_the_advice_is_another():
    assert "Mixed precision" in training(10, 1000, 9.5, device="cuda").verdict


def test_parts_are_timed_in_turns_and_the_first_turn_does_not_count():
    asked = []

    def ask(part, seconds):
        asked.append((part, seconds))
        return Stretch(1, 1.0 if seconds else 99.0, 0.1, 1.0, 1)

    rounds = train_in_turns(ask, 2, 3.0, lambda what: None)
    assert asked == [(part, seconds) for seconds in (0.0, 3.0, 3.0) for part in PARTS]
    assert all([stretch.wall_s for stretch in rounds[part]] == [1.0, 1.0] for part in PARTS)


def work(size):
    recipe = Recipe.from_toml(f'[[ops]]\nop = "Resize"\nsize = [{size}, {size}]\n[[ops]]\nop = "ToDtype"\n')
    return Work("", recipe, batch_size=2, threads=1)


def test_a_step_changes_the_network_and_hands_the_batch_on():
    step = TrainingStep("resnet18", 3, work(32))
    before = [parameter.clone() for parameter in step._model.parameters()]
    images, labels = torch.rand(2, 3, 32, 32), torch.tensor([0, 2])
    ((same, their),) = step.over([(images, labels)])
    assert same is images
    assert their is labels
    assert any(not torch.equal(old, new) for old, new in zip(before, step._model.parameters(), strict=True))
    with step.replayed() as batches:
        assert len(next(iter(batches))[1]) == 2


def test_images_that_the_network_cannot_take_are_refused():
    with pytest.raises(ConfigError, match="vgg11"):
        TrainingStep("vgg11", 3, work(8))
