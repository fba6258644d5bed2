"""The mapped weight files of this process: each opening is a private mapping, alive while a view of it is."""

from __future__ import annotations

import contextlib
import itertools
import os
import sys
import weakref
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import BinaryIO

from ... import shortage
from ...ram import available
from ...storage.beside import beside
from ..errors import MappingError
from .header import Header, read_header
from .identity import FileIdentity as FileIdentity
from .identity import identity
from .mapped import Held, bytes_of, mapped
from .mapped import Mapping as Mapping
from .mapped import Standing as Standing
from .writers import Writers

HeaderReader = Callable[[BinaryIO, int, Path], Header]
"""Reads the header of an open file of so many bytes. Raises HeaderError."""


class Registry:
    """The mappings of this process, weakly held. Safe from any thread."""

    def __init__(self, *, available: Callable[[], int] = available, leases: bool = True) -> None:
        """`available`: bytes of RAM that the old bytes of files which are written over may go to."""
        self.make_room: Callable[[], bool] = lambda: False
        """Asked where memory is short; whether something was given up, so that another try is worth it."""
        self.kept: dict[FileIdentity, Mapping] = {}
        """Mappings that are to live though nobody views them: whoever is about to write there takes them out."""
        self._held: dict[int, Held] = {}
        self._tokens = itertools.count()
        self.writers = Writers(
            lambda: list(self._held.values()),
            available,
            leases,
            unused=lambda identity: self.kept.pop(identity, None),
        )

    def open(self, path: Path | str, read: HeaderReader = read_header) -> Mapping:
        """Map a weight file anew: what somebody writes into one mapping shows in no other.

        `read`: its header, where it is no safetensors file. Raises HeaderError, MappingError.
        """
        path = Path(path)
        try:
            return self._open(path, read)
        except (OSError, MemoryError, ValueError) as error:
            if not shortage.of_ram(error) or not self.make_room():
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
            self.writers.check(held, closely=True)
        return [mapping for mapping in self.live() if mapping.standing is Standing.LOST]

    @contextlib.contextmanager
    def stepped_aside(self, path: Path | str) -> Iterator[None]:
        """While somebody writes a new file over `path`: a file that is mapped from there keeps its bytes.

        Truncating it would end this process. It loses its name instead, and gets it back where writing fails.
        On Windows a mapped file cannot be written over, and the writer's own error says so.
        """
        path = Path(path)
        aside = beside(path, "old")
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
            leased = self.writers.lease(descriptor)
            identity = FileIdentity.of(descriptor, path)
            header = read(file, identity.size, path)
            return self._map(descriptor, path, identity, header, leased)

    def _map(
        self, descriptor: int, path: Path, identity: FileIdentity, header: Header, leased: bool
    ) -> Mapping:
        buffer = mapped(descriptor, identity.size)
        address = bytes_of(buffer, 0, 1).data_ptr()
        own = None if sys.platform == "win32" else os.dup(descriptor)  # last: from here on `held` closes it
        token = next(self._tokens)
        held = Held(path, identity, header, address, weakref.ref(buffer), own, leased)
        self._held[token] = held
        weakref.finalize(buffer, self._forget, token).atexit = False
        self.writers.add(held)
        return Mapping(held, buffer)

    def _forget(self, token: int) -> None:
        # Runs wherever the last view dies, perhaps inside one of our own calls: it takes no lock.
        held = self._held.pop(token, None)
        if held is not None and held.descriptor is not None:
            with contextlib.suppress(OSError):
                os.close(held.descriptor)


class Near:
    """`Registry.around` for many addresses in a row: which mapping the last one was in is asked first.

    That one is held here, so it lives, and its addresses are nobody else's. For one thread and one look at a model.
    """

    def __init__(self, registry: Registry) -> None:
        self._registry = registry
        self._last: Mapping | None = None

    def around(self, address: int, length: int) -> Mapping | None:
        last = self._last
        if last is None or not last.has(address, length):
            last = self._registry.around(address, length)
            self._last = last or self._last
        return last


MAPPINGS = Registry()
"""The registry of this process."""
