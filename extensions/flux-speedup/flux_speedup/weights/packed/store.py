"""Packed files that count, found by the spans of their weight files: one store a process.

They are read where that takes less time: where the device reads them in registered pages, and where the weight file
is not in RAM. Of files in RAM, through staging slots, that is where the bus is slow beside decoding (choice.py).
"""

from __future__ import annotations

import logging
import os
import threading
from collections.abc import Callable, Sequence
from contextlib import suppress
from pathlib import Path

import torch

from ..errors import WeightsError
from ..files.header import no_header
from ..files.identity import identity
from ..files.mapping import MAPPINGS, FileIdentity, Registry
from ..files.pagecache import is_warm
from ..files.span import Span
from .choice import Choice
from .form import ABSENT
from .index import Index, index_of, packed_of
from .packed_file import Packed, PackedFile

_log = logging.getLogger("flux_speedup")


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
        self,
        spans: Sequence[Span | None],
        device: torch.device,
        registered: Callable[[FileIdentity], Callable[[Span], bool]],
    ) -> list[Packed | None]:
        """For each span of a load, what is to be read in its place; None: the span itself.

        `registered`: for a packed file, whether the device reads a span of it where it is.
        """
        known: dict[FileIdentity, tuple[PackedFile | None, Callable[[Span], bool]]] = {}

        def look(span: Span) -> tuple[PackedFile | None, Callable[[Span], bool]]:
            file = self.of(span.path, span.identity)
            cold = file is not None and not self.warm(span.path)
            if file is None or not self.choice.pays_loading(device, cold=cold):
                return None, _anywhere
            anyway = cold or self.choice.pays_streaming(device, staged=True)
            return file, _anywhere if anyway else registered(file.mapping.identity)

        def read(span: Span) -> Packed | None:
            if span.identity not in known:
                known[span.identity] = look(span)
            file, is_read = known[span.identity]
            found = _find(span, file)
            return found if found is not None and is_read(found.span) else None

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
            mapping = self._registry.open(packed, no_header)
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


def _anywhere(_span: Span) -> bool:
    return True


def _find(span: Span, file: PackedFile | None) -> Packed | None:
    found = file.tensors.get(span.offset) if file is not None else None
    return found if found is not None and found.entry.size == span.length else None


PACKED = Store()
"""The store of this process."""
