"""The command line that packs weight files ahead of time. Needs PyTorch and NumPy, which every WebUI brings."""

from __future__ import annotations

import argparse
import os
import sys
from collections.abc import Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

from ...configuration import config, sources
from ...local_models.places import data_folder
from ...local_models.progress import Bar
from ...ram import cores
from ...stats.report import size
from ..errors import WeightsError
from ..files.identity import identity
from .index import packed_of, size_of
from .packing import packing
from .room import Room

USAGE_ERROR = 2
MOST_THREADS = 16
"""More only wait for the interpreter and for memory."""


def main(arguments: Sequence[str], folder: Path, environ: Mapping[str, str] = os.environ) -> int:
    """The exit code: 0 all are packed, 1 one is not, 2 wrong usage. `folder`: the extension's."""
    asked = _parser().parse_args(arguments)
    data = data_folder(folder)
    gathered = sources.gather([], environ, shipped=folder / "config.json", data_folder=data)
    found = config.load(gathered.sources).config
    if asked.folder is None and data is None:
        sys.stderr.write("this is not in a WebUI's extensions folder: give --folder, where packed files go\n")
        return USAGE_ERROR
    into = asked.folder or (data or folder) / "cache" / "flux-speedup" / "packed"
    room = Room(into.absolute(), int((found.packed_gib if asked.limit is None else asked.limit) * (1 << 30)))
    room.sweep()
    return max([_pack(path.absolute(), room) for path in asked.files])


def _pack(path: Path, room: Room) -> int:
    bar = Bar(path.name, 0)
    try:
        with ThreadPoolExecutor(min(MOST_THREADS, cores())) as pool:
            for now in packing(path, room, pool.map):
                bar.at(now.done, now.bytes)
    except (WeightsError, OSError) as error:
        sys.stderr.write(f"{error}\n")
        return 1
    finally:
        bar.close()
    if (found := identity(path)) is not None:
        packed = packed_of(found, room.folder)
        share = f"{size(found.size)} -> {size(size_of(packed))} ({size_of(packed) / found.size:.1%})"
        sys.stdout.write(f"{path.name}: {share}, the same bit for bit\n{packed}\n")
    return 0


def _parser() -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser(
        prog="pack.py",
        description="Pack bf16 weight files, bit for bit: loads read a quarter less where `packed` is on. The "
        "files stay as they are; what was cut off is gone on with.",
    )
    parser.add_argument("files", nargs="+", type=Path, metavar="FILE", help="a .safetensors file")
    parser.add_argument("--folder", type=Path, metavar="DIR", help="where packed files go")
    parser.add_argument("--limit", type=float, metavar="GIB", help="what all of them may take (`packed_gib`)")
    return parser
