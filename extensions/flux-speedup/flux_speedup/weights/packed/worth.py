"""What packed weights would bring on this machine, as far as it was measured."""

from __future__ import annotations

from functools import lru_cache
from pathlib import Path

from ...stats.machine import Machine
from ...stats.report import seconds, size
from ..errors import WeightsError
from ..files.header import read_header
from .file import packs


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
    rates = (("from the disk", machine.disk), ("over the bus", machine.bus)) if machine is not None else ()
    ways = [
        f"{how} in {seconds(packed / rate / 1e9)}, not {seconds(whole / rate / 1e9)}"
        for how, rate in rates
        if rate
    ]
    brings = f": {', '.join(ways)}, where the card decodes fast enough" if ways else ""
    told = f"{size(packed)} for the {size(whole)} of {path.name}, bit for bit{brings}."
    if on:
        return f"Packed weights are on: {told}"
    return (
        f"Packed weights would read {told} They take that room on the disk, and are switched on in "
        "Settings > Flux Speedup."
    )


@lru_cache(maxsize=16)
def _packs(path: Path, size: int, _mtime_ns: int) -> tuple[int, int] | None:
    with path.open("rb") as file:
        return packs(read_header(file, size, path).tensors.values())
