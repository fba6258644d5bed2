"""What the extension adds to a real Forge's start, headless: starts without and with it, in turns.

Bar: 0.5 s with --flux-speedup-fast-callbacks off, that is before any of its gains.
Run: python bench/forge_start.py FORGE [PAIRS]
"""

from __future__ import annotations

import re
import statistics
import sys
import tempfile
from pathlib import Path

sys.path.insert(0, str(Path(__file__).resolve().parents[1]))

from tests.integration.forge import EXTENSION, Forge

VARIANTS: dict[str, tuple[dict[str, Path], list[str]]] = {
    "without": ({}, []),
    "with, gains off": ({"flux-speedup": EXTENSION}, ["--flux-speedup-fast-callbacks", "off"]),
    "with": ({"flux-speedup": EXTENSION}, []),
}


def start(forge: Path, extensions: dict[str, Path], flags: list[str]) -> float:
    """Seconds of one start, as Forge says them."""
    with (
        tempfile.TemporaryDirectory() as data,
        Forge(forge, Path(data), flags=("--nowebui", "--api", *flags), extensions=extensions) as running,
    ):
        found = re.search(r"Startup time: ([\d.]+)s", running.log())
        assert found is not None
        return float(found.group(1))


def main() -> int:
    forge, pairs = Path(sys.argv[1]), int(sys.argv[2]) if len(sys.argv) > 2 else 5
    seen: dict[str, list[float]] = {name: [] for name in VARIANTS}
    for _ in range(pairs):
        for name, (extensions, flags) in VARIANTS.items():
            seen[name].append(start(forge, extensions, flags))
    base = statistics.median(seen["without"])
    for name, seconds in seen.items():
        middle = statistics.median(seconds)
        print(
            f"{name:16} median {middle:5.1f} s ({min(seconds):.1f} to {max(seconds):.1f}), {middle - base:+.2f} s"
        )
    return 0


if __name__ == "__main__":
    sys.exit(main())
