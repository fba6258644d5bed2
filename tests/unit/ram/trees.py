"""A /proc and control groups as files in a folder: what the kernel shows, made up."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path

NO_LIMIT_V1 = 9223372036854771712
KB = 1024


class Tree:
    """`proc` is what stands for /proc. The machine has `total` bytes of RAM, `available` of them."""

    def __init__(self, folder: Path, total: int = 64_000 * KB, available: int = 48_000 * KB) -> None:
        self.proc = folder / "proc"
        self._mounts = folder / "sys fs"
        self._table: list[str] = []
        (self.proc / "self").mkdir(parents=True)
        meminfo = f"MemTotal: {total // KB} kB\nMemFree: 5 kB\nMemAvailable: {available // KB} kB\n"
        (self.proc / "meminfo").write_text(meminfo)

    def is_in(self, *groups: str) -> None:
        """Lines of /proc/self/cgroup, such as "4:memory:/a" or "0::/a"."""
        (self.proc / "self" / "cgroup").write_text("".join(f"{line}\n" for line in groups))

    def mount(self, version: int, name: str = "memory", root: str = "/", point: str = "") -> Path:
        """Mount a hierarchy, seen from group `root` on; where its groups' folders are."""
        place = self._mounts / (point or name)
        place.mkdir(parents=True, exist_ok=True)
        kind, options = ("cgroup2", "rw") if version == 2 else ("cgroup", f"rw,{name}")
        named = str(place).replace(" ", "\\040")
        self._table.append(f"35 31 0:32 {root} {named} rw,relatime shared:9 - {kind} {kind} {options}\n")
        (self.proc / "self" / "mountinfo").write_text(
            "31 23 0:28 / / rw - tmpfs tmpfs rw\n" + "".join(self._table)
        )
        return place


def group(folder: Path, files: Mapping[str, object]) -> None:
    """A group's own files."""
    folder.mkdir(parents=True, exist_ok=True)
    for name, content in files.items():
        (folder / name).write_text(f"{content}\n")


def v2(folder: Path, limit: object, used: int, files: int = 0, high: object = "max") -> None:
    stat = f"anon {used - files}\nfile {files}\nactive_file {files // 2}\ninactive_file {files - files // 2}"
    named = {"memory.max": limit, "memory.high": high, "memory.current": used, "memory.stat": stat}
    group(folder, named)


def v1(folder: Path, limit: int, used: int, files: int = 0, above: int = NO_LIMIT_V1) -> None:
    stat = (
        f"cache {files}\nactive_file 1\nhierarchical_memory_limit {above}\n"
        f"total_active_file {files // 2}\ntotal_inactive_file {files - files // 2}"
    )
    named = {"memory.limit_in_bytes": limit, "memory.usage_in_bytes": used, "memory.stat": stat}
    group(folder, named)
