"""Augmentation of sentences by recipe: the same kind of recipe, plan and guarantees that images have.

Nothing else in dalipipe imports this package, and it imports neither torch nor DALI.
"""

from dalipipe.text.augment import TextAugment
from dalipipe.text.datasets import AugmentedDataset, BatchTransform
from dalipipe.text.segment import Segmenter
from dalipipe.text.vocabulary import Synonyms, Vocabulary, WordNet

__all__ = ["AugmentedDataset", "BatchTransform", "Segmenter", "Synonyms", "TextAugment", "Vocabulary", "WordNet"]
