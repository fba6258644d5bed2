"""Packed files that count, found by the spans of their weight files: one store a process."""

from __future__ import annotations

import functools
import logging
import os
import threading
from collections.abc import Sequence
from contextlib import suppress
from dataclasses import dataclass, field
from pathlib import Path
from typing import BinaryIO

import torch

from ..errors import OUT_OF_MEMORY, ReadError, WeightsError
from ..files.header import Header
from ..files.identity import identity
from ..files.mapping import MAPPINGS, FileIdentity, Mapping, Registry
from ..files.pagecache import WARM, resident_fraction
from ..files.span import Span
from .bound import Places
from .choice import Choice
from .decoding import Decoder, decode, unpack
from .file import Entry, read_index
from .form import RAW

_log = logging.getLogger("flux_speedup")


@dataclass(eq=False)
class PackedFile:
    """One that is open: its entries by their place in the weight file, and those that were seen to be right.

    `damaged`: something in it was not as it was written; nothing of it is read any more.
    """

    mapping: Mapping
    entries: dict[int, Entry]
    checked: set[int] = field(default_factory=set)
    found: dict[int, Packed] = field(default_factory=dict)  # what was asked for, by the same
    damaged: bool = False


@dataclass(frozen=True, eq=False)
class Packed:
    """One tensor in it, and what decodes it where it is wanted."""

    file: PackedFile
    entry: Entry
    decoder: Decoder

    @functools.cached_property
    def span(self) -> Span:
        """Its bytes."""
        mapping, length = self.file.mapping, self.entry.form.length
        return Span(mapping.path, mapping.identity, self.entry.offset, length, torch.uint8, (length,))

    def bytes(self) -> torch.Tensor:
        """The same, as a view of the mapped file."""
        return self.file.mapping.bytes_at(self.entry.offset, self.entry.form.length)

    @property
    def is_there(self) -> bool:
        """Whether its bytes are the tensor's as they come, and were seen to be right."""
        return self.entry.form.escapes == RAW and self.entry.offset in self.file.checked

    def unpack(self, tensor: torch.Tensor) -> torch.Tensor:
        """Decode what has come to the end of a tensor's memory; its checksum: see decoding.unpack."""
        return unpack(as_bytes(tensor), self.entry.form, self.decoder)

    def unpack_now(self, tensor: torch.Tensor, home: torch.Tensor) -> None:
        """The same, and where that cannot be the tensor gets the bytes of `home`. Waits at the first time."""
        entry, checked = self.entry, self.file.checked
        try:
            if entry.offset in checked:
                decode(as_bytes(tensor), entry.form, self.decoder)
            elif int(self.unpack(tensor)) == entry.checksum:
                checked.add(entry.offset)
            else:
                self.damage()
        except OUT_OF_MEMORY:
            tensor.copy_(home)
        if self.file.damaged:
            tensor.copy_(home)

    def damage(self) -> ReadError:
        """From now on the weight file is read; the error that says so."""
        error = ReadError(self.file.mapping.path, "damaged; the weight file is read in its place")
        if not self.file.damaged:
            self.file.damaged = True
            _log.warning("%s", error)
        return error


_Chosen = tuple[PackedFile | None, Decoder | None]


class Store:
    """Off until `open`. Safe from any thread."""

    def __init__(self, registry: Registry = MAPPINGS, choice: Choice | None = None) -> None:
        self.choice = choice or Choice()
        self._registry = registry
        self._folder: Path | None = None
        self._lock = threading.Lock()
        self._files: dict[FileIdentity, PackedFile | None] = {}
        self._changes = 0
        registry.writers.tell(self._written_over)

    @property
    def is_open(self) -> bool:
        return self._folder is not None

    @property
    def changes(self) -> int:
        """Counts what makes another answer right: where it has grown, ask anew."""
        return self._changes + sum(file is not None and file.damaged for file in list(self._files.values()))

    def open(self, folder: Path) -> None:
        """What lies there is read from now on, where it is worth it."""
        self._folder = folder
        self._changes += 1

    def close(self) -> None:
        """Weight files are read."""
        self._folder = None
        self.look_again()

    def look_again(self, whole: Path | None = None) -> None:
        """Something came or goes (`whole`: this packed file): nothing is kept open that nobody uses."""
        with self._lock:
            self._changes += 2 + len(self._files)  # the damaged ones that go were counted
            for key, file in list(self._files.items()):
                if file is None or whole is None or file.mapping.path == whole:
                    del self._files[key]
                    if file is not None:
                        file.found.clear()  # they hold it

    def of(self, path: Path, identity: FileIdentity) -> PackedFile | None:
        """The packed file of exactly this weight file, if there is one that counts."""
        folder = self._folder
        if folder is None:
            return None
        with self._lock:
            if identity not in self._files:
                self._files[identity] = self._open(path, Places.of(identity, folder), identity)
            found = self._files[identity]
        return None if found is None or found.damaged else found

    def for_load(self, spans: Sequence[Span | None], device: torch.device) -> list[Packed | None]:
        """For each span of a load, what is to be read in its place; None: the span itself."""
        if not self.is_open:
            return [None] * len(spans)
        chosen: dict[FileIdentity, _Chosen] = {}
        for span in spans:
            if span is not None and span.identity not in chosen:
                chosen[span.identity] = self._for_load(span, device)
        return [None if span is None else _find(span, chosen[span.identity]) for span in spans]

    def for_streaming(self, span: Span, device: torch.device) -> Packed | None:
        """For a span that comes again and again."""
        decoder = self.choice.for_streaming(device)
        file = self.of(span.path, span.identity) if decoder is not None else None
        return _find(span, (file, decoder))

    def warm(self, path: Path, identity: FileIdentity, device: torch.device) -> FileIdentity:
        """The file that loads read in a weight file's place while both are in RAM."""
        decodes = self.choice.for_loads(device, cold=False) is not None
        file = self.of(path, identity) if decodes else None
        return identity if file is None else file.mapping.identity

    def instead_of(self, path: Path) -> Path:
        """What a load from the disk will read of a weight file: read this ahead."""
        now = identity(path) if self._folder is not None and self.choice.pays_cold() else None
        file = self.of(path, now) if now is not None else None
        return path if file is None else file.mapping.path

    def measure(self, device: torch.device) -> None:
        """Find the decoder."""
        self.choice.find(device)
        self._changes += 1

    def _written_over(self, identity: FileIdentity) -> None:
        for file in list(self._files.values()):
            if file is not None and file.mapping.identity == identity:
                file.damaged = True

    def _for_load(self, span: Span, device: torch.device) -> _Chosen:
        file = self.of(span.path, span.identity)
        if file is None:
            return None, None
        here, there = resident_fraction(span.path), resident_fraction(file.mapping.path)
        cold = there is not None and there < WARM
        if cold and here is not None and here >= WARM:
            return None, None  # the disk would be slower than any bus
        return file, self.choice.for_loads(device, cold=cold)

    def _open(self, path: Path, places: Places, identity: FileIdentity) -> PackedFile | None:
        if not places.count_for(identity):
            return None
        entries: dict[int, Entry] = {}

        def read(file: BinaryIO, size: int, whole: Path) -> Header:
            entries.update(read_index(file, size, whole))
            return Header({}, {}, 0, size)  # nobody gets views of it by name

        try:
            mapping = self._registry.open(places.whole, read)
        except WeightsError as error:
            _log.warning("%s; %s is read in its place", error, path)
            return None
        with suppress(OSError):
            os.utime(places.bound)  # used: others go first where room is short
        return PackedFile(mapping, entries)


def _find(span: Span, chosen: _Chosen) -> Packed | None:
    file, decoder = chosen
    entry = file.entries.get(span.offset) if file is not None else None
    if decoder is None or file is None or entry is None or entry.form.size != span.length:
        return None
    one = file.found.get(span.offset)
    if one is None or one.decoder is not decoder:
        one = file.found[span.offset] = Packed(file, entry, decoder)
    return one


def as_bytes(tensor: torch.Tensor) -> torch.Tensor:
    """The memory of a dense tensor, in its order."""
    return tensor.reshape(-1).view(torch.uint8)


PACKED = Store()
"""The store of this process."""
