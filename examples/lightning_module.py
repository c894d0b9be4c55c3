"""A Lightning module that is fed by dalipipe: python examples/lightning_module.py photos

photos holds one folder of images per class. The loaders are made in the module, so that with several processes each of
them takes its part; Lightning's checkpoints hold the loader's place, and a resumed run goes on with the next batch.
"""

import argparse

import lightning
import torch
from torch import nn
from torchvision import models

import dalipipe


class Classifier(lightning.LightningModule):
    def __init__(self, folder, recipe="imagenet-train", batch_size=32, lr=0.005):
        super().__init__()
        self.save_hyperparameters()
        self.train_images, self.val_images = dalipipe.split_sources(folder)
        self.recipe = dalipipe.Recipe.load(recipe)
        self.network = models.resnet18(num_classes=len(self.train_images.classes))

    def train_dataloader(self):
        size = self.hparams.batch_size
        return dalipipe.DataLoader(self.train_images, size, shuffle=True, drop_last=True, recipe=self.recipe, seed=0)

    def val_dataloader(self):
        return dalipipe.DataLoader(self.val_images, self.hparams.batch_size, recipe=self.recipe.eval_twin())

    def training_step(self, batch, _):
        images, labels = batch
        return nn.functional.cross_entropy(self.network(images), labels)

    def validation_step(self, batch, _):
        images, labels = batch
        right = (self.network(images).argmax(dim=1) == labels).float()
        self.log("val_acc", right.mean(), on_epoch=True, batch_size=len(labels), sync_dist=True)

    def configure_optimizers(self):
        optimizer = torch.optim.SGD(self.parameters(), lr=self.hparams.lr, momentum=0.9)
        schedule = torch.optim.lr_scheduler.CosineAnnealingLR(optimizer, self.trainer.max_epochs)
        return [optimizer], [schedule]


if __name__ == "__main__":
    parser = argparse.ArgumentParser()
    parser.add_argument("folder")
    parser.add_argument("--recipe", default="imagenet-train")
    parser.add_argument("--epochs", type=int, default=5)
    parser.add_argument("--batch-size", type=int, default=32)
    parser.add_argument("--accelerator", default="auto")
    parser.add_argument("--output", default="runs/lightning")
    arguments = parser.parse_args()
    trainer = lightning.Trainer(
        max_epochs=arguments.epochs,
        accelerator=arguments.accelerator,
        default_root_dir=arguments.output,
        log_every_n_steps=1,
        enable_progress_bar=False,
        logger=False,
    )
    lightning.seed_everything(0)
    module = Classifier(arguments.folder, arguments.recipe, arguments.batch_size)
    trainer.fit(module)
    print(f"validation accuracy {float(trainer.callback_metrics['val_acc']):.3f}")
