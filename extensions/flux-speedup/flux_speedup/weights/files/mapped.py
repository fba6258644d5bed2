"""A weight file that is held open and mapped, and the tensors in it as views of its bytes."""

from __future__ import annotations

import mmap
import os
import sys
import threading
import weakref
from dataclasses import dataclass, field
from enum import Enum
from pathlib import Path

import numpy as np
import torch

from ..errors import HeaderError
from . import lease
from .header import Header, TensorEntry
from .identity import FileIdentity
from .read_only import ReadOnly
from .written import Ranges, written_ranges

# Python names MAP_NORESERVE from 3.13 on; 0x4000 is its value on the Linux machines PyTorch has wheels for.
_NO_RESERVE = getattr(mmap, "MAP_NORESERVE", 0x4000 if sys.platform == "linux" else 0)


class Standing(Enum):
    """Where the bytes of a mapping are: its file's pages; RAM, as the file was written over; nowhere."""

    FILE = "file"
    RAM = "RAM"
    LOST = "lost"


@dataclass(eq=False)
class Held:
    """A mapped file while some view of it lives; `leased`: a write to the file waits for us first."""

    path: Path
    identity: FileIdentity
    header: Header
    address: int
    buffer: weakref.ref[mmap.mmap]
    descriptor: int | None
    leased: bool
    standing: Standing = Standing.FILE
    lock: threading.Lock = field(default_factory=threading.Lock)

    def mapping(self) -> Mapping | None:
        buffer = self.buffer()
        return None if buffer is None else Mapping(self, buffer)

    def is_current(self, *, closely: bool = True) -> bool:
        """Whether the file has the bytes it was mapped with, and nobody waits to write. Raises OSError.

        `closely`: also where its times say so.
        """
        if self.descriptor is None:
            return True
        if self.leased:
            return lease.holds(self.descriptor)
        if not closely and self.identity.has_times_of(os.fstat(self.descriptor)):
            return True
        return self.identity.is_still(self.descriptor)


@dataclass(frozen=True, eq=False)
class Mapping:
    """A mapped file. Tensors of `views` keep the mapping alive by themselves; nothing ever closes it."""

    _held: Held
    buffer: mmap.mmap

    @property
    def path(self) -> Path:
        return self._held.path

    @property
    def identity(self) -> FileIdentity:
        """That of the file as it was mapped."""
        return self._held.identity

    @property
    def header(self) -> Header:
        return self._held.header

    @property
    def address(self) -> int:
        return self._held.address

    @property
    def standing(self) -> Standing:
        """Where its bytes are now."""
        return self._held.standing

    def views(self) -> dict[str, torch.Tensor]:
        """Every tensor of the file by name, in file order, as a view of the mapping, each its own storage.

        A private writable mapping: whoever writes into a view gets a page of their own, the file never
        changes. On Windows, where that would take the file's size of memory, nobody may write. What lies where
        its dtype cannot be used is a copy. Raises HeaderError.
        """
        return {name: self._view(entry) for name, entry in self.header.tensors.items()}

    def _view(self, entry: TensorEntry) -> torch.Tensor:
        try:
            if entry.length == 0:
                return torch.empty(entry.shape, dtype=entry.dtype)
            flat = self.bytes_at(entry.offset, entry.length)
            return (flat if entry.aligned else flat.clone()).view(entry.dtype).reshape(entry.shape)
        except (RuntimeError, OverflowError, TypeError, ValueError) as error:
            raise HeaderError(self.path, f"PyTorch cannot have it ({error})", key=entry.name) from error

    def bytes_at(self, offset: int, length: int) -> torch.Tensor:
        """A view of some of the file's bytes, as a storage of its own. Raises ValueError beyond the end."""
        return bytes_of(self.buffer, offset, length)

    def holds(self, storage: torch.UntypedStorage) -> bool:
        """Whether all bytes of a storage lie inside."""
        return self.has(storage.data_ptr(), storage.nbytes())

    def has(self, address: int, length: int = 1) -> bool:
        """Whether so many bytes at the address lie inside."""
        return 0 <= address - self._held.address <= self._held.identity.size - length

    def written(self) -> Ranges | None:
        """Written address ranges; None where this system cannot tell. Reads no page in."""
        return written_ranges(self.address, self.identity.size)


def mapped(descriptor: int, size: int) -> mmap.mmap:
    if sys.platform == "win32":
        # Copy on write counts as the file's size of memory there, written or not.
        return mmap.mmap(descriptor, size, access=mmap.ACCESS_READ)
    flags, prot = mmap.MAP_PRIVATE | _NO_RESERVE, mmap.PROT_READ | mmap.PROT_WRITE
    return mmap.mmap(descriptor, size, flags=flags, prot=prot)


def bytes_of(buffer: mmap.mmap, offset: int, length: int) -> torch.Tensor:
    if sys.platform == "win32":
        return torch.from_numpy(np.asarray(ReadOnly(buffer, offset, length)))
    return torch.frombuffer(buffer, dtype=torch.uint8, count=length, offset=offset)
