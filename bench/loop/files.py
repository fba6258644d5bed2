"""The files that are loaded: those given, in the page cache, or tiny ones."""

from __future__ import annotations

import argparse
import os
import time
from pathlib import Path

import torch

from flux_speedup.weights.files.mapping import FileIdentity
from flux_speedup.weights.transfer.reader import FileSource
from measure.output import say
from measure.places import ROOT, module_at
from measure.reading import read_pieces

from .options import PARTS

BUFFER = 8 << 20


def prepare(options: argparse.Namespace) -> None:
    missing = [part for part in PARTS if getattr(options, part) is None]
    if missing:
        raise SystemExit(f"files are missing: {', '.join(f'--{part}' for part in missing)}")
    options.work = options.work or options.flux.parent
    if options.second is None:
        options.second = options.flux.with_name(f"second-{options.flux.name}")
        if not options.second.exists():
            os.link(options.flux, options.second)
        say("B is a hard link to A: times count, but A and B have the same bytes")
    if options.touch:
        start = time.perf_counter()
        touched = torch.empty(int(options.touch * 1e9), dtype=torch.uint8).fill_(1)
        del touched
        say(f"{options.touch:g} GB of RAM touched in {time.perf_counter() - start:.1f} s")
    start = time.perf_counter()
    files = [getattr(options, part) for part in (*PARTS, "second")]
    total = sum(read_through(file) for file in files)
    say(f"{total / 1e9:.1f} GB read, so that the page cache is warm: {time.perf_counter() - start:.1f} s")


def prepare_tiny(options: argparse.Namespace) -> None:
    tiny = module_at(ROOT / "tests" / "integration" / "tiny_flux.py")
    files = tiny.write_all(options.tiny)
    found = {"flux": "one", "second": "two", "t5": "t5", "clip": "clip", "ae": "vae"}
    for part, name in found.items():
        setattr(options, part, files[name])
    options.work = options.work or options.tiny


def read_through(path: Path, threads: int = 8) -> int:
    """Bring the file into the page cache; its size in bytes."""
    size = path.stat().st_size
    source = FileSource(path, FileIdentity.of(path.stat()))
    pieces = ((start, min(BUFFER, size - start)) for start in range(0, size, BUFFER))
    read_pieces(source.read_into, pieces, threads, BUFFER)
    source.close()
    return size
