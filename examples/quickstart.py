"""Train a small network on a folder of images, in one sitting: python examples/quickstart.py [FOLDER]

FOLDER holds one folder of images per class, or train and val that hold those. Without it, pictures are generated.
On two CPU cores this takes a minute or two.
"""

import sys

import torch
from torch import nn

import dalipipe
from dalipipe import samples

folder = sys.argv[1] if len(sys.argv) > 1 else samples.ensure()
train_images, val_images = dalipipe.split_sources(folder)
recipe = dalipipe.Recipe.load("demo-train")  # or "imagenet-train", or the path of your own TOML file

device = "cuda" if torch.cuda.is_available() else "cpu"
network = nn.Sequential(
    *(nn.Conv2d(3, 16, 5, stride=2), nn.BatchNorm2d(16), nn.ReLU()),
    *(nn.Conv2d(16, 32, 3, stride=2), nn.BatchNorm2d(32), nn.ReLU()),
    *(nn.Conv2d(32, 64, 3, stride=2), nn.BatchNorm2d(64), nn.ReLU()),
    *(nn.AdaptiveAvgPool2d(1), nn.Flatten(), nn.Linear(64, len(train_images.classes))),
).to(device)
optimizer = torch.optim.Adam(network.parameters(), lr=3e-3)

with (
    dalipipe.DataLoader(train_images, batch_size=20, shuffle=True, recipe=recipe) as train_loader,
    dalipipe.DataLoader(val_images, batch_size=20, recipe=recipe.eval_twin()) as val_loader,
):
    for epoch in range(1, 9):
        network.train()
        for images, labels in train_loader:
            loss = nn.functional.cross_entropy(network(images.to(device)), labels.to(device))
            optimizer.zero_grad()
            loss.backward()
            optimizer.step()

        network.eval()
        with torch.no_grad():
            guesses = torch.cat([network(images.to(device)).argmax(dim=1).cpu() for images, _ in val_loader])
        right = int((guesses == torch.from_numpy(val_images.labels)).sum())
        print(f"epoch {epoch}: {right} of {len(val_images)} validation images right")
