"""The command line of forge_loop.py, for the parent and for its children."""

from __future__ import annotations

import argparse
from pathlib import Path

PARTS = ("flux", "t5", "clip", "ae")
VARIANTS = ("ours", "direct", "host")


def arguments(description: str | None) -> argparse.Namespace:
    parser = argparse.ArgumentParser(
        description=description, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    add = parser.add_argument
    add("--forge", type=Path, required=True, metavar="DIR", help="a folder with Forge's backend/")
    for part in PARTS:
        add(f"--{part}", type=Path, default=None, metavar="FILE")
    add("--second", type=Path, default=None, metavar="FILE", help="checkpoint B (default: a link to A)")
    add("--tiny", type=Path, default=None, metavar="DIR", help="write tiny files there and use those")
    add("--work", type=Path, default=None, metavar="DIR", help="for logs (default: beside the files)")
    add("--variants", nargs="+", default=["ours", "host"], choices=VARIANTS)
    add("--cases", nargs="+", default=[], help="only cases whose name contains one of these")
    add("--images", type=int, default=3)
    add("--steps", type=int, default=None, help="default: 8, tiny: 2")
    add("--width", type=int, default=None, help="default: 1344, tiny: 128")
    add("--height", type=int, default=None, help="default: 768, tiny: 128")
    add("--touch", type=float, default=0, metavar="GB", help="RAM touched once before (virtual machines)")
    add(
        "--profile",
        nargs="+",
        default=[],
        metavar="NAME",
        help="log a profile of phases with that in their name",
    )
    add("--budget", type=float, default=3600, metavar="SECONDS")
    add("--share", type=float, default=0.35, help="what a variant but the last may take of the budget left")
    add("--json", type=Path, default=None, metavar="FILE")
    add("--child", default=None, help=argparse.SUPPRESS)
    add("--until", type=float, default=0, help=argparse.SUPPRESS)
    add("--rows", type=Path, default=None, help=argparse.SUPPRESS)
    options = parser.parse_args()
    small = options.tiny is not None
    options.steps = options.steps or (2 if small else 8)
    options.width = options.width or (128 if small else 1344)
    options.height = options.height or (128 if small else 768)
    if options.child:
        options.work = options.work or options.tiny or options.flux.parent
    return options


def log_of(options: argparse.Namespace, variant: str) -> Path:
    return Path(f"{options.work}/forge-loop-{variant}.log")
