"""In which order: the samples of an epoch, cut into batches and divided between ranks."""

from dalipipe.sampling.batches import Batch, Cut, Shard, batched, listed, together
from dalipipe.sampling.orders import Order, OwnOrder, Pass, SamplerOrder, decoded, encoded, is_rng_state

__all__ = [
    "Batch",
    "Cut",
    "Order",
    "OwnOrder",
    "Pass",
    "SamplerOrder",
    "Shard",
    "batched",
    "decoded",
    "encoded",
    "is_rng_state",
    "listed",
    "together",
]
