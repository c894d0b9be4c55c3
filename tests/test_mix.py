"""MixUp and CutMix mean what torchvision's mean, and depend on nothing but seed, epoch, batch and rank."""

import numpy as np
import pytest
import torch
from scipy import stats
from torchvision.transforms import v2

import dalipipe
from dalipipe.decisions.randomness import uniforms
from dalipipe.errors import ConfigError
from dalipipe.loading import CutMix, MixUp, RandomChoice
from dalipipe.loading.mixing import beta, cutmix_box

CLASSES = 5


@pytest.fixture
def batch():
    generator = torch.Generator().manual_seed(0)
    return torch.rand((7, 3, 17, 11), generator=generator), torch.tensor([0, 4, 1, 1, 3, 2, 0])


def torchvisions(transform, images, labels, **params):
    """Return what torchvision's transform makes of a batch with given decisions."""
    transform.make_params = lambda _flat: params
    return transform(images, labels)


def test_mixup_is_torchvisions_with_the_same_lambda(batch):
    images, labels = MixUp(alpha=0.4, num_classes=CLASSES, seed=3)(*batch, epoch=1, batch=2)
    own = float(labels[1, 4])  # its own class is no neighbour's
    expected = torchvisions(v2.MixUp(num_classes=CLASSES), *batch, lam=own)
    assert 0 < own < 1
    torch.testing.assert_close(images, expected[0], rtol=0, atol=1e-6)
    torch.testing.assert_close(labels, expected[1], rtol=0, atol=1e-6)


def test_cutmix_is_torchvisions_with_the_same_box(batch):
    boxes = set()
    for number in range(20):
        images, labels = CutMix(num_classes=CLASSES, seed=3)(*batch, epoch=1, batch=number)
        changed = (images != batch[0]).any(dim=1)[0]
        if not changed.any():
            continue
        rows, columns = changed.any(dim=1).nonzero(), changed.any(dim=0).nonzero()
        box = (int(columns[0]), int(rows[0]), int(columns[-1]) + 1, int(rows[-1]) + 1)
        area = (box[2] - box[0]) * (box[3] - box[1])
        expected = torchvisions(v2.CutMix(num_classes=CLASSES), *batch, box=box, lam_adjusted=1 - area / (17 * 11))
        assert torch.equal(images, expected[0])
        torch.testing.assert_close(labels, expected[1])
        boxes.add(box)
    assert len(boxes) > 10


def test_a_box_is_torchvisions_for_the_same_lambda_and_centre(monkeypatch):
    def drawn(high, size):
        return torch.tensor([int((0.9 if high == 11 else 0.3) * high)])

    for own in (0.0, 0.2, 0.77, 1.0):
        monkeypatch.setattr(torch.distributions.Beta, "sample", lambda _self, _shape, own=own: torch.tensor(own))
        monkeypatch.setattr(torch, "randint", drawn)
        params = v2.CutMix(num_classes=CLASSES).make_params([torch.zeros(1, 3, 17, 11)])
        assert cutmix_box(own, (0.9, 0.3), 17, 11) == params["box"]


@pytest.mark.parametrize("alpha", [0.1, 0.2, 1.0, 4.0])
def test_lambda_is_of_the_beta_distribution(alpha):
    draws = uniforms([98], 0, 0, np.arange(2000))
    found = [beta(alpha, row) for row in draws.tolist()]
    assert stats.kstest(found, stats.beta(alpha, alpha).cdf).pvalue > 0.01


def test_decisions_depend_on_seed_epoch_batch_and_rank_alone(batch):
    mix = MixUp(num_classes=CLASSES, seed=1)
    first = mix(*batch, epoch=0, batch=0)[0]
    torch.manual_seed(99)
    state = torch.get_rng_state()
    assert torch.equal(MixUp(num_classes=CLASSES, seed=1)(*batch, epoch=0, batch=0)[0], first)
    assert torch.equal(torch.get_rng_state(), state)
    others = [mix(*batch, epoch=1, batch=0), mix(*batch, epoch=0, batch=1), mix(*batch, epoch=0, batch=0, rank=1)]
    others.append(MixUp(num_classes=CLASSES, seed=2)(*batch, epoch=0, batch=0))
    for images, _ in others:
        assert not torch.equal(images, first)


def test_a_choice_takes_each_mix_as_often_as_its_weight_says(batch):
    cut, up = CutMix(num_classes=CLASSES, seed=0), MixUp(num_classes=CLASSES, seed=0)
    choice = RandomChoice([cut, up], p=[1, 3], seed=0)
    blended = 0
    for number in range(200):
        images, _ = choice(*batch, epoch=0, batch=number)
        from_up = torch.equal(images, up(*batch, epoch=0, batch=number)[0])
        assert from_up or torch.equal(images, cut(*batch, epoch=0, batch=number)[0])
        blended += from_up
    assert 130 <= blended <= 170


def test_an_epoch_of_a_loader_is_mixed_and_resumes_as_it_was(make_image_folder):
    root = make_image_folder(classes=("ant", "bee"), per_class=5)
    settings = {"batch_size": 3, "shuffle": True, "recipe": "cifar-train", "backend": "torchvision", "seed": 5}
    mix = RandomChoice([MixUp(num_classes=2), CutMix(num_classes=2)], seed=5)
    with dalipipe.DataLoader(root, **settings) as loader, dalipipe.DataLoader(root, **settings) as again:
        whole = list(mix.over(loader))
        assert [tuple(labels.shape) for _, labels in whole] == [(3, 2), (3, 2), (3, 2), (1, 2)]
        epoch = mix.over(again)
        next(epoch)
        state = again.state_dict()
        epoch.close()
        again.load_state_dict(state)
        rest = list(mix.over(again))
    assert len(rest) == 3
    for (images, labels), (expected_images, expected_labels) in zip(rest, whole[1:], strict=True):
        assert torch.equal(images, expected_images)
        assert torch.equal(labels, expected_labels)


def test_form_is_kept(batch):
    images, labels = batch[0].half().contiguous(memory_format=torch.channels_last), torch.eye(7)
    for mix in (MixUp(), CutMix()):
        mixed, mixed_labels = mix(images, labels, epoch=0, batch=0)
        assert mixed.dtype is torch.float16
        assert mixed.is_contiguous(memory_format=torch.channels_last)
        torch.testing.assert_close(mixed_labels.sum(dim=1), torch.ones(7))


@pytest.mark.parametrize(
    ("make", "message"),
    [
        (lambda x, y: MixUp(alpha=0), "alpha"),
        (lambda x, y: MixUp(num_classes=0), "num_classes"),
        (lambda x, y: MixUp(seed=-1), "seed"),
        (lambda x, y: RandomChoice([]), "weight"),
        (lambda x, y: RandomChoice([MixUp()], p=[0]), "weight"),
        (lambda x, y: MixUp()(x, y, epoch=0, batch=0), "num_classes is missing"),
        (lambda x, y: MixUp(num_classes=4)(x, y, epoch=0, batch=0), "below num_classes 4, got 4"),
        (lambda x, y: MixUp(num_classes=4)(x, torch.eye(7), epoch=0, batch=0), r"must be \(N, 4\)"),
        (lambda x, y: MixUp(num_classes=CLASSES)(x[0], y, epoch=0, batch=0), "whole batches"),
        (lambda x, y: MixUp(num_classes=CLASSES)((255 * x).byte(), y, epoch=0, batch=0), "loader.finish"),
    ],
)
def test_what_cannot_work_is_refused(batch, make, message):
    with pytest.raises(ConfigError, match=message):
        make(*batch)
