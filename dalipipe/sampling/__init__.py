"""In which order: the samples of an epoch, cut into batches and divided between ranks."""

from dalipipe.sampling.batches import Batch, Cut, Shard, batched, listed, together
from dalipipe.sampling.orders import Order, OwnOrder, Pass, SamplerOrder

__all__ = ["Batch", "Cut", "Order", "OwnOrder", "Pass", "SamplerOrder", "Shard", "batched", "listed", "together"]
