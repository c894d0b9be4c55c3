"""SimCLR on a folder of images, without labels, and what a linear classifier makes of the features:

    python examples/simclr.py photos/train photos/val --epochs 250

Without folders it makes pictures. Each image is decoded once and gives two views; the probe sees its centre.
Source: Chen et al., A simple framework for contrastive learning (arXiv:2002.05709).
"""

import argparse
from itertools import pairwise

import torch
from torch import nn
from torch.nn import functional

import dalipipe
from dalipipe import ops, samples

parser = argparse.ArgumentParser()
parser.add_argument("train", nargs="?", help="a folder of images for each class; labels are for the probe only")
parser.add_argument("val", nargs="?", help="the same, for the probe's accuracy")
parser.add_argument("--epochs", type=int, default=20)
parser.add_argument("--batch-size", type=int, default=64)
parser.add_argument("--size", type=int, default=64, help="of the views, px")
arguments = parser.parse_args()
if arguments.train is None:
    folder = samples.ensure()
    arguments.train, arguments.val = folder / "train", folder / "val"
arguments.val = arguments.val or arguments.train

steps = [  # the recipe simclr for small images: half the strength of colours, and no blur, as in appendix B.9
    ops.RandomResizedCrop(size=arguments.size, scale=(0.25, 1.0)),
    ops.RandomHorizontalFlip(),
    ops.RandomApply(ops=(ops.ColorJitter(brightness=0.4, contrast=0.4, saturation=0.4, hue=0.1),), p=0.8),
    ops.RandomGrayscale(p=0.2),
    ops.ToDtype(scale=True),
]
recipe = dalipipe.Recipe(name="simclr-small", ops=steps).with_views(2)

torch.manual_seed(0)
device = "cuda" if torch.cuda.is_available() else "cpu"
sides = pairwise((3, 32, 64, 128, 256))
blocks = [nn.Sequential(nn.Conv2d(a, b, 3, 2, 1, bias=False), nn.BatchNorm2d(b), nn.ReLU()) for a, b in sides]
network = nn.Sequential(*blocks, nn.AdaptiveAvgPool2d(1), nn.Flatten()).to(device)
head = nn.Sequential(nn.Linear(256, 256), nn.BatchNorm1d(256), nn.ReLU(), nn.Linear(256, 64)).to(device)


def nt_xent(first, second):
    """Return the loss of (n, d) projections: each has to find the other view of its image among all 2n."""
    views = functional.normalize(torch.cat([first, second]))
    likeness = (views @ views.T / 0.2).fill_diagonal_(float("-inf"))
    return functional.cross_entropy(likeness, torch.arange(len(views), device=views.device).roll(len(first)))


@torch.no_grad()
def features(root):
    """Return what the network makes of each image, (n, 256), and its label."""
    network.eval()
    with dalipipe.DataLoader(root, 128, recipe=recipe.eval_twin()) as loader:
        pairs = [(network(images.to(device)).cpu(), labels.cpu()) for images, labels in loader]
    return torch.cat([found for found, _ in pairs]), torch.cat([labels for _, labels in pairs])


def probe():
    """Return the validation accuracy of ridge regression on the features of the training images."""
    (x, y), (x_val, y_val) = features(arguments.train), features(arguments.val)
    mean, std = x.mean(0), x.std(0) + 1e-6
    x, x_val = (x - mean) / std, (x_val - mean) / std
    targets = functional.one_hot(y).float()
    weights = torch.linalg.solve(x.T @ x + 100 * torch.eye(x.shape[1]), x.T @ (targets - targets.mean(0)))
    return ((x_val @ weights + targets.mean(0)).argmax(1) == y_val).float().mean().item()


print(f"random features: {probe():.1%} right")
optimizer = torch.optim.AdamW([*network.parameters(), *head.parameters()], lr=3e-3, weight_decay=1e-4)
options = {"recipe": recipe, "shuffle": True, "drop_last": True, "cache": "auto", "seed": 0}
with dalipipe.DataLoader(arguments.train, arguments.batch_size, **options) as loader:
    for epoch in range(1, arguments.epochs + 1):
        network.train()
        total = 0.0
        for (first, second), _ in loader:
            projections = head(network(torch.cat([first, second]).to(device)))
            loss = nt_xent(*projections.chunk(2))
            optimizer.zero_grad()
            loss.backward()
            optimizer.step()
            total += loss.item() / len(loader)
        print(f"epoch {epoch}: loss {total:.3f}")
print(f"features learnt without labels: {probe():.1%} right")
