"""Which pages of a private file mapping were written to: they belong to this process, not to the file.

Pages that were never touched are not read in by any of these questions.
"""

from __future__ import annotations

import mmap
import struct
import sys
from collections.abc import Iterator
from pathlib import Path

import numpy as np

Ranges = list[tuple[int, int]]

PAGE = mmap.PAGESIZE
_SCAN = 0xC0606610  # _IOWR('f', 16, struct pm_scan_arg): linux/fs.h, Linux 6.7 and later
_IS_FILE, _IS_PRESENT, _IS_SWAPPED = 1 << 2, 1 << 3, 1 << 4
_SCAN_ARGUMENT = struct.Struct("=12Q")
_REGION = struct.Struct("=3Q")
_REGIONS = 512
_ENTRIES = 1 << 16
# linux/Documentation/admin-guide/mm/pagemap.rst: from the first on a page is in RAM or swapped out.
_THERE, _FILE = 1 << 62, 1 << 61


def written_ranges(address: int, length: int) -> Ranges | None:
    """Address ranges, sorted, of written pages in [address, address + length); None where nobody can tell."""
    if length == 0:
        return []
    if sys.platform == "win32":
        return []  # there a mapping cannot be written
    end = address + -(-length // PAGE) * PAGE
    for question in (by_scan, _by_smaps):
        try:
            return question(address, end)
        except (OSError, ValueError, ImportError):
            continue  # an older kernel, or a container without this file: the next one
    return None


def overlaps(ranges: Ranges, start: int, length: int) -> bool:
    """Whether any byte of [start, start + length) lies in one of the ranges."""
    return any(begin < start + length and start < end for begin, end in ranges)


def by_scan(start: int, end: int) -> Ranges:
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
                found += by_pagemap(max(begin, start), min(stop, end))
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


def by_pagemap(start: int, end: int) -> Ranges:
    found: Ranges = []
    with Path("/proc/self/pagemap").open("rb", buffering=0) as pagemap:
        for first in range(start // PAGE, end // PAGE, _ENTRIES):
            count = min(_ENTRIES, end // PAGE - first)
            pagemap.seek(first * 8)
            raw = pagemap.read(count * 8)
            if len(raw) != count * 8:
                raise ValueError("the page map ended early")
            entries = np.frombuffer(raw, np.uint64)
            if entries.max() < _THERE:  # nowhere, mostly
                continue
            written = (entries >= _THERE) & (entries & np.uint64(_FILE) == 0)
            edges = np.flatnonzero(np.diff(written, prepend=False, append=False)) + first
            for begin, stop in (edges * PAGE).reshape(-1, 2).tolist():
                if found and found[-1][1] == begin:
                    begin = found.pop()[0]
                found.append((begin, stop))
    return found
