"""Which pages of a private file mapping were written to: they belong to this process, not to the file.

Pages that were never touched are not read in by any of these questions.
"""

from __future__ import annotations

import mmap
import struct
import sys
from collections.abc import Callable, Iterable, Iterator
from pathlib import Path

Ranges = list[tuple[int, int]]

PAGE = mmap.PAGESIZE
_SCAN = 0xC0606610  # _IOWR('f', 16, struct pm_scan_arg): linux/fs.h, Linux 6.7 and later
_IS_FILE, _IS_PRESENT, _IS_SWAPPED = 1 << 2, 1 << 3, 1 << 4
_SCAN_ARGUMENT = struct.Struct("=12Q")
_REGION = struct.Struct("=3Q")
_REGIONS = 512
_GAP = 1 << 20
"""Bytes between two parts that are looked at as one."""
_ENTRIES = 1 << 16
_PRESENT, _SWAPPED, _FILE = 1 << 63, 1 << 62, 1 << 61  # linux/Documentation/admin-guide/mm/pagemap.rst


def written_ranges(address: int, length: int) -> Ranges | None:
    """Address ranges, sorted, of written pages in [address, address + length); None where nobody can tell."""
    if length == 0:
        return []
    if sys.platform == "win32":
        return []  # there a mapping cannot be written
    end = address + -(-length // PAGE) * PAGE
    for question in (_by_scan, _by_smaps):
        try:
            return question(address, end)
        except (OSError, ValueError, ImportError):
            continue  # an older kernel, or a container without this file: the next one
    return None


class Looks:
    """`written_ranges` of one part after another of mappings, for one load.

    It takes milliseconds for a GB whose pages are mapped: so only what is asked for is looked at, where the kernel
    can, and elsewhere all of a mapping once.
    """

    def __init__(
        self,
        scan: Callable[[int, int], Ranges] | None = None,
        ask: Callable[[int, int], Ranges | None] = written_ranges,
    ) -> None:
        """`scan`: of [start, end) alone; raises OSError where the kernel cannot. `ask`: of start, length; then."""
        self._scan = scan or _by_scan
        self._ask = ask
        self._whole: dict[int, Ranges | None] = {}

    def among(self, parts: Iterable[tuple[int, int]], address: int, length: int) -> Ranges | None:
        """What was written among these [start, end) of a mapping; what else was, may be there, too."""
        if address not in self._whole:
            try:
                return [each for run in _runs(parts) for each in self._scan(*run)]
            except (OSError, ValueError, ImportError):
                self._whole[address] = self._ask(address, length)
        return self._whole[address]


def _runs(parts: Iterable[tuple[int, int]]) -> list[tuple[int, int]]:
    """The pages of these, in order; near ones as one."""
    runs: list[tuple[int, int]] = []
    for start, end in sorted(parts):
        start, end = start // PAGE * PAGE, -(-end // PAGE) * PAGE
        if runs and start <= runs[-1][1] + _GAP:
            start, end = runs[-1][0], max(end, runs.pop()[1])
        runs.append((start, end))
    return runs


def overlaps(ranges: Ranges, start: int, length: int) -> bool:
    """Whether any byte of [start, start + length) lies in one of the ranges."""
    return any(begin < start + length and start < end for begin, end in ranges)


def _by_scan(start: int, end: int) -> Ranges:
    """PAGEMAP_SCAN over the range alone: the kernel walks only what is populated."""
    import ctypes
    import fcntl

    found: Ranges = []
    buffer = ctypes.create_string_buffer(_REGION.size * _REGIONS)
    with Path("/proc/self/pagemap").open("rb", buffering=0) as pagemap:
        while start < end:
            argument = bytearray(
                _SCAN_ARGUMENT.pack(
                    _SCAN_ARGUMENT.size, 0, start, end, 0, ctypes.addressof(buffer), _REGIONS, 0,
                    _IS_FILE, _IS_FILE, _IS_PRESENT | _IS_SWAPPED, _IS_PRESENT,
                )
            )  # fmt: skip
            count = fcntl.ioctl(pagemap, _SCAN, argument, True)
            for index in range(count):
                begin, stop, _ = _REGION.unpack_from(buffer, index * _REGION.size)
                found.append((begin, stop))
            walked = _SCAN_ARGUMENT.unpack(argument)[4]
            if walked <= start:
                raise ValueError("the page scan made no progress")
            start = walked
    return found


def _by_smaps(start: int, end: int) -> Ranges:
    """Anonymous in /proc/self/smaps for the whole mapping; page by page only where it is above zero."""
    found: Ranges = []
    known = False
    for begin, stop, anonymous in _smaps(Path("/proc/self/smaps")):
        if begin < end and start < stop:
            known = True
            if anonymous:
                found += _by_pagemap(max(begin, start), min(stop, end))
    if not known:
        raise ValueError("the mapping is not listed")
    return found


def _smaps(path: Path) -> Iterator[tuple[int, int, int]]:
    begin = stop = 0
    with path.open(encoding="utf-8", errors="replace") as lines:
        for line in lines:
            first = line.split(maxsplit=1)[0] if line.strip() else ""
            if first == "Anonymous:":
                yield begin, stop, int(line.split()[1])
            elif "-" in first and not first.endswith(":"):
                begin, stop = (int(part, 16) for part in first.split("-"))


def _by_pagemap(start: int, end: int) -> Ranges:
    found: Ranges = []
    with Path("/proc/self/pagemap").open("rb", buffering=0) as pagemap:
        for first in range(start // PAGE, end // PAGE, _ENTRIES):
            count = min(_ENTRIES, end // PAGE - first)
            pagemap.seek(first * 8)
            raw = pagemap.read(count * 8)
            if len(raw) != count * 8:
                raise ValueError("the page map ended early")
            for index, (entry,) in enumerate(struct.iter_unpack("=Q", raw)):
                if entry & (_PRESENT | _SWAPPED) and not entry & _FILE:
                    page = (first + index) * PAGE
                    if found and found[-1][1] == page:
                        found[-1] = (found[-1][0], page + PAGE)
                    else:
                        found.append((page, page + PAGE))
    return found
