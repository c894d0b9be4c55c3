"""Makes the peers' environments: a virtual environment each, from PyPI and Debian packages.

    python -m bench.environments FOLDER [PEER ...]

What a peer needs is in the header of its file in bench/peers: Python packages with their versions, and Debian packages
where it needs some, which are asked for but not installed. Three of the four bring PyTorch along: 18 GB in all. Needs
Python 3.11, for FFCV.
"""

from __future__ import annotations

import argparse
import re
import shutil
import subprocess
import sys
import tomllib
from dataclasses import dataclass
from pathlib import Path

PEERS = Path(__file__).resolve().parent / "peers"


@dataclass(frozen=True)
class Needs:
    """What the header of a peer's file asks for."""

    python: tuple[str, ...]
    debian: tuple[str, ...]


def needs(peer: Path) -> Needs | None:
    """Return what a file's header asks for; None where it has no header."""
    text = peer.read_text(encoding="utf-8")
    script = re.search(r"^# /// script\n(.*?)^# ///$", text, re.DOTALL | re.MULTILINE)
    if script is None:
        return None
    fields = tomllib.loads(re.sub(r"^# ?", "", script.group(1), flags=re.MULTILINE))
    debian = re.search(r"^# Debian packages: (.+)$", text, re.MULTILINE)
    return Needs(tuple(fields["dependencies"]), tuple(debian.group(1).split()) if debian else ())


def peers() -> dict[str, Needs]:
    """Return the peers and what each needs."""
    found = {path.stem: needs(path) for path in sorted(PEERS.glob("*.py"))}
    return {name: wanted for name, wanted in found.items() if wanted is not None}


def missing(debian: tuple[str, ...]) -> list[str]:
    """Return the Debian packages that are not installed, as far as dpkg can tell."""
    if shutil.which("dpkg-query") is None:
        return []
    command = ["dpkg-query", "--show", "--showformat=${db:Status-Status} "]
    return [
        name
        for name in debian
        if "installed"
        not in subprocess.run([*command, name], capture_output=True, text=True, check=False).stdout.split()
    ]


def main() -> None:
    parser = argparse.ArgumentParser(description="Make the environments of the peers.")
    parser.add_argument("folder", type=Path, help="where they go, a folder for each")
    parser.add_argument("peers", nargs="*", help=f"which; default: {' '.join(peers())}")
    arguments = parser.parse_args()
    chosen = {name: wanted for name, wanted in peers().items() if not arguments.peers or name in arguments.peers}
    if unknown := set(arguments.peers) - set(chosen):
        parser.error(f"unknown peers: {', '.join(sorted(unknown))}. There are: {', '.join(peers())}.")
    if lacking := missing(tuple(name for wanted in chosen.values() for name in wanted.debian)):
        parser.error(f"Debian packages are missing. Run: apt-get install --no-install-recommends {' '.join(lacking)}")
    for name, wanted in chosen.items():
        folder = arguments.folder / name
        print(f"==> {folder}", flush=True)
        subprocess.run([sys.executable, "-m", "venv", "--clear", folder], check=True)
        subprocess.run([folder / "bin" / "python", "-m", "pip", "install", *wanted.python], check=True)


if __name__ == "__main__":
    main()
