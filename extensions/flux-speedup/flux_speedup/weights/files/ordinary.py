"""Which memory is this process's alone, and no file's: what is registered of it cannot become other bytes."""

from __future__ import annotations

from bisect import bisect_right
from pathlib import Path

from .written import Ranges

MAPS = Path("/proc/self/maps")


def ordinary_among(ranges: Ranges, maps: Path = MAPS) -> Ranges:
    """Those of these address ranges that are private and anonymous throughout; none where nobody can tell."""
    try:
        known = _private_and_anonymous(maps)
    except (OSError, ValueError):
        return []
    starts = [start for start, _ in known]
    return [
        (start, end)
        for start, end in ranges
        if (number := bisect_right(starts, start) - 1) >= 0 and end <= known[number][1]
    ]


def _private_and_anonymous(maps: Path) -> Ranges:
    """Sorted as the system lists them; neighbours are one."""
    found: Ranges = []
    with maps.open(encoding="utf-8", errors="replace") as lines:
        for line in lines:
            where, mode, _, _, inode = line.split(maxsplit=5)[:5]
            if inode != "0" or not mode.startswith("rw") or not mode.endswith("p"):
                continue
            start, end = (int(part, 16) for part in where.split("-"))
            if found and found[-1][1] == start:
                start = found.pop()[0]
            found.append((start, end))
    return found
