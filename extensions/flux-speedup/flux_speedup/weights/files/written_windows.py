"""Written pages of a copy-on-write view on Windows: their protection turned from write-copy to read-write."""

from __future__ import annotations

import ctypes
import sys

_WRITE_COPY = 0x08
_READ_WRITE = 0x04


class _Region(ctypes.Structure):
    """MEMORY_BASIC_INFORMATION of winnt.h, 64 bit."""

    _fields_ = (
        ("base", ctypes.c_size_t),
        ("allocation_base", ctypes.c_size_t),
        ("allocation_protect", ctypes.c_uint32),
        ("partition", ctypes.c_uint32),
        ("size", ctypes.c_size_t),
        ("state", ctypes.c_uint32),
        ("protect", ctypes.c_uint32),
        ("kind", ctypes.c_uint32),
        ("padding", ctypes.c_uint32),
    )


def written_ranges(address: int, length: int) -> list[tuple[int, int]] | None:
    """As written.written_ranges, by VirtualQuery; None where a region has a protection we did not give it."""
    if sys.platform != "win32":
        return None
    query = ctypes.WinDLL("kernel32", use_last_error=True).VirtualQuery
    query.restype = ctypes.c_size_t
    query.argtypes = (ctypes.c_size_t, ctypes.POINTER(_Region), ctypes.c_size_t)
    found: list[tuple[int, int]] = []
    position, end = address, address + length
    while position < end:
        region = _Region()
        if not query(position, ctypes.byref(region), ctypes.sizeof(region)) or not region.size:
            return None
        stop = min(region.base + region.size, end)
        if region.protect & _READ_WRITE:
            found.append((position, stop))
        elif not region.protect & _WRITE_COPY:
            return None
        position = stop
    return found
