"""What is trained with PyTorch Lightning in these tests. Lightning takes seconds to import: see `lightning_run`."""

import lightning
import torch
from lightning.pytorch.callbacks import ModelCheckpoint
from torch import nn

COUNT = 19


class Module(lightning.LightningModule):
    def __init__(self):
        super().__init__()
        self.network = nn.Sequential(nn.Flatten(), nn.Linear(7 * 5 * 3, COUNT))
        self.seen = []  # (epoch, labels) of every batch
        self.sums = []

    def training_step(self, batch, _number):
        images, labels = batch
        self.seen.append((self.current_epoch, labels.tolist()))
        self.sums.append(images.double().sum().item())
        return nn.functional.cross_entropy(self.network(images), labels)

    def configure_optimizers(self):
        return torch.optim.SGD(self.parameters(), lr=0.1)


class ValidatedModule(Module):
    def validation_step(self, batch, _number):
        self.validated = [*getattr(self, "validated", []), *batch[1].tolist()]


def trainer(checkpoints=None, **arguments):
    return lightning.Trainer(
        accelerator="cpu",
        devices=1,
        logger=False,
        enable_progress_bar=False,
        enable_model_summary=False,
        enable_checkpointing=checkpoints is not None,
        callbacks=[] if checkpoints is None else [checkpoints],
        num_sanity_val_steps=0,
        **arguments,
    )


def every_step(folder, steps):
    """Return a callback that saves a checkpoint every so many steps."""
    return ModelCheckpoint(folder, every_n_train_steps=steps, save_top_k=-1, filename="{step}")
