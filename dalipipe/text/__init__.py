"""Augmentation of sentences by recipe: recipes, random decisions and guarantees as images have them.

Nothing else in dalipipe imports this package, and it imports neither torch nor DALI.
"""

from dalipipe.text.augment import TextAugment
from dalipipe.text.datasets import AugmentedDataset, BatchTransform
from dalipipe.text.recipe import Recipe
from dalipipe.text.segment import Segmenter
from dalipipe.text.vocabulary import Synonyms, Vocabulary, WordNet

__all__ = [
    "AugmentedDataset",
    "BatchTransform",
    "Recipe",
    "Segmenter",
    "Synonyms",
    "TextAugment",
    "Vocabulary",
    "WordNet",
]
