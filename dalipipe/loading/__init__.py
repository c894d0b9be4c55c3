"""Who hands out batches: the `DataLoader`, what it does about bad files, and the mixing of a batch's images."""

from dalipipe.loading.arguments import available_threads
from dalipipe.loading.loader import DataLoader
from dalipipe.loading.mixing import BatchMix, CutMix, MixUp, RandomChoice
from dalipipe.loading.native import dali_iterator
from dalipipe.loading.quarantine import BadFile

__all__ = ["BadFile", "BatchMix", "CutMix", "DataLoader", "MixUp", "RandomChoice", "available_threads", "dali_iterator"]
