"""What packed weights would bring on this machine, as far as it was measured."""

from __future__ import annotations

from collections.abc import Iterable
from functools import lru_cache
from pathlib import Path

import torch

from ...stats.machine import Machine
from ...stats.report import seconds, size
from ..errors import WeightsError
from ..files.header import TensorEntry, read_header

LEAST = 0.1
"""The share of a file that packing must save."""


def packs(tensors: Iterable[TensorEntry]) -> tuple[int, int] | None:
    """Bytes of these tensors, and about how many a packed file of them has; None where that hardly saves any."""
    sizes = [(entry.length, entry.dtype is torch.bfloat16) for entry in tensors]
    whole = sum(size for size, _ in sizes)
    saved = sum(size for size, gains in sizes if gains) // 4
    return (whole, whole - saved) if saved and saved >= LEAST * whole else None


def worth(path: Path, machine: Machine | None, on: bool) -> str:
    """For a weight file, to people who may want it or have it (`on`); "" where packing hardly saves anything.

    Reads a header at the first time.
    """
    try:
        stat = path.stat()
        found = _packs(path, stat.st_size, stat.st_mtime_ns)
    except (OSError, WeightsError):
        found = None
    if found is None:
        return ""
    whole, packed = found
    rates = (
        (("from the disk", machine.disk), ("from registered pages", machine.bus))
        if machine is not None
        else ()
    )
    ways = [
        f"{how} in {seconds(packed / rate / 1e9)}, not {seconds(whole / rate / 1e9)}"
        for how, rate in rates
        if rate
    ]
    brings = f": {', '.join(ways)}, where the card decodes fast enough" if ways else ""
    told = f"{size(packed)} for the {size(whole)} of {path.name}, bit for bit{brings}."
    if on:
        return f"Packed weights are on: {told}"
    more = "They take that room on the disk, and are switched on in Settings > Flux Speedup."
    return f"Packed weights would read {told} {more}"


@lru_cache(maxsize=16)
def _packs(path: Path, size: int, _mtime_ns: int) -> tuple[int, int] | None:
    with path.open("rb") as file:
        return packs(read_header(file, size, path).tensors.values())
