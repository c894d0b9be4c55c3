"""Augmented sentences where data sets want them: as a transform of batches, and as a data set of its own."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import TYPE_CHECKING, Any

from dalipipe.errors import ConfigError, SourceError

if TYPE_CHECKING:
    from dalipipe.text.augment import TextAugment


class BatchTransform:
    """Replaces one column of a batch, which is a mapping from columns to lists, by its variants.

    Args:
        augment: What to do to a sentence.
        column: The column that holds the sentences.
        index_column: The column that holds the sample indices, None for the CRC-32 of each sentence.
    """

    def __init__(self, augment: TextAugment, column: str, index_column: str | None) -> None:
        self.augment, self.column, self.index_column = augment, column, index_column

    def __call__(self, batch: Mapping[str, Any]) -> dict[str, Any]:
        """Return the batch with its sentences augmented.

        Raises:
            ConfigError: the batch lacks the column.
            SourceError: a row that is not a string.
        """
        for column in (self.column, self.index_column):
            if column is not None and column not in batch:
                there = ", ".join(repr(name) for name in batch)
                raise ConfigError(
                    f"TextAugment.transform: a batch must have the column {column!r}, got {there}. Name another."
                )
        texts = batch[self.column]
        if isinstance(texts, str):
            raise ConfigError(
                f"TextAugment.transform: column {self.column!r} must hold a list of sentences, got one string. "
                "Use map(..., batched=True) or set_transform."
            )
        indices = None if self.index_column is None else batch[self.index_column]
        return {**batch, self.column: self.augment(texts, indices)}


class AugmentedDataset:
    """A map-style data set whose sentences are augmented; a sample's index is its place in the data set beneath.

    Args:
        augment: What to do to a sentence.
        data: What has a length and gives item i for an index i.
        key: Where the sentence is in an item that is a dict or a tuple; None where the item is the sentence.
    """

    def __init__(self, augment: TextAugment, data: Any, key: str | int | None = None) -> None:
        self.augment, self.data, self.key = augment, data, key

    def __len__(self) -> int:
        return len(self.data)

    def __getitem__(self, index: int) -> Any:
        """Return item `index`, its sentence augmented."""
        return self.__getitems__([index])[0]

    def __getitems__(self, indices: Sequence[int]) -> list[Any]:
        """Return several items at once: what torch's DataLoader asks for, and faster than one by one.

        Raises:
            IndexError: an index outside the data set.
            SourceError: an item whose sentence is not a string, or that has no such key.
        """
        places = [self._place(int(index)) for index in indices]
        items = [self.data[place] for place in places]
        texts = [self._sentence(item, place) for item, place in zip(items, places, strict=True)]
        done = self.augment(texts, places)
        return [self._with(item, text) for item, text in zip(items, done, strict=True)]

    def set_epoch(self, epoch: int) -> None:
        """Set the epoch, here and in the workers of a DataLoader over this data set."""
        self.augment.set_epoch(epoch)

    def _place(self, index: int) -> int:
        if not -len(self) <= index < len(self):
            raise IndexError(f"AugmentedDataset: index must be below the length {len(self)}, got {index}.")
        return index % len(self)

    def _sentence(self, item: Any, place: int) -> str:
        try:
            text = item if self.key is None else item[self.key]
        except (KeyError, IndexError, TypeError) as error:
            raise SourceError(
                f"AugmentedDataset: row {place} must have a sentence at key {self.key!r}, got {type(item).__name__}. "
                "Give the key of the sentence."
            ) from error
        if not isinstance(text, str):
            raise SourceError(
                f"AugmentedDataset: row {place} must be a string, got {type(text).__name__}. Drop it or give its key."
            )
        return text

    def _with(self, item: Any, text: str) -> Any:
        if self.key is None:
            return text
        if isinstance(item, Mapping):
            return {**item, self.key: text}
        changed = list(item)
        changed[int(self.key)] = text
        return tuple(changed) if isinstance(item, tuple) else changed
