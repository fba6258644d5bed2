"""How fast a file is read: from the disk, past the page cache, and from the page cache."""

from __future__ import annotations

import contextlib
import mmap
import os
import time
from collections.abc import Callable, Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

CHUNK = 8 << 20
COLD = 4 << 30
WARM = 2 << 30
# Without preadv the place in the file is shared.
THREADS = 4 if hasattr(os, "preadv") else 1
_DIRECT = getattr(os, "O_DIRECT", None)
_BINARY = getattr(os, "O_BINARY", 0)

Check = Callable[[float], None]
"""Told between two chunks which share (0 to 1) is done; raises where the measurement is to end."""


def cold(path: Path, check: Check, *, limit: int = COLD) -> float | None:
    """Bytes a second from the disk, over `limit` bytes at most. None where the page cache cannot be left out.

    Reads past the page cache, so that what is in it stays there. Raises OSError.
    """
    if _DIRECT is None:
        return None
    size = min(path.stat().st_size, limit) // CHUNK * CHUNK
    if not size:
        return None
    try:
        with _opened(path, _DIRECT) as descriptor, _buffers() as buffers:
            return _rate(descriptor, size, buffers, check)
    except OSError:
        # Not every file system can (memory, some overlays and network mounts).
        return None


def warm(path: Path, check: Check, *, limit: int = WARM) -> float | None:
    """Bytes a second from the page cache, over `limit` bytes at most, which are in it afterwards.

    Raises OSError.
    """
    size = min(path.stat().st_size, limit) // CHUNK * CHUNK
    if not size:
        return None
    with _opened(path, 0) as descriptor, _buffers() as buffers:
        _rate(descriptor, size, buffers, lambda share: check(share / 2))
        return _rate(descriptor, size, buffers, lambda share: check(0.5 + share / 2))


def _rate(descriptor: int, size: int, buffers: Sequence[mmap.mmap], check: Check) -> float:
    """Every thread reads each THREADS-th chunk into a buffer of its own."""
    began = time.perf_counter()
    done = 0
    with ThreadPoolExecutor(THREADS) as pool:
        rounds = range(0, size, CHUNK * THREADS)
        for start in rounds:
            offsets = range(start, min(start + CHUNK * THREADS, size), CHUNK)
            for read in pool.map(_read, [descriptor] * len(offsets), buffers, offsets):
                done += read
            check((start + CHUNK * THREADS) / size)
    return done / (time.perf_counter() - began)


def _read(descriptor: int, buffer: mmap.mmap, offset: int) -> int:
    if hasattr(os, "preadv"):
        return os.preadv(descriptor, [buffer], offset)
    os.lseek(descriptor, offset, os.SEEK_SET)
    return len(os.read(descriptor, len(buffer)))


@contextlib.contextmanager
def _opened(path: Path, flags: int) -> Iterator[int]:
    descriptor = os.open(path, os.O_RDONLY | _BINARY | flags)
    try:
        yield descriptor
    finally:
        os.close(descriptor)


@contextlib.contextmanager
def _buffers() -> Iterator[list[mmap.mmap]]:
    """Page-aligned, as reading past the page cache wants them."""
    made = [mmap.mmap(-1, CHUNK) for _ in range(THREADS)]
    try:
        yield made
    finally:
        for each in made:
            each.close()
