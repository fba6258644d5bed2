"""How far each checkpoint is from the next image, and what bringing it would take: what a router asks for. Pure."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping
from pathlib import Path

from ..stats.events import GB, Totals
from ..stats.machine import Machine
from ..weights.files.pagecache import resident_fraction
from .view import Checkpoint

CARD, KEPT, PAGE_CACHE, DISK = "card", "kept", "page cache", "disk"
MOST = 0.5


def nearest(
    listed: Iterable[tuple[Path, tuple[str, ...]]],
    in_memory: Mapping[Path, str],
    machine: Machine | None,
    totals: Totals,
    cached: Callable[[Path], float | None] = resident_fraction,
) -> list[Checkpoint]:
    """One for every checkpoint that is listed and there; the nearest first. Totals: of this process.

    in_memory: CARD or KEPT by file. cached: the share of a file that is in the page cache.
    """
    found = []
    for path, names in listed:
        try:
            size = path.stat().st_size
        except (OSError, ValueError):
            continue
        share = cached(path)
        where = in_memory.get(path) or (PAGE_CACHE if share is not None and share >= MOST else DISK)
        found.append(Checkpoint(names, where, size, share, seconds(where, size, share, machine, totals)))
    order = (CARD, KEPT, PAGE_CACHE, DISK)
    return sorted(found, key=lambda each: (order.index(each.where), each.names))


def seconds(
    where: str, size: int, share: float | None, machine: Machine | None, totals: Totals
) -> float | None:
    """Until `size` bytes are on the card: building as it went here so far, moving as measured, else as it went.

    None where neither was seen, or where nobody knows how much of the file must come from the disk.
    """
    if where == CARD:
        return 0.0
    measured = machine or Machine(0.0, "")
    rates = [rate for rate in (measured.page_cache, measured.bus) if rate]
    fast = min(rates) if rates else totals.kind("move").rate
    slow = min(measured.disk, fast) if measured.disk and fast else fast
    building = 0.0 if where == KEPT else totals.kind("checkpoint").rate
    if fast is None or slow is None or building is None or share is None:
        return None
    moving = size * share / fast + size * (1 - share) / slow
    return (moving + (size / building if building else 0.0)) / GB
