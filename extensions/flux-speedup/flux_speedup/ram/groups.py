"""Control groups of Linux, versions 1 and 2: this process's own group and every group above it that can be seen.

A limit above holds for all that is below it, so all of them are asked. Inside a container the groups above are
often out of sight; version 1 tells their smallest limit in the own group's figures.
"""

from __future__ import annotations

import re
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path, PurePosixPath

from .system import PROC, lines, number, numbers

Folder = tuple[int, Path]
"""Version of the hierarchy, and the folder of a group in it."""


@dataclass(frozen=True)
class MemoryGroup:
    """Bytes: the most it may use, what it uses, and how much of that are pages of files, which go when asked."""

    limit: int
    used: int
    files: int

    def free(self, held: int = 0) -> int:
        """Bytes that can still be had in it; `held` bytes of file pages are registered and do not go.

        Whether those count in this group nobody says (a page counts where it was read first): they are taken
        to.
        """
        return max(0, min(self.limit, self.limit - self.used + self.files - held))


def memory_groups(proc: Path = PROC) -> list[MemoryGroup]:
    """Every group that this process is in and that has a limit. Empty where there are none."""
    found = (_memory_of(version, folder) for version, folder in folders("memory", proc))
    return [group for group in found if group is not None]


def cpu_quota(proc: Path = PROC) -> float | None:
    """Processors' worth of time this process may use, the smallest of all its groups; None without a limit."""
    found = (_quota_of(version, folder) for version, folder in folders("cpu", proc))
    return min((quota for quota in found if quota is not None), default=None)


def folders(controller: str, proc: Path = PROC) -> Iterator[Folder]:
    """Own group first, then those above, of both versions; some may not have the controller's files."""
    places = _places(controller, proc)
    for version, points in _mounts(controller, proc).items():
        place = places.get(version)
        if place is None:
            continue
        inside = [(point, inner) for point, root in points if (inner := _below(place, root)) is not None]
        # Seen from another namespace the names do not fit together: what is mounted is all there is to see.
        for point, inner in inside or [(point, PurePosixPath()) for point, _ in points]:
            for part in (inner, *inner.parents):
                yield version, point / part


def _places(controller: str, proc: Path) -> dict[int, str]:
    """The name of our group by version."""
    found: dict[int, str] = {}
    for line in lines(proc / "self" / "cgroup"):
        number_, _, rest = line.partition(":")
        controllers, _, place = rest.partition(":")
        if number_ == "0" and not controllers:
            found[2] = place
        elif controller in controllers.split(","):
            found[1] = place
    return found


def _mounts(controller: str, proc: Path) -> dict[int, list[tuple[Path, str]]]:
    """Where hierarchies with the controller are mounted, and from which group on, by version."""
    found: dict[int, list[tuple[Path, str]]] = {}
    for line in lines(proc / "self" / "mountinfo"):
        where, _, what = line.partition(" - ")
        places, kinds = where.split(" "), what.split(" ")
        if len(places) < 5 or not kinds:
            continue
        version = 2 if kinds[0] == "cgroup2" else 1
        if kinds[0] == "cgroup2" or (kinds[0] == "cgroup" and controller in kinds[-1].split(",")):
            found.setdefault(version, []).append((Path(_plain(places[4])), _plain(places[3])))
    return found


def _below(place: str, root: str) -> PurePosixPath | None:
    """`place` as seen from `root`; None where it is not below it."""
    inner, above = PurePosixPath("/", place.lstrip("/")), PurePosixPath("/", root.lstrip("/"))
    if ".." in inner.parts or ".." in above.parts or not inner.is_relative_to(above):
        return None
    return inner.relative_to(above)


def _plain(name: str) -> str:
    r"""Spaces and the like are written as "\040" there."""
    return re.sub(r"\\([0-7]{3})", lambda found: chr(int(found[1], 8)), name)


def _memory_of(version: int, folder: Path) -> MemoryGroup | None:
    stat = numbers(folder / "memory.stat")
    if version == 2:
        limits = [number(folder / "memory.max"), number(folder / "memory.high")]
        used = number(folder / "memory.current")
        files = stat.get("active_file", 0) + stat.get("inactive_file", 0)
    else:
        limits = [number(folder / "memory.limit_in_bytes"), stat.get("hierarchical_memory_limit")]
        used = number(folder / "memory.usage_in_bytes")
        files = stat.get("total_active_file", 0) + stat.get("total_inactive_file", 0)
    known = [limit for limit in limits if limit is not None and limit >= 0]
    return MemoryGroup(min(known), used or 0, files) if known else None


def _quota_of(version: int, folder: Path) -> float | None:
    if version == 2:
        words = next(iter(lines(folder / "cpu.max")), "").split()
        quota, period = [int(word) if word.isdigit() else 0 for word in (*words, "0", "0")[:2]]
    else:
        quota = number(folder / "cpu.cfs_quota_us") or 0
        period = number(folder / "cpu.cfs_period_us") or 0
    return quota / period if quota > 0 and period > 0 else None
