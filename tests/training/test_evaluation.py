import json

import numpy as np
import pytest
import torch
from torch import nn

from dalipipe.loading import DataLoader
from dalipipe.sources import FolderSource
from dalipipe.training.measures.evaluation import Predictions, evaluate, predict, score

CLASSES = ("ant", "bee", "cat")


def predictions(probabilities, labels):
    table = torch.tensor(probabilities)
    truth = torch.tensor(labels)
    losses = -table.gather(1, truth[:, None])[:, 0].log()
    return Predictions(np.arange(len(labels)) * 10, truth, table, losses)


MIXED = predictions(
    [[0.7, 0.2, 0.1], [0.6, 0.3, 0.1], [0.1, 0.8, 0.1], [0.05, 0.9, 0.05], [0.4, 0.3, 0.3]], [0, 0, 1, 2, 2]
)


def test_the_measures_are_those_counted_by_hand():
    result = score(MIXED, CLASSES)
    assert result.confusion.tolist() == [[2, 0, 0], [0, 1, 0], [1, 1, 0]]
    assert result.top1 == pytest.approx(3 / 5)
    assert result.top5 == 1.0  # of three classes
    by_name = {each.name: each for each in result.per_class}
    assert by_name["ant"].images == 2
    assert (by_name["ant"].precision, by_name["ant"].recall) == pytest.approx((2 / 3, 1))
    assert (by_name["cat"].precision, by_name["cat"].recall, by_name["cat"].f1) == (0, 0, 0)
    assert result.macro_f1 == pytest.approx((0.8 + 2 / 3 + 0) / 3)
    assert result.loss == pytest.approx(-np.log([0.7, 0.6, 0.8, 0.05, 0.3]).mean())
    # each image is alone in its bin of 1/15: its error is |right - confidence|
    assert result.calibration_error == pytest.approx(np.mean([0.3, 0.4, 0.2, 0.9, 0.4]), abs=1e-6)
    assert json.loads(json.dumps(result.plain()))["per_class"][1]["name"] == "bee"


def test_mistakes_come_with_the_most_confident_first():
    result = score(MIXED, CLASSES)
    assert [(m.index, m.label, m.prediction) for m in result.mistakes()] == [(30, 2, 1), (40, 2, 0)]
    assert [m.confidence for m in result.mistakes(1)] == pytest.approx([0.9])


def test_parts_of_several_ranks_score_as_the_whole():
    parts = [
        Predictions(MIXED.indices[s], MIXED.labels[s], MIXED.probabilities[s], MIXED.losses[s])
        for s in (slice(0, 2), slice(2, 5))
    ]
    assert score(Predictions.concatenate(parts), CLASSES).plain() == score(MIXED, CLASSES).plain()


class Leftmost(nn.Module):
    """Says class 0 where the left edge of an image is bright, else class 1; knows nothing of mirrors."""

    def __init__(self):
        super().__init__()
        self.scale = nn.Parameter(torch.tensor(9.0))

    def forward(self, images):
        edge = images[:, 0, 0, 0]
        return self.scale * torch.stack([edge, 1 - edge], dim=1)


def test_flips_are_averaged_on_request():
    images = torch.zeros(1, 3, 2, 2)
    images[..., 0] = 1.0
    batches = [(images, torch.tensor([0]))]
    assert float(predict(Leftmost(), batches).probabilities[0, 0]) > 0.99
    assert predict(Leftmost(), batches, tta=True).probabilities.tolist() == [pytest.approx([0.5, 0.5])]


def test_the_file_behind_every_prediction_is_known(make_image_folder):
    source = FolderSource(make_image_folder())
    with DataLoader(source, 5, sampler=range(11, -1, -1), recipe="cifar-eval", backend="torchvision") as loader:
        result = evaluate(nn.Sequential(nn.Flatten(), nn.Linear(3072, 3)), loader, tuple(source.classes))
    assert result.indices.tolist() == list(range(11, -1, -1))
    assert result.labels.tolist() == source.labels[result.indices].tolist()
    assert result.name(source, 0) == source.samples[11][0]
