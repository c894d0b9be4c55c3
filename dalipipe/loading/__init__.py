"""Who hands out batches: the `DataLoader`, what it does about bad files, and the mixing of a batch's images."""

from dalipipe.loading.arguments import available_threads
from dalipipe.loading.dali_iterator import dali_iterator
from dalipipe.loading.loader import DataLoader
from dalipipe.loading.mixing import BatchMix, CutMix, MixUp, RandomChoice

__all__ = ["BatchMix", "CutMix", "DataLoader", "MixUp", "RandomChoice", "available_threads", "dali_iterator"]
