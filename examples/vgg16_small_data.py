"""Fine-tune VGG16 on about a hundred images: python examples/vgg16_small_data.py photos

The pretrained convolutions stay as they are; global average pooling and one dense layer take the place of VGG16's
three, which have 120 million weights; training stops when three epochs in a row have not lowered the validation loss.
photos holds one folder of images per class; a fifth of each class validates. Without a network connection give the
weights as a file, or --weights none. This is written out for you to change; the same as one command:

    dalipipe train photos --model vgg16 --head gap --freeze backbone --recipe small-data
"""

import argparse
import copy

import torch
from torch import nn
from torchvision import models

import dalipipe

parser = argparse.ArgumentParser()
parser.add_argument("folder")
parser.add_argument("--weights", default="default", help="default, none, or the file of a VGG16 state dict")
parser.add_argument("--recipe", default="small-data", help="rotation, flip, random crop")
parser.add_argument("--epochs", type=int, default=30)
parser.add_argument("--batch-size", type=int, default=16)
parser.add_argument("--patience", type=int, default=3)
arguments = parser.parse_args()

torch.manual_seed(0)
device = "cuda" if torch.cuda.is_available() else "cpu"
train_images, val_images = dalipipe.split_sources(arguments.folder)
recipe = dalipipe.Recipe.load(arguments.recipe)

network = models.vgg16(weights="DEFAULT" if arguments.weights == "default" else None)
if arguments.weights not in ("default", "none"):
    network.load_state_dict(torch.load(arguments.weights, weights_only=True))
network.features.requires_grad_(False)
network.avgpool = nn.AdaptiveAvgPool2d(1)
network.classifier = nn.Sequential(nn.Dropout(0.5), nn.Linear(512, len(train_images.classes)))
network.to(device)
optimizer = torch.optim.SGD(network.classifier.parameters(), lr=0.01, momentum=0.9)

with (
    dalipipe.DataLoader(train_images, arguments.batch_size, shuffle=True, recipe=recipe, seed=0) as train_loader,
    dalipipe.DataLoader(val_images, arguments.batch_size, recipe=recipe.eval_twin()) as val_loader,
):
    best_loss, best_weights, waited = float("inf"), None, 0
    for epoch in range(1, arguments.epochs + 1):
        network.train()
        for images, labels in train_loader:
            loss = nn.functional.cross_entropy(network(images.to(device)), labels.to(device))
            optimizer.zero_grad()
            loss.backward()
            optimizer.step()

        network.eval()
        total, right = 0.0, 0
        with torch.no_grad():
            for images, labels in val_loader:
                logits, labels = network(images.to(device)), labels.to(device)
                total += nn.functional.cross_entropy(logits, labels, reduction="sum").item()
                right += int((logits.argmax(dim=1) == labels).sum())
        val_loss = total / len(val_images)
        print(f"epoch {epoch}: validation loss {val_loss:.4f}, {right} of {len(val_images)} right")
        if val_loss < best_loss:
            best_loss, best_weights, waited = val_loss, copy.deepcopy(network.classifier.state_dict()), 0
        else:
            waited += 1
            if waited == arguments.patience:
                print(f"stopped: no better validation loss in {waited} epochs")
                break
    network.classifier.load_state_dict(best_weights)
print(f"best validation loss {best_loss:.4f}")
