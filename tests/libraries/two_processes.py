"""What two processes see of Lightning's Trainer and of accelerate's loop, two epochs each: for `tests.warm`."""

import lightning
import numpy as np
import torch
from accelerate import Accelerator
from torch import nn

import dalipipe
from dalipipe.recipes import ops
from dalipipe.sources import ArraySource

COUNT = 21
RECIPE = dalipipe.Recipe(name="test", ops=(ops.RandomCrop(size=(7, 5)), ops.ToDtype(scale=True)))


def make_loader():
    pixels = np.arange(COUNT * 11 * 9 * 3, dtype=np.uint32).astype(np.uint8).reshape(COUNT, 11, 9, 3)
    source = ArraySource(pixels, range(COUNT))
    return dalipipe.DataLoader(source, batch_size=4, shuffle=True, recipe=RECIPE, seed=5, num_threads=1)


class Module(lightning.LightningModule):
    def __init__(self):
        super().__init__()
        self.network = nn.Sequential(nn.Flatten(), nn.Linear(7 * 5 * 3, COUNT))
        self.seen = []

    def train_dataloader(self):  # called when the process group is there
        self.loader = make_loader()
        return self.loader

    def on_train_epoch_start(self):
        self.seen.append([])

    def training_step(self, batch, _number):
        images, labels = batch
        self.seen[-1].append(labels.tolist())
        return nn.functional.cross_entropy(self.network(images), labels)

    def configure_optimizers(self):
        return torch.optim.SGD(self.parameters(), lr=0.1)


def with_lightning():
    module = Module()
    trainer = lightning.Trainer(
        accelerator="cpu",
        strategy="ddp",
        devices=2,
        max_epochs=2,
        logger=False,
        enable_progress_bar=False,
        enable_checkpointing=False,
        enable_model_summary=False,
    )
    trainer.fit(module)
    same = trainer.train_dataloader is module.loader
    shard = module.loader.shard
    module.loader.close()
    return {"seen": module.seen, "same": same, "shard": [shard.rank, shard.world_size], "weights": total(module)}


def with_accelerate():
    accelerator = Accelerator(cpu=True)
    network = nn.Sequential(nn.Flatten(), nn.Linear(7 * 5 * 3, COUNT))
    mine = make_loader()
    network, optimizer, loader = accelerator.prepare(network, torch.optim.SGD(network.parameters(), lr=0.1), mine)
    seen = []
    for _ in range(2):
        seen.append([])
        for images, labels in loader:
            seen[-1].append(labels.tolist())
            optimizer.zero_grad()
            accelerator.backward(nn.functional.cross_entropy(network(images), labels))
            optimizer.step()
    shard = [mine.shard.rank, mine.shard.world_size]
    mine.close()
    return {"seen": seen, "same": loader is mine, "shard": shard, "weights": total(network)}


def total(module):
    return sum(float(parameter.double().sum()) for parameter in module.parameters())


def with_both():
    torch.manual_seed(0)
    found = {"lightning": with_lightning(), "accelerate": with_accelerate()}
    torch.distributed.destroy_process_group()
    return found
