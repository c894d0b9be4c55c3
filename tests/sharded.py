"""What each of several processes does and sees of a loader that shards by itself: functions for `tests.warm`."""

from pathlib import Path
from typing import Any

import torch
import torch.distributed as dist

import dalipipe


def batches_and_images(folder: Path) -> dict[str, Any]:
    """Return the indices of each batch, the sum of each image, and the state, for training and for evaluation."""
    dist.init_process_group("gloo")
    rank, world = dist.get_rank(), dist.get_world_size()
    torch.manual_seed(rank)  # ranks agree on rank 0's seed
    out: dict[str, Any] = {}
    for name, shuffle in (("train", True), ("eval", False)):
        seed = 3 if shuffle else None
        loader = dalipipe.DataLoader(folder, 6 // world, shuffle, recipe="cifar-train", num_threads=1, seed=seed)
        out[name] = [batch.indices.tolist() for batch in loader.batches(0)]
        out[name + "-images"] = [[float(image.sum()) for image in images] for images, _ in loader]
        out[name + "-state"] = loader.state_dict()
        loader.close()
    dist.destroy_process_group()
    return out


def alone_and_together(folder: Path) -> dict[str, Any]:
    """Return what is seen without a seed: by rank 0 alone, of which the others know nothing, and by all together."""
    dist.init_process_group("gloo")
    rank = dist.get_rank()
    torch.manual_seed(rank)
    options: dict[str, Any] = {"recipe": "cifar-train", "num_threads": 1, "backend": "torchvision"}
    out: dict[str, Any] = {"alone": []}
    if rank == 0:  # nobody waits
        validation = dalipipe.DataLoader(folder, 4, rank=0, world_size=1, **options)
        out["alone"] = [label for _, labels in validation for label in labels.tolist()]
        list(dalipipe.DataLoader(folder, 4, True, **options))
    loader = dalipipe.DataLoader(folder, 2, True, **options)
    out["lengths"] = [len(loader.sampler), len(loader.batch_sampler), len(loader)]
    out["epochs"], out["listed"] = [], []
    for epoch in (0, 1, 1):
        loader.sampler.set_epoch(epoch)
        out["listed"].append(list(loader.sampler))
        out["epochs"].append([index for _ in loader for index in loader.last_indices.tolist()])
    dist.destroy_process_group()
    return out
