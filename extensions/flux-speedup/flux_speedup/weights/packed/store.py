"""Packed files that count, found by the spans of their weight files: one store a process.

They are read where that takes less time: where the device reads them in registered pages, and where the weight file
is not in RAM. Of files in RAM, through staging slots, that is where the bus is slow beside decoding (choice.py).
"""

from __future__ import annotations

import functools
import logging
import os
import threading
from collections.abc import Callable, Sequence
from contextlib import suppress
from dataclasses import dataclass, field
from pathlib import Path

import torch

from ... import shortage
from ..errors import ReadError, WeightsError
from ..files.header import Header
from ..files.identity import identity
from ..files.mapping import MAPPINGS, FileIdentity, Mapping, Registry
from ..files.pagecache import is_warm
from ..files.span import Span
from .choice import Choice
from .decoding import decode, unpack
from .form import ABSENT, RAW, Form
from .index import Entry, Index, index_of, packed_of

_log = logging.getLogger("flux_speedup")


@dataclass(eq=False)
class PackedFile:
    """One that is open: its tensors by their place in the weight file, and those that were seen to be right.

    `damaged`: something in it was not as it was written; nothing of it is read any more.
    """

    mapping: Mapping
    store: Store
    tensors: dict[int, Packed] = field(default_factory=dict)
    checked: set[int] = field(default_factory=set)
    damaged: bool = False


@dataclass(frozen=True, eq=False)
class Packed:
    """One tensor in it, decoded where it is wanted."""

    file: PackedFile
    entry: Entry

    @functools.cached_property
    def form(self) -> Form:
        return self.entry.form

    @functools.cached_property
    def span(self) -> Span:
        """Its bytes."""
        mapping, length = self.file.mapping, self.form.length
        return Span(mapping.path, mapping.identity, self.entry.offset, length, torch.uint8, (length,))

    @property
    def is_right(self) -> bool:
        """Whether its bytes were seen to be as they were written."""
        return self.entry.offset in self.file.checked

    @property
    def is_there(self) -> bool:
        """Whether they are the tensor's as they come, too."""
        return self.entry.escapes == RAW and self.is_right

    def unpack(self, tensor: torch.Tensor) -> torch.Tensor:
        """Decode what has come to the end of a tensor's memory; the checksum, for `see`: see decoding.unpack."""
        return unpack(_bytes(tensor), self.form, self.file.store.choice.decoder)

    def see(self, total: int) -> bool:
        """Whether the checksum is the one that it was written with; else nothing of its file is read any more."""
        if total == self.entry.checksum:
            self.file.checked.add(self.entry.offset)
        else:
            self.damage()
        return not self.file.damaged

    def decode(self, tensor: torch.Tensor) -> None:
        """`unpack` without the checksum, where the bytes are right."""
        decode(_bytes(tensor), self.form, self.file.store.choice.decoder)

    def unpack_now(self, tensor: torch.Tensor, home: torch.Tensor) -> None:
        """Decode, and where that cannot be the tensor gets the bytes of `home`. Waits at the first time."""
        try:
            if self.is_right:
                self.decode(tensor)
            else:
                self.see(int(self.unpack(tensor)))
        except RuntimeError as error:
            if not shortage.of_card(error):
                raise
            tensor.copy_(home)
        if self.file.damaged:
            tensor.copy_(home)

    def damage(self) -> ReadError:
        """From now on the weight file is read; the error that says so."""
        error = ReadError(self.file.mapping.path, "damaged; the weight file is read in its place")
        if not self.file.damaged:
            self.file.damaged = True
            self.file.store.changes += 1
            _log.warning("%s", error)
        return error


class Store:
    """Off until `use`. Safe from any thread.

    `folder`: where packed files are. `changes`: counts what makes another answer right: where it has grown, ask
    anew.
    """

    def __init__(
        self,
        registry: Registry = MAPPINGS,
        choice: Choice | None = None,
        warm: Callable[[Path], bool] = is_warm,
    ) -> None:
        """`warm`: whether a file is in RAM."""
        self.choice = choice or Choice()
        self.warm = warm
        self.folder: Path | None = None
        self.changes = 0
        self._registry = registry
        self._lock = threading.Lock()
        self._files: dict[FileIdentity, PackedFile | None] = {}
        registry.writers.tell(self._written_over)

    def use(self, folder: Path | None) -> None:
        """What lies there is read from now on, where it is worth it; None: weight files are."""
        self.folder = folder
        self.look_again()

    def look_again(self, packed: Path | None = None) -> None:
        """Something came or goes (`packed`: this packed file): nothing is kept open that nobody uses."""
        with self._lock:
            self.changes += 1
            for key, file in list(self._files.items()):
                if file is None or packed is None or file.mapping.path == packed:
                    del self._files[key]
                    if file is not None:
                        file.tensors.clear()  # they hold it

    def of(self, path: Path, identity: FileIdentity) -> PackedFile | None:
        """The packed file of exactly this weight file, if there is one that counts."""
        folder = self.folder
        if folder is None:
            return None
        with self._lock:
            if identity not in self._files:
                self._files[identity] = self._open(path, packed_of(identity, folder), identity)
            found = self._files[identity]
        return None if found is None or found.damaged else found

    def for_load(
        self, spans: Sequence[Span | None], device: torch.device, registered: Callable[[Span], bool]
    ) -> list[Packed | None]:
        """For each span of a load, what is to be read in its place; None: the span itself.

        `registered`: whether the device reads the span of a packed file where it is.
        """
        warm: dict[FileIdentity, bool] = {}

        def read(span: Span) -> Packed | None:
            found = _find(span, self.of(span.path, span.identity))
            if found is None:
                return None
            if span.identity not in warm:
                warm[span.identity] = self.warm(span.path)
            cold = not warm[span.identity]
            there = cold or registered(found.span) or self.choice.pays_streaming(device, staged=True)
            return found if there and self.choice.pays_loading(device, cold=cold) else None

        return [None if span is None else read(span) for span in spans]

    def for_streaming(self, span: Span, device: torch.device) -> Packed | None:
        """For a span that comes again and again, from registered pages; else see Choice.pays_streaming."""
        pays = self.choice.pays_streaming(device)
        return _find(span, self.of(span.path, span.identity)) if pays else None

    def to_register(self, path: Path, identity: FileIdentity, device: torch.device) -> FileIdentity:
        """The file that loads will read in registered pages: the packed one, where it is in RAM."""
        file = self.of(path, identity) if self.choice.pays_loading(device, cold=False) else None
        return identity if file is None or not self.warm(file.mapping.path) else file.mapping.identity

    def instead_of(self, path: Path) -> Path:
        """What a load from the disk will read of a weight file: read this ahead."""
        cold = self.folder is not None and self.choice.pays_cold() and not self.warm(path)
        now = identity(path) if cold else None
        file = self.of(path, now) if now is not None else None
        return path if file is None else file.mapping.path

    def _written_over(self, identity: FileIdentity) -> None:
        for file in list(self._files.values()):
            if file is not None and file.mapping.identity == identity:
                file.damaged = True
                self.changes += 1

    def _open(self, path: Path, packed: Path, identity: FileIdentity) -> PackedFile | None:
        index = Index.counting(packed, identity)
        if index is None:
            return None
        try:
            mapping = self._registry.open(packed, lambda file, size, packed: Header({}, {}, 0, size))
        except WeightsError as error:
            _log.warning("%s; %s is read in its place", error, path)
            return None
        if mapping.identity.size != index.entries[-1].end:
            return None
        found = PackedFile(mapping, self)
        found.tensors |= {e.source: Packed(found, e) for e in index.entries if e.escapes != ABSENT}
        with suppress(OSError):
            os.utime(index_of(packed))  # used: others go first where room is short
        return found


def _find(span: Span, file: PackedFile | None) -> Packed | None:
    found = file.tensors.get(span.offset) if file is not None else None
    return found if found is not None and found.entry.size == span.length else None


def _bytes(tensor: torch.Tensor) -> torch.Tensor:
    """The memory of a dense tensor, in its order."""
    return tensor.reshape(-1).view(torch.uint8)


PACKED = Store()
"""The store of this process."""
