"""Images in memory."""

import numpy as np
import pytest

from dalipipe.errors import SourceError
from dalipipe.sources import ArraySource, fingerprint


def test_array_source():
    images = np.arange(2 * 3 * 5 * 3, dtype=np.uint8).reshape(2, 3, 5, 3)
    source = ArraySource(images, [1, 0], classes=["a", "b"])
    assert np.shares_memory(source.item(1), images)
    assert [len(source), source.classes, source.name(1)] == [2, ("a", "b"), "image 1"]
    mixed = ArraySource([images[0], images[1][:, 1:]], np.array([0, 4], np.uint8))
    assert mixed.size is None
    assert mixed.item(1).shape == (3, 4, 3)
    assert mixed.item(1).flags["C_CONTIGUOUS"]
    assert mixed.classes == ("0", "1", "2", "3", "4")
    assert fingerprint(mixed) != fingerprint(source)
    assert ArraySource([], []).size is None


@pytest.mark.parametrize(
    ("images", "labels", "message"),
    [
        (
            np.zeros((2, 3, 5), np.uint8),
            [0, 1],
            r"images must be a uint8 array .* grey, got uint8 \(2, 3, 5\)",
        ),
        (np.zeros((2, 3, 5, 3)), [0, 1], "got float64"),
        ([np.zeros((3, 5, 3), np.uint8), [1]], [0, 1], r"images\[1\] must be a uint8 array \(H, W, 3\), .* got list"),
        (np.zeros((2, 3, 5, 3), np.uint8), [0], "one label for each image, got 2 images and 1 labels"),
        (np.zeros((2, 3, 5, 3), np.uint8), [0.5, 1], "labels must be one integer for each image, got float64"),
        (np.zeros((1, 3, 5, 3), np.uint8), [[0, 1]], r"got int64 of shape \(1, 2\)"),
    ],
)
def test_array_source_refuses(images, labels, message):
    with pytest.raises(SourceError, match=message):
        ArraySource(images, labels)
