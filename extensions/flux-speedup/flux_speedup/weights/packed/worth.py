"""What packed weights would bring on this machine, as far as it was measured."""

from __future__ import annotations

from dataclasses import dataclass
from functools import lru_cache
from pathlib import Path

from ...stats.machine import Machine
from ...stats.report import seconds as in_seconds
from ...stats.report import size
from ..errors import WeightsError
from ..files.header import read_header
from .file import worth_packing
from .packing import LEAST


@dataclass(frozen=True)
class Worth:
    """Bytes of a weight file and of its packed form; seconds to bring them (now, packed), None: not measured."""

    name: str
    whole: int
    packed: int
    disk: tuple[float, float] | None
    bus: tuple[float, float] | None


def worth(path: Path, machine: Machine | None) -> Worth | None:
    """Of a file; None where packing saves less than a tenth. Reads a header at the first time."""
    try:
        stat = path.stat()
        whole, saved = _sizes(path, stat.st_size, stat.st_mtime_ns)
    except (OSError, WeightsError):
        return None
    if not whole or saved < LEAST * whole:
        return None

    def seconds(rate: float | None) -> tuple[float, float] | None:
        return None if not rate else (whole / rate / 1e9, (whole - saved) / rate / 1e9)

    disk, bus = (machine.disk, machine.bus) if machine is not None else (None, None)
    return Worth(path.name, whole, whole - saved, seconds(disk), seconds(bus))


def words(found: Worth, on: bool) -> str:
    """For people who may want it, or have it."""
    ways = [
        f"{how} in {in_seconds(packed)}, not {in_seconds(now)}"
        for how, times in (("from the disk", found.disk), ("over the bus", found.bus))
        if times is not None
        for now, packed in [times]
    ]
    brings = f": {', '.join(ways)}, where the card decodes fast enough" if ways else ""
    if on:
        return f"Packed weights are on: {size(found.packed)} for the {size(found.whole)} of {found.name}{brings}."
    return (
        f"Packed weights would read {size(found.packed)} for the {size(found.whole)} of {found.name}, bit for "
        f"bit{brings}. They take that room on the disk, and are switched on in Settings > Flux Speedup."
    )


@lru_cache(maxsize=16)
def _sizes(path: Path, size: int, _mtime_ns: int) -> tuple[int, int]:
    with path.open("rb") as file:
        return worth_packing(read_header(file, size, path).tensors.values())
