"""The command line of gpu_load.py."""

from __future__ import annotations

import argparse
from pathlib import Path

import torch

from measure.places import ROOT


def arguments(description: str | None) -> argparse.Namespace:
    parser = argparse.ArgumentParser(
        description=description, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    add = parser.add_argument
    add(
        "--write",
        type=Path,
        required=True,
        metavar="DIR",
        help="folder for the files; those there are used again",
    )
    add("--tensors", type=Path, default=ROOT.parent / "shared" / "data" / "flux_tensors.json")
    add("--device", default="cuda" if torch.cuda.is_available() else "cpu")
    add("--scale", type=float, default=1.0, help="scales the first dimension of every matrix")
    add("--components", nargs="+", default=["flux", "t5", "clip"])
    add("--repeats", type=int, default=5)
    add("--threads", type=int, default=None, help="reader threads (default: as the product chooses)")
    add("--peers", action="store_true", help="time other loaders that are installed")
    add("--sweep", action="store_true", help="threads x chunk sizes")
    add("--forge", type=Path, default=None, metavar="DIR", help="time Forge's own path, its backend/ in DIR")
    add("--forge-options", default="", help="further options of forge_loop.py, in one word")
    add("--forge-only", action="store_true", help="write the files and time Forge's own path, nothing else")
    add("--no-cold", action="store_true", help="leave out the loads from the disk")
    add("--json", type=Path, default=None, metavar="FILE")
    return parser.parse_args()
