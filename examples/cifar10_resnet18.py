"""ResNet-18 on CIFAR-10, with SGD, a learning rate of 0.001, momentum 0.9 and 10 epochs:

    python examples/cifar10_resnet18.py --data data --download

torchvision's CIFAR10 holds its images in memory; they go through dalipipe's loader as an ArraySource. The recipe
cifar-train pads by 4 px, crops 32 px at random and flips.
"""

import argparse

import torch
from torch import nn
from torchvision import models
from torchvision.datasets import CIFAR10

import dalipipe
from dalipipe.sources import ArraySource

parser = argparse.ArgumentParser()
parser.add_argument("--data", default="data", help="folder that holds cifar-10-batches-py")
parser.add_argument("--download", action="store_true", help="fetch the data set first, 170 MB")
parser.add_argument("--epochs", type=int, default=10)
parser.add_argument("--batch-size", type=int, default=64)
parser.add_argument("--lr", type=float, default=0.001)
arguments = parser.parse_args()

torch.manual_seed(0)
device = "cuda" if torch.cuda.is_available() else "cpu"
train_set = CIFAR10(arguments.data, train=True, download=arguments.download)
test_set = CIFAR10(arguments.data, train=False)
train_images = ArraySource(train_set.data, train_set.targets, train_set.classes)
test_images = ArraySource(test_set.data, test_set.targets, test_set.classes)

network = models.resnet18(num_classes=len(train_images.classes)).to(device)
optimizer = torch.optim.SGD(network.parameters(), lr=arguments.lr, momentum=0.9)

with (
    dalipipe.DataLoader(train_images, arguments.batch_size, shuffle=True, recipe="cifar-train", seed=0) as train_loader,
    dalipipe.DataLoader(test_images, 256, recipe="cifar-eval") as test_loader,
):
    for epoch in range(1, arguments.epochs + 1):
        network.train()
        total = 0.0
        for images, labels in train_loader:
            loss = nn.functional.cross_entropy(network(images.to(device)), labels.to(device))
            optimizer.zero_grad()
            loss.backward()
            optimizer.step()
            total += loss.item() * len(labels)

        network.eval()
        right = 0
        with torch.no_grad():
            for images, labels in test_loader:
                right += int((network(images.to(device)).argmax(dim=1) == labels.to(device)).sum())
        print(f"epoch {epoch}: loss {total / len(train_images):.4f}, {right} of {len(test_images)} test images right")
