"""A mapping's pages exchanged under the tensors that view them: for RAM with the same bytes, or for zeros."""

from __future__ import annotations

import ctypes
import functools
import mmap
import os
import sys
from typing import Any

from .written import Ranges

_FIXED = 0x10
_NO_RESERVE = getattr(mmap, "MAP_NORESERVE", 0x4000)
_MAY_MOVE, _REMAP_FIXED = 1, 2
_FAILED = ctypes.c_void_p(-1).value
_CHUNK = 8 << 20


def into_ram(address: int, size: int, descriptor: int, written: Ranges | None) -> None:
    """Put RAM with the file's bytes in the place of a private mapping. Linux; raises OSError, nothing changed.

    `written`: pages that are not the file's, taken as they are; None: nobody can tell, so all are.
    """
    length = -(-size // mmap.PAGESIZE) * mmap.PAGESIZE
    new = _map(None, length, 0)
    try:
        if written is None:
            written = [(address, address + length)]
        else:
            _read_all(descriptor, new, size)
        for begin, end in written:
            begin, end = max(begin, address), min(end, address + length)
            if begin < end:
                ctypes.memmove(new + begin - address, begin, end - begin)
        _checked(_libc().mremap(new, length, length, _MAY_MOVE | _REMAP_FIXED, address), "mremap")
    except BaseException:
        _libc().munmap(new, length)
        raise


def into_zeros(address: int, size: int) -> None:
    """Put zeros in the place of a private mapping: no page of it can raise a signal any more. Raises OSError."""
    if sys.platform == "win32":
        return  # there a mapped file cannot be cut short
    _map(address, -(-size // mmap.PAGESIZE) * mmap.PAGESIZE, _FIXED)


def _map(address: int | None, length: int, flags: int) -> int:
    flags |= mmap.MAP_PRIVATE | mmap.MAP_ANONYMOUS | _NO_RESERVE
    return _checked(_libc().mmap(address, length, mmap.PROT_READ | mmap.PROT_WRITE, flags, -1, 0), "mmap")


def _checked(where: int, call: str) -> int:
    if where == _FAILED:
        raise OSError(ctypes.get_errno(), f"{call} failed")
    return int(where)


def _read_all(descriptor: int, target: int, size: int) -> None:
    for start in range(0, size, _CHUNK):
        count = min(_CHUNK, size - start)
        view = memoryview((ctypes.c_char * count).from_address(target + start)).cast("B")
        done = 0
        while done < count:
            read = os.preadv(descriptor, [view[done:]], start + done)
            if read <= 0:
                raise OSError("the file ended early")
            done += read


@functools.cache
def _libc() -> Any:
    libc = ctypes.CDLL(None, use_errno=True)
    pointer, size, number = ctypes.c_void_p, ctypes.c_size_t, ctypes.c_int
    libc.mmap.restype = pointer
    libc.mmap.argtypes = (pointer, size, number, number, number, ctypes.c_long)
    if sys.platform == "linux":
        libc.mremap.restype = pointer
        libc.mremap.argtypes = (pointer, size, size, number, pointer)
    libc.munmap.argtypes = (pointer, size)
    return libc
