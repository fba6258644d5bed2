"""Where streamed bytes are read: the file's own pages where they are registered, else the weight's home."""

from __future__ import annotations

import contextlib
from collections.abc import Sequence

import torch

from ...ram import HALF
from ..files.mapping import FileIdentity, Registry
from ..files.span import Span, find
from ..files.written import Ranges, overlaps
from ..transfer.direct import Direct
from ..transfer.item import Item
from .unit import Slot, home_bytes

_Key = tuple[int, int]


class Sources:
    """The pieces of slots. Registered files are held until `close`."""

    def __init__(self, registry: Registry, direct: Direct | None) -> None:
        """`direct`: registers files; None where the device cannot read such memory."""
        self._registry = registry
        self._direct = direct
        self._loans = contextlib.ExitStack()
        self._lent: set[FileIdentity] = set()
        self._known: dict[_Key, Sequence[torch.Tensor]] = {}
        self._let_go = 0
        self._written: dict[FileIdentity, Ranges | None] = {}

    def hold(self, homes: Sequence[torch.Tensor]) -> bool:
        """Register every file that these weights at home are views of; whether all of them are read there.

        Reads what is not in RAM yet. Where there is no room for a file, nothing of it is registered.
        """
        spans = [find(home.data, self._registry) for home in homes]
        files = {span.identity: span for span in spans if span is not None}
        for span in files.values():
            self.is_written(span.identity, 0, 0)  # looked at from now on
            self._hold_file(span)
        return bool(spans) and all(span is not None and span.identity in self._lent for span in spans)

    @property
    def registered(self) -> int:
        """How many files are held."""
        return len(self._lent)

    def pieces(self, slot: Slot) -> Sequence[torch.Tensor]:
        """As `unit.Pieces`; found once for each home."""
        if self._direct is not None and self._direct.let_go != self._let_go:
            self._let_go = self._direct.let_go
            self._known.clear()
        key = slot.home.data_ptr(), slot.home.nbytes
        found = self._known.get(key)
        if found is None:
            found = self._known[key] = self._find(slot)
        return found

    def is_registered(self, slot: Slot) -> bool:
        """Whether its bytes are read from registered pages."""
        pieces = self.pieces(slot)
        return not any(piece.data_ptr() == slot.home.data_ptr() for piece in pieces)

    def is_written(self, identity: FileIdentity, address: int, length: int) -> bool:
        """Whether somebody may have written at home, into memory that is a view of that file."""
        if identity not in self._written:
            self._written[identity] = self._ranges(identity)
        written = self._written[identity]
        return written is None or overlaps(written, address, length)

    def changed(self) -> bool:
        """Whether somebody has written into a file's pages at home since they were looked at: see all anew."""
        now = {identity: self._ranges(identity) for identity in self._written}
        if now == self._written:
            return False
        self._written = now
        self._known.clear()
        return True

    def close(self) -> None:
        """Registered files may go; nothing reads them any more."""
        self._known.clear()
        self._loans.close()
        self._lent.clear()

    def _hold_file(self, span: Span) -> None:
        mapping = self._registry.of(span.identity)
        if self._direct is None or mapping is None or span.identity in self._lent:
            return
        if self._direct.hold(mapping, HALF):
            self._loans.enter_context(self._direct.lend([Item(span, span.dtype, span.shape)]))
            self._lent.add(span.identity)
            self._known.clear()

    def _find(self, slot: Slot) -> Sequence[torch.Tensor]:
        span = find(slot.home, self._registry) if self._direct is not None else None
        if span is None or self._direct is None or span.identity not in self._lent:
            return home_bytes(slot)
        if self.is_written(span.identity, slot.home.data_ptr(), span.length):
            return home_bytes(slot)  # the file's own pages do not have what was written here
        return self._direct.pieces(span) or home_bytes(slot)

    def _ranges(self, identity: FileIdentity) -> Ranges | None:
        mapping = self._registry.of(identity)
        return None if mapping is None else mapping.written()
