"""Weight files held open and mapped: one private mapping a file and process, alive while a view of it is."""

from __future__ import annotations

import contextlib
import itertools
import mmap
import os
import sys
import threading
import weakref
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

import torch

from ..errors import MappingError
from .header import Header, TensorEntry, read_header
from .written import Ranges, written_ranges

# Python names MAP_NORESERVE from 3.13 on; 0x4000 is its value on the Linux machines PyTorch has wheels for.
_NO_RESERVE = getattr(mmap, "MAP_NORESERVE", 0x4000 if sys.platform == "linux" else 0)


@dataclass(frozen=True)
class FileIdentity:
    """What makes a file the same file: device, inode, size in bytes, modification time in nanoseconds."""

    device: int
    inode: int
    size: int
    mtime_ns: int

    @classmethod
    def of(cls, stat: os.stat_result) -> FileIdentity:
        return cls(stat.st_dev, stat.st_ino, stat.st_size, stat.st_mtime_ns)


@dataclass(frozen=True, eq=False)
class Mapping:
    """A mapped file. Tensors of `views` keep the mapping alive by themselves; nothing ever closes it."""

    path: Path
    identity: FileIdentity
    header: Header
    address: int
    buffer: mmap.mmap

    def views(self) -> dict[str, torch.Tensor]:
        """Every tensor of the file by name, in file order, as a view of the mapping, each its own storage.

        A private writable mapping: whoever writes into a view gets a page of their own, the file never
        changes.
        """
        return {name: self._view(entry) for name, entry in self.header.tensors.items()}

    def _view(self, entry: TensorEntry) -> torch.Tensor:
        count = entry.length // entry.dtype.itemsize
        if count == 0:
            return torch.empty(entry.shape, dtype=entry.dtype)
        flat = torch.frombuffer(self.buffer, dtype=entry.dtype, count=count, offset=entry.offset)
        return flat.reshape(entry.shape)

    def holds(self, storage: torch.UntypedStorage) -> bool:
        """Whether all bytes of a storage lie inside."""
        start = storage.data_ptr()
        return self.address <= start and start + storage.nbytes() <= self.address + self.identity.size

    def written(self) -> Ranges | None:
        """Written address ranges; None where this system cannot tell. Reads no page in."""
        return written_ranges(self.address, self.identity.size)


@dataclass(frozen=True, eq=False)
class _Held:
    path: Path
    identity: FileIdentity
    header: Header
    address: int
    buffer: weakref.ref[mmap.mmap]
    descriptor: int | None

    def mapping(self) -> Mapping | None:
        buffer = self.buffer()
        if buffer is None:
            return None
        return Mapping(self.path, self.identity, self.header, self.address, buffer)


class Registry:
    """The mappings of this process, weakly held. Safe from any thread."""

    def __init__(self) -> None:
        self._held: dict[int, _Held] = {}
        self._tokens = itertools.count()
        self._opening = threading.Lock()

    def open(self, path: Path | str) -> Mapping:
        """Map a safetensors file, or hand out the mapping that is there. Raises HeaderError, MappingError."""
        path = Path(path)
        with self._opening:
            try:
                with path.open("rb") as file:
                    identity = FileIdentity.of(os.fstat(file.fileno()))
                    known = self.of(identity)
                    if known is not None:
                        return known
                    header = read_header(file, identity.size, path)
                    return self._map(file.fileno(), path, identity, header)
            except OSError as error:
                raise MappingError(path, f"cannot be mapped ({error})") from error

    def live(self) -> list[Mapping]:
        """Every mapping that some view still uses."""
        return [mapping for held in list(self._held.values()) if (mapping := held.mapping()) is not None]

    def of(self, identity: FileIdentity) -> Mapping | None:
        """The live mapping of exactly this file, if there is one."""
        return next((mapping for mapping in self.live() if mapping.identity == identity), None)

    def around(self, address: int, length: int) -> Mapping | None:
        """The live mapping that contains the whole address range, if there is one."""
        for held in list(self._held.values()):
            if held.address <= address and address + length <= held.address + held.identity.size:
                mapping = held.mapping()
                if mapping is not None:  # else its address may be another one's by now
                    return mapping
        return None

    def descriptor(self, identity: FileIdentity) -> int | None:
        """A new descriptor of the mapped file itself, whatever its name leads to now; the caller closes it.

        None where no such mapping lives, and on Windows (there the file is opened by its name, and a mapped
        file cannot be replaced).
        """
        for held in list(self._held.values()):
            if held.identity == identity and held.descriptor is not None:
                buffer = held.buffer()  # held until dup returns: the descriptor cannot be closed before
                if buffer is not None:
                    return os.dup(held.descriptor)
        return None

    @contextlib.contextmanager
    def stepped_aside(self, path: Path | str) -> Iterator[None]:
        """While somebody writes a new file over `path`: a file that is mapped from there keeps its bytes.

        Truncating it would end this process. It loses its name instead, and gets it back where writing fails.
        On Windows a mapped file cannot be written over, and the writer's own error says so.
        """
        path = Path(path)
        aside = path.with_name(f"{path.name}.{os.getpid()}.old")
        moved = False
        if self._is_mapped(path):
            with contextlib.suppress(OSError):
                path.rename(aside)
                moved = True
        try:
            yield
        except BaseException:
            if moved:
                aside.replace(path)
            raise
        if moved:
            aside.unlink(missing_ok=True)

    def _is_mapped(self, path: Path) -> bool:
        try:
            found = path.stat()
        except (OSError, ValueError):
            return False
        return any((m.identity.device, m.identity.inode) == (found.st_dev, found.st_ino) for m in self.live())

    def _map(self, descriptor: int, path: Path, identity: FileIdentity, header: Header) -> Mapping:
        try:
            if sys.platform == "win32":
                buffer = mmap.mmap(descriptor, identity.size, access=mmap.ACCESS_COPY)
            else:
                buffer = mmap.mmap(
                    descriptor,
                    identity.size,
                    flags=mmap.MAP_PRIVATE | _NO_RESERVE,
                    prot=mmap.PROT_READ | mmap.PROT_WRITE,
                )
        except ValueError as error:
            raise MappingError(path, f"cannot be mapped ({error})") from error
        own = None if sys.platform == "win32" else os.dup(descriptor)
        address = torch.frombuffer(buffer, dtype=torch.uint8).data_ptr()
        token = next(self._tokens)
        self._held[token] = _Held(path, identity, header, address, weakref.ref(buffer), own)
        weakref.finalize(buffer, self._forget, token).atexit = False
        return Mapping(path, identity, header, address, buffer)

    def _forget(self, token: int) -> None:
        # Runs wherever the last view dies, perhaps inside one of our own calls: it takes no lock.
        held = self._held.pop(token, None)
        if held is not None and held.descriptor is not None:
            with contextlib.suppress(OSError):
                os.close(held.descriptor)


MAPPINGS = Registry()
"""The registry of this process: the same file is mapped once, whoever asks."""
