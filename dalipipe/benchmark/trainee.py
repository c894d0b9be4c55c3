"""The network that a benchmark trains in the process of the loader that feeds it."""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from contextlib import contextmanager

import torch

from dalipipe.benchmark.meter import Batch
from dalipipe.benchmark.work import Work
from dalipipe.training.network.models import check_images, create_model, resolve_device


class TrainingStep:
    """One step of training on a batch: forward, loss, backward, SGD.

    Args:
        model: Name of the network.
        classes: How many it tells apart.
        work: Shape and number of the images of a batch.

    Raises:
        ConfigError: images that the network can't take.
    """

    def __init__(self, model: str, classes: int, work: Work) -> None:
        shape = work.recipe.output_shape
        self.device = resolve_device("auto")
        network = create_model(model, classes)
        check_images(model, network, work.batch_size, shape, training=True)
        self._model = network.to(self.device).train()
        self._optimizer = torch.optim.SGD(self._model.parameters(), lr=0.01, momentum=0.9)
        self._loss = torch.nn.CrossEntropyLoss()
        self._batch = (torch.randn(work.batch_size, *shape), torch.arange(work.batch_size) % classes)

    def __call__(self, images: torch.Tensor, labels: torch.Tensor) -> None:
        """Train on a batch."""
        outputs = self._model(images.to(self.device, torch.float32, non_blocking=True))
        loss = self._loss(outputs, labels.to(self.device, non_blocking=True))
        self._optimizer.zero_grad()
        loss.backward()
        self._optimizer.step()

    @contextmanager
    def replayed(self) -> Iterator[Iterable[Batch]]:
        """Train on one batch again and again."""
        images, labels = (part.to(self.device) for part in self._batch)

        def forever() -> Iterator[Batch]:
            while True:
                self(images, labels)
                yield images, labels

        yield forever()

    def over(self, batches: Iterable[Batch]) -> Iterator[Batch]:
        """Train on each batch as it comes."""
        for images, labels in batches:
            self(images, labels)
            yield images, labels
