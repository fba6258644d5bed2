"""The order of the rows: the machine's plain copies, our loads, and other loaders."""

from __future__ import annotations

import argparse
from pathlib import Path
from typing import Any

from flux_speedup.weights.files.mapping import MAPPINGS
from flux_speedup.weights.transfer.staging import Arena
from measure.output import say

from .loads import cold, straight, warm
from .models import size_of_tensors
from .peers import peers
from .plain import pinned_copy
from .rows import Bench
from .sweep import sweep


def our_rows(options: argparse.Namespace, bench: Bench, paths: dict[str, Path]) -> dict[str, Any]:
    """All rows, and the ratio that travels from machine to machine."""
    mappings = {name: MAPPINGS.open(path) for name, path in paths.items()}
    arena = Arena()
    label = options.components[0]
    main_file = mappings[label]
    floor = pinned_copy(bench, size_of_tensors(main_file))
    warm(bench, label, arena, options.threads, main_file)
    load = next(row["best_s"] for row in bench.rows if row["name"].endswith(": warm load"))
    say(f"warm load / plain copy: {load / floor:.3f}")
    if bench.device.type == "cuda":
        straight(bench, label, arena, main_file)
    if {"t5", "clip"} <= mappings.keys():
        warm(bench, "t5 + clip", arena, options.threads, mappings["t5"], mappings["clip"])
    if options.sweep:
        sweep(bench, main_file)
    if options.peers:
        peers(bench, main_file)
    if not options.no_cold:
        cold(bench, label, arena, main_file)
    return {"warm_over_plain": load / floor, "rows": bench.rows}
