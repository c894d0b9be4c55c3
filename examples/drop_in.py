"""Fine-tune a ResNet-18 on a folder of images: python examples/drop_in.py --data photos

photos/train and photos/val hold one folder of images per class. This is a script for torchvision and torch's
DataLoader in which one line differs: the import of DataLoader.
"""

import argparse

import torch
from torch import nn
from torchvision import models, transforms
from torchvision.datasets import ImageFolder

from dalipipe import DataLoader

parser = argparse.ArgumentParser()
parser.add_argument("--data", default="photos", help="folder with train/ and val/")
parser.add_argument("--epochs", type=int, default=5)
parser.add_argument("--batch-size", type=int, default=32)
parser.add_argument("--workers", type=int, default=4)
parser.add_argument("--weights", default="DEFAULT", help='torchvision\'s name of them, or "none"')
arguments = parser.parse_args()

normalize = transforms.Normalize([0.485, 0.456, 0.406], [0.229, 0.224, 0.225])
train_transform = transforms.Compose(
    [transforms.RandomResizedCrop(224), transforms.RandomHorizontalFlip(), transforms.ToTensor(), normalize]
)
val_transform = transforms.Compose(
    [transforms.Resize(256), transforms.CenterCrop(224), transforms.ToTensor(), normalize]
)
train_set = ImageFolder(f"{arguments.data}/train", transform=train_transform)
val_set = ImageFolder(f"{arguments.data}/val", transform=val_transform)
options = {
    "batch_size": arguments.batch_size,
    "num_workers": arguments.workers,
    "pin_memory": torch.cuda.is_available(),
}
train_loader = DataLoader(train_set, shuffle=True, **options)
val_loader = DataLoader(val_set, **options)

device = "cuda" if torch.cuda.is_available() else "cpu"
model = models.resnet18(weights=None if arguments.weights == "none" else arguments.weights)
model.fc = nn.Linear(model.fc.in_features, len(train_set.classes))
model.to(device)
optimizer = torch.optim.SGD(model.parameters(), lr=0.005, momentum=0.9)

for epoch in range(1, arguments.epochs + 1):
    model.train()
    total = 0.0
    for images, labels in train_loader:
        images, labels = images.to(device, non_blocking=True), labels.to(device, non_blocking=True)
        loss = nn.functional.cross_entropy(model(images), labels)
        optimizer.zero_grad()
        loss.backward()
        optimizer.step()
        total += loss.item() * len(labels)

    model.eval()
    right = 0
    with torch.no_grad():
        for images, labels in val_loader:
            right += int((model(images.to(device)).argmax(dim=1) == labels.to(device)).sum())
    print(f"epoch {epoch}: loss {total / len(train_set):.3f}, {right} of {len(val_set)} validation images right")
