"""tf.data: the input pipeline of TensorFlow's ResNet reference, decoding only the window of the crop.

Its resize does not antialias, by default and in the reference, so it does less work than the others. Batches are NHWC
in memory.
"""

# /// script
# requires-python = "==3.11.*"
# dependencies = ["tensorflow-cpu==2.21.0", "psutil"]
# ///

from __future__ import annotations

import os
from collections.abc import Iterable, Iterator
from contextlib import contextmanager

os.environ.setdefault("TF_CPP_MIN_LOG_LEVEL", "2")  # read when TensorFlow is imported

import tensorflow as tf

from bench.peers.protocol import MEAN, SIZE_PX, STD, Batch, Task, main


def load(path: tf.Tensor, label: tf.Tensor) -> tuple[tf.Tensor, tf.Tensor]:
    encoded = tf.io.read_file(path)
    begin, size, _ = tf.image.sample_distorted_bounding_box(
        tf.io.extract_jpeg_shape(encoded),
        tf.zeros((1, 0, 4)),
        min_object_covered=0.0,
        aspect_ratio_range=(3 / 4, 4 / 3),
        area_range=(0.08, 1.0),
        use_image_if_no_bounding_boxes=True,
    )
    window = tf.stack([begin[0], begin[1], size[0], size[1]])
    image = tf.io.decode_and_crop_jpeg(encoded, window, channels=3)
    image = tf.image.random_flip_left_right(tf.image.resize(image, (SIZE_PX, SIZE_PX)))
    return (image - MEAN) / STD, label


class TfData:
    def __init__(self, task: Task) -> None:
        self._task = task

    def _batches(self, order: Iterable[int]) -> Iterator[Batch]:
        files = [self._task.files[index] for index in order]
        paths, labels = zip(*files, strict=True)
        options = tf.data.Options()
        options.threading.private_threadpool_size = self._task.threads
        dataset = (
            tf.data.Dataset.from_tensor_slices((list(paths), list(labels)))
            .map(load, num_parallel_calls=self._task.threads)
            .batch(self._task.batch_size)
            .prefetch(tf.data.AUTOTUNE)
            .with_options(options)
        )
        for images, their in dataset.as_numpy_iterator():
            yield images.transpose(0, 3, 1, 2), their

    def first(self, count: int) -> Iterable[Batch]:
        return self._batches(range(count))

    @contextmanager
    def passes(self, order: list[int]) -> Iterator[Iterable[Batch]]:
        yield self._batches(order)


if __name__ == "__main__":
    main(TfData, "tensorflow-cpu", "numpy")
