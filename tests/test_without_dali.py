"""Where DALI is not installed: "auto" is torchvision, commands work, and who asks for a DALI backend is told."""

import os
import subprocess
import sys
from pathlib import Path

import numpy as np
from PIL import Image

BLOCKED = """
import pathlib, sys
class Block:
    def find_spec(self, name, path=None, target=None):
        if name.split(".")[:2] == ["nvidia", "dali"]:
            raise ModuleNotFoundError(f"No module named {name!r}", name=name)
sys.meta_path.insert(0, Block())
import dalipipe
from dalipipe.cli import app

photos, out = sys.argv[1:]

def load(backend, **options):
    with dalipipe.DataLoader(photos, 2, recipe="demo-eval", backend=backend, **options) as loader:
        return loader.backend, tuple(next(iter(loader))[0].shape)

def command(*words):
    print(f"-- {words[0]}", flush=True)
    print(f"-- {words[0]}", file=sys.stderr, flush=True)
    sys.stdout.flush()
    sys.argv = ["dalipipe", *words]
    try:
        app()
    except SystemExit as end:
        print(f"-- {words[0]} ended: {end.code or 0}")

shape = load("torchvision")[1]
assert load("auto") == ("torchvision", shape), load("auto")
assert load("auto", cache="ram") == ("torchvision", shape)
for name in ("dali-cpu", "dali-cpu-stock", "dali-gpu"):
    try:
        load(name)
    except dalipipe.BackendError as error:
        assert str(error).startswith(f"{name}: needs NVIDIA DALI, which is not installed."), error
        assert "nvidia-dali-cuda120" in str(error)
    else:
        raise AssertionError(name)
command("show", "demo-eval")
command("check", photos)
pathlib.Path(photos, "bees/broken.jpg").unlink()
command("preview", photos, "--recipe", "demo-train", "--output", f"{out}/preview.png")
command("train", photos, "--epochs", "1", "--weights", "none", "--recipe", "demo-train", "--model", "resnet18",
        "--output", f"{out}/run", "--no-report")
command("predict", f"{out}/run/best.pt", photos)
command("parity", photos, "--recipe", "demo-eval")
command("bench", photos, "--recipe", "demo-eval", "--backends", "decode-only")
"""


def test_everything_but_dali_works_without_it(tmp_path: Path):
    photos = tmp_path / "photos"
    for label in ("ants", "bees"):
        (photos / label).mkdir(parents=True)
        for number in range(5):
            levels = np.random.default_rng([number, label == "ants"]).integers(0, 256, (17, 23, 3), dtype=np.uint8)
            Image.fromarray(levels).save(photos / label / f"{number}.png")
    (photos / "bees" / "broken.jpg").write_bytes(b"\xff\xd8\xff no image")
    done = subprocess.run(
        [sys.executable, "-c", BLOCKED, str(photos), str(tmp_path)],
        env={**os.environ, "COLUMNS": "200"},
        capture_output=True,
        text=True,
        timeout=240,
    )
    assert done.returncode == 0, done.stderr
    for name, status in {
        "show": 0,
        "check": 1,
        "preview": 0,
        "train": 0,
        "predict": 0,
        "parity": 2,
        "bench": 2,
    }.items():
        assert f"-- {name} ended: {status}" in done.stdout, (name, done.stdout, done.stderr)
    assert "Traceback" not in done.stderr
    assert done.stderr.count("backend auto: torchvision, since NVIDIA DALI is not installed") == 1
    assert "broken.jpg" in done.stdout
    assert "decode-only: needs NVIDIA DALI, which is not installed." in done.stderr
