"""Training on several GPUs, or processes: torchrun --nproc-per-node 2 examples/ddp.py photos

photos holds one folder of images per class. Each process takes its part of every batch: the loader finds out from
torch.distributed which one, so no DistributedSampler is needed. --batch-size is each process's.
"""

import argparse
import os

import torch
import torch.distributed as dist
from torch import nn
from torch.nn.parallel import DistributedDataParallel
from torchvision import models

import dalipipe

parser = argparse.ArgumentParser()
parser.add_argument("folder")
parser.add_argument("--recipe", default="imagenet-train")
parser.add_argument("--epochs", type=int, default=5)
parser.add_argument("--batch-size", type=int, default=32)
arguments = parser.parse_args()

cuda = torch.cuda.is_available()
rank = int(os.environ["LOCAL_RANK"])
device = torch.device("cuda", rank) if cuda else torch.device("cpu")
dist.init_process_group("nccl" if cuda else "gloo")
torch.manual_seed(0)

train_images, val_images = dalipipe.split_sources(arguments.folder)
recipe = dalipipe.Recipe.load(arguments.recipe)
network = models.resnet18(num_classes=len(train_images.classes)).to(device)
network = DistributedDataParallel(nn.SyncBatchNorm.convert_sync_batchnorm(network) if cuda else network)
optimizer = torch.optim.SGD(network.parameters(), lr=0.005, momentum=0.9)

options = {"batch_size": arguments.batch_size, "device_id": rank if cuda else 0, "seed": 0}
with (
    dalipipe.DataLoader(train_images, shuffle=True, drop_last=True, recipe=recipe, **options) as train_loader,
    dalipipe.DataLoader(val_images, recipe=recipe.eval_twin(), **options) as val_loader,
):
    for epoch in range(1, arguments.epochs + 1):
        network.train()
        for images, labels in train_loader:
            loss = nn.functional.cross_entropy(network(images.to(device)), labels.to(device))
            optimizer.zero_grad()
            loss.backward()
            optimizer.step()

        network.eval()
        counts = torch.zeros(2, device=device)  # right ones, and all: over the processes each image counts once
        with torch.no_grad():
            for images, labels in val_loader:
                right = network.module(images.to(device)).argmax(dim=1) == labels.to(device)
                counts += torch.tensor([right.sum(), len(labels)], device=device)
        dist.all_reduce(counts)
        if dist.get_rank() == 0:
            print(f"epoch {epoch}: {int(counts[0])} of {int(counts[1])} validation images right")
dist.destroy_process_group()
