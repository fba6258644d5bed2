"""Weight files held open and mapped: a private mapping each time one is opened, alive while a view of it is."""

from __future__ import annotations

import contextlib
import itertools
import logging
import mmap
import os
import sys
import threading
import weakref
from collections.abc import Callable, Iterator
from dataclasses import dataclass, field
from enum import Enum
from pathlib import Path
from typing import BinaryIO

import numpy as np
import torch

from ...ram import available
from ...stats.report import size as in_words
from ..errors import HeaderError, MappingError, is_lack_of_memory
from . import lease, remap
from .header import Header, TensorEntry, read_header
from .identity import FileIdentity as FileIdentity
from .identity import identity
from .read_only import ReadOnly
from .readahead import HEADROOM
from .written import Ranges, written_ranges

# Python names MAP_NORESERVE from 3.13 on; 0x4000 is its value on the Linux machines PyTorch has wheels for.
_NO_RESERVE = getattr(mmap, "MAP_NORESERVE", 0x4000 if sys.platform == "linux" else 0)
_log = logging.getLogger("flux_speedup")

HeaderReader = Callable[[BinaryIO, int, Path], Header]
"""Reads the header of an open file of so many bytes. Raises HeaderError."""


class Standing(Enum):
    """Where the bytes of a mapping are: its file's pages; RAM, as the file was written over; nowhere."""

    FILE = "file"
    RAM = "RAM"
    LOST = "lost"


@dataclass(eq=False)
class _Held:
    """What the registry knows of a mapping; `leased`: a write to the file waits for us first."""

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

    _held: _Held
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
        return _bytes_of(self.buffer, offset, length)

    def holds(self, storage: torch.UntypedStorage) -> bool:
        """Whether all bytes of a storage lie inside."""
        start = storage.data_ptr()
        return self.address <= start and start + storage.nbytes() <= self.address + self.identity.size

    def has(self, address: int) -> bool:
        """Whether the address lies inside."""
        return self.address <= address < self.address + self.identity.size

    def written(self) -> Ranges | None:
        """Written address ranges; None where this system cannot tell. Reads no page in."""
        return written_ranges(self.address, self.identity.size)


class Registry:
    """The mappings of this process, weakly held. Safe from any thread."""

    def __init__(self, *, available: Callable[[], int] = available, leases: bool = True) -> None:
        """`available`: bytes of RAM that the old bytes of files which are written over may go to.

        `make_room`: asked where memory is short; whether something was given up, so that another try is worth it.
        """
        self.make_room: Callable[[], bool] = lambda: False
        self.writer_waits: Callable[[FileIdentity], object] = lambda identity: None
        """Told of a file before its old bytes go to RAM: whoever can do without them lets them go now."""
        self.given_way: list[FileIdentity] = []
        """Files that were written over while they were mapped, in this order."""
        self._available = available
        self._leases = leases
        self._held: dict[int, _Held] = {}
        self._tokens = itertools.count()
        self._watch = lease.Watch(self._look)
        self._told: list[weakref.WeakMethod[Callable[[FileIdentity], object]]] = []

    def open(self, path: Path | str, read: HeaderReader = read_header) -> Mapping:
        """Map a weight file anew: what somebody writes into one mapping shows in no other.

        `read`: its header, where it is no safetensors file. Raises HeaderError, MappingError.
        """
        path = Path(path)
        try:
            return self._open(path, read)
        except (OSError, MemoryError, ValueError) as error:
            if not is_lack_of_memory(error) or not self.make_room():
                raise MappingError(path, f"cannot be mapped ({error})") from error
        try:
            return self._open(path, read)
        except (OSError, MemoryError, ValueError) as error:
            raise MappingError(path, f"cannot be mapped ({error})") from error

    def live(self) -> list[Mapping]:
        """Every mapping that some view still uses."""
        return [mapping for held in list(self._held.values()) if (mapping := held.mapping()) is not None]

    def of(self, identity: FileIdentity) -> Mapping | None:
        """A live mapping of exactly this file, which shows its bytes, if there is one."""
        return next((m for m in self.live() if m.identity == identity and m.standing is Standing.FILE), None)

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
            if held.identity == identity and held.descriptor is not None and held.standing is Standing.FILE:
                buffer = held.buffer()  # held until dup returns: the descriptor cannot be closed before
                if buffer is not None:
                    return os.dup(held.descriptor)
        return None

    def lost(self) -> list[Mapping]:
        """Live mappings whose file was written over by now, and whose old bytes are nowhere: they show zeros."""
        for held in list(self._held.values()):
            self._check(held, closely=True)
        return [mapping for mapping in self.live() if mapping.standing is Standing.LOST]

    def tell(self, method: Callable[[FileIdentity], object]) -> None:
        """`method` is called when a file is about to be written over, or was, and its mapping shows it no more.

        On the watching thread or on whose call found it out; whoever waits to write waits for it too. It is
        held weakly, and must be a method.
        """
        self._told.append(weakref.WeakMethod(method))

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
        found = identity(path)
        if found is None:
            return False
        place = found.device, found.inode, found.place
        return any((m.identity.device, m.identity.inode, m.identity.place) == place for m in self.live())

    def _open(self, path: Path, read: HeaderReader) -> Mapping:
        with path.open("rb") as file:
            descriptor = file.fileno()
            thread = self._watch.thread()  # first: what it looks after changes with notice only
            leased = self._leases and thread is not None and lease.place(descriptor, thread)
            identity = FileIdentity.of(descriptor, path)
            header = read(file, identity.size, path)
            return self._map(descriptor, path, identity, header, leased)

    def _map(
        self, descriptor: int, path: Path, identity: FileIdentity, header: Header, leased: bool
    ) -> Mapping:
        buffer = _mapped(descriptor, identity.size)
        address = _bytes_of(buffer, 0, 1).data_ptr()
        own = None if sys.platform == "win32" else os.dup(descriptor)  # last: from here on `held` closes it
        token = next(self._tokens)
        held = _Held(path, identity, header, address, weakref.ref(buffer), own, leased)
        self._held[token] = held
        weakref.finalize(buffer, self._forget, token).atexit = False
        self._check(held, closely=False)  # whoever came before it was listed waits for nobody else
        if not leased:
            self._watch.wake()  # from now on it looks more often
        return Mapping(held, buffer)

    # Files that are written over while they are in use.

    def _look(self) -> float:
        """On the watching thread: whoever waits to write gets to it once the old bytes are safe."""
        every = list(self._held.values())
        for held in every:
            self._check(held, closely=False)
        return lease.POLL_S if any(not held.leased for held in every) else lease.IDLE_S

    def _check(self, held: _Held, *, closely: bool) -> None:
        with held.lock:
            if held.buffer() is None or held.standing is not Standing.FILE:
                return
            try:
                if held.is_current(closely=closely):
                    return
                self.given_way.append(held.identity)  # before anybody writes
                self.writer_waits(held.identity)
                buffer = held.buffer()  # it lives until this ends, if it does still
                if buffer is not None:
                    self._give_way(held)
            except OSError as error:
                _log.warning("%s: its state cannot be read (%s)", held.path, error)

    def _give_way(self, held: _Held) -> None:
        size = held.identity.size
        try:
            if held.leased and self._available() >= HEADROOM * size:
                ranges = written_ranges(held.address, size)
                remap.into_ram(held.address, size, held.descriptor or 0, ranges)
                held.standing = Standing.RAM
        except (OSError, MemoryError) as error:
            _log.warning("%s: its old bytes cannot be kept in RAM (%s)", held.path, error)
        if held.standing is Standing.RAM and held.identity.is_still(held.descriptor or 0):
            said = "%s is being written over while in use; its old bytes are in RAM as long as it is (%s)"
            _log.warning(said, held.path, in_words(size))
        else:
            held.standing = Standing.LOST
            remap.into_zeros(held.address, size)
            said = "%s was written over while in use; what still needs its old bytes is built anew"
            _log.warning(said, held.path)
        for told in self._told:
            method = told()
            try:
                if method is not None:
                    method(held.identity)
            except Exception as error:  # the writer must not wait for ever
                _log.warning("%s: who reads it is not told (%s)", held.path, error)
        if held.leased and held.descriptor is not None:
            lease.release(held.descriptor)

    def _forget(self, token: int) -> None:
        # Runs wherever the last view dies, perhaps inside one of our own calls: it takes no lock.
        held = self._held.pop(token, None)
        if held is not None and held.descriptor is not None:
            with contextlib.suppress(OSError):
                os.close(held.descriptor)


def _mapped(descriptor: int, size: int) -> mmap.mmap:
    if sys.platform == "win32":
        # Copy on write counts as the file's size of memory there, written or not.
        return mmap.mmap(descriptor, size, access=mmap.ACCESS_READ)
    flags, prot = mmap.MAP_PRIVATE | _NO_RESERVE, mmap.PROT_READ | mmap.PROT_WRITE
    return mmap.mmap(descriptor, size, flags=flags, prot=prot)


def _bytes_of(buffer: mmap.mmap, offset: int, length: int) -> torch.Tensor:
    if sys.platform == "win32":
        return torch.from_numpy(np.asarray(ReadOnly(buffer, offset, length)))
    return torch.frombuffer(buffer, dtype=torch.uint8, count=length, offset=offset)


MAPPINGS = Registry()
"""The registry of this process."""
