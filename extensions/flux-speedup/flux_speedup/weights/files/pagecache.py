"""How much of a file the system has in RAM: "page cache" or "disk" in the statistics. Linux only."""

from __future__ import annotations

import ctypes
import mmap
import os
import sys
from pathlib import Path

from ...ram import available

WINDOW = 64
_WINDOWS = 64
_THERE = int.from_bytes(b"\1" * WINDOW, "little")
"""The bit of each page; the others mean nothing."""
WARM = 0.95
"""From this part on a file counts as being in RAM."""


def resident_fraction(path: Path, *, windows: int = _WINDOWS) -> float | None:
    """The part of the file that is in the page cache, 0 to 1, from samples spread over it; reads nothing in.

    None where the system does not say: not Linux, the file cannot be opened or is empty, or it belongs to
    somebody else and we may not write it (mincore answers "all there" then, whatever is true).
    """
    if sys.platform != "linux":
        return None
    try:
        with Path(path).open("rb") as file:
            stat = os.fstat(file.fileno())
            ours = stat.st_uid == os.geteuid() or os.access(path, os.W_OK)
            if stat.st_size == 0 or not ours:
                return None
            flags, prot = mmap.MAP_PRIVATE, mmap.PROT_READ | mmap.PROT_WRITE
            with mmap.mmap(file.fileno(), stat.st_size, flags=flags, prot=prot) as pages:
                return _sampled(pages, stat.st_size, windows)
    except (OSError, ValueError):
        return None


def is_cold(path: Path) -> bool:
    """Whether reading it would bring something into RAM, as far as the system says."""
    fraction = resident_fraction(path)
    return fraction is None or fraction < WARM


def is_warm(path: Path) -> bool:
    """Whether its pages are in RAM; where the system does not say, whether there is so much RAM."""
    fraction = resident_fraction(path)
    if fraction is not None:
        return fraction >= WARM
    try:
        return path.stat().st_size <= available()
    except OSError:
        return False


def forget(path: Path) -> None:
    """Ask the system to drop the file's clean pages from the page cache (to measure). Raises OSError."""
    with Path(path).open("rb") as file:
        os.posix_fadvise(file.fileno(), 0, 0, os.POSIX_FADV_DONTNEED)


def _sampled(pages: mmap.mmap, size: int, windows: int) -> float:
    total = -(-size // mmap.PAGESIZE)
    step = max(WINDOW, total // windows)
    mincore = ctypes.CDLL(None, use_errno=True).mincore
    mincore.argtypes = (ctypes.c_void_p, ctypes.c_size_t, ctypes.c_char_p)
    start = ctypes.c_char.from_buffer(pages)
    try:
        address = ctypes.addressof(start)
        answer = ctypes.create_string_buffer(WINDOW)
        seen = there = 0
        for first in range(0, total, step):
            count = min(WINDOW, total - first)
            if mincore(address + first * mmap.PAGESIZE, count * mmap.PAGESIZE, answer):
                raise OSError(ctypes.get_errno(), "mincore failed")
            seen += count
            there += (int.from_bytes(answer.raw[:count], "little") & _THERE).bit_count()
        return there / seen
    finally:
        del start  # a pointer into the mapping keeps it from being closed
