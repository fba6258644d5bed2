"""Where streamed bytes are read: the file's own pages where they are registered, else the weight's home.

A packed form is read where it gains: from registered pages, of a file that is not in RAM, over a slow bus.
"""

from __future__ import annotations

import contextlib
from collections.abc import Sequence

import torch

from ...ram import HALF
from ..files.mapping import FileIdentity, Near, Registry
from ..files.span import Span, find
from ..files.written import Ranges, overlaps
from ..packed.packed_file import Packed
from ..packed.store import PACKED, Store
from ..transfer.direct import Direct
from ..transfer.item import Item
from .unit import InPackedForm, Slot, home_bytes

_Key = tuple[int, int]


class Sources:
    """The pieces of slots. Registered files are held until `close`."""

    def __init__(
        self,
        registry: Registry,
        direct: Direct | None,
        device: torch.device | None = None,
        store: Store = PACKED,
    ) -> None:
        """`direct`: registers files; None where the device cannot read such memory. `changes`: how often it may be
        that bytes lie elsewhere since. `device`: where they go; without one nothing comes in packed form.
        """
        self._device = device
        self._store = store
        self._packed_known = store.changes
        self.changes = 0
        self._registry = registry
        self._direct = direct
        self._loans = contextlib.ExitStack()
        self._lent: dict[FileIdentity, int] = {}  # what `_let_go` was then
        self._known: dict[_Key, Sequence[torch.Tensor]] = {}
        self._in_ram: dict[FileIdentity, bool] = {}  # at the last `hold`, or since
        self._let_go = self._come = 0
        self._written: dict[FileIdentity, Ranges | None] = {}

    def hold(self, homes: Sequence[torch.Tensor], soon: torch.device | None = None) -> bool:
        """Register what these weights at home are views of, and no more; whether all of them are read there now.

        Reads what is not in RAM yet. Where there is no room for what is missing of a file, nothing more of it is
        registered. `soon`: the device, for which this is done once nobody computes.
        """
        self._in_ram.clear()
        near = Near(self._registry)
        spans = [self._where(find(home.data, near)) for home in homes]
        by_file: dict[FileIdentity, list[Span]] = {}
        for span in spans:
            if span is not None:
                by_file.setdefault(span.identity, []).append(span)
        for identity, parts in by_file.items():
            self.is_written(identity, 0, 0)  # looked at from now on
            self._hold(identity, parts, soon)
        return bool(spans) and None not in spans and all(map(self._are_read, by_file, by_file.values()))

    def look_again(self) -> None:
        """What has been registered meanwhile, and is asked for again by `hold`, counts from now on."""
        come, packed = self._direct.come if self._direct is not None else 0, self._store.changes
        if (come, packed) != (self._come, self._packed_known):
            self._come, self._packed_known = come, packed
            self.changes += 1
            self._known.clear()
            self._in_ram.clear()

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
        if isinstance(pieces, InPackedForm):
            return pieces.straight
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

    def _hold(self, identity: FileIdentity, parts: Sequence[Span], soon: torch.device | None) -> None:
        mapping = self._registry.of(identity)
        if self._direct is None or mapping is None:
            return
        before = self._direct.bytes
        if soon is not None:
            self._direct.hold_soon([identity], soon, HALF, parts)
        else:
            self._direct.hold(mapping, HALF, parts)
        let_go, first = self._direct.let_go, parts[0]
        if self._lent.get(identity) != let_go and self._direct.pieces(first) is not None:
            self._loans.enter_context(self._direct.lend([Item(first, first.dtype, first.shape)]))
            self._lent[identity] = let_go
            self._known.clear()
        if self._direct.bytes != before:
            self.changes += 1
            self._known.clear()

    def _find(self, slot: Slot) -> Sequence[torch.Tensor]:
        span = find(slot.home, self._registry) if self._lent or self._store.folder is not None else None
        if span is None or self.is_written(span.identity, slot.home.data_ptr(), span.length):
            return home_bytes(slot)  # the file's own pages do not have what was written here
        packed = self._packed(span) if slot.raw is None else None
        read = self._read(packed.span) if packed is not None else None
        if packed is None or (read is None and self._is_warm(span) and not self._pays_staged()):
            return self._read(span) or home_bytes(slot)
        span = packed.span
        found = InPackedForm(read or (packed.file.mapping.bytes_at(span.offset, span.length),))
        found.packed, found.straight = packed, read is not None
        return found

    def _packed(self, span: Span) -> Packed | None:
        """Its packed form, if that is registered or in RAM, or it would come from the disk as well."""
        found = self._store.for_streaming(span, self._device) if self._device is not None else None
        if found is None or self._read(found.span) is not None or self._is_warm(found.span):
            return found
        return None if self._is_warm(span) else found

    def _pays_staged(self) -> bool:
        return self._device is not None and self._store.choice.pays_streaming(self._device, staged=True)

    def _is_warm(self, span: Span) -> bool:
        if span.identity not in self._in_ram:
            self._in_ram[span.identity] = self._store.warm(span.path)
        return self._in_ram[span.identity]

    def _where(self, span: Span | None) -> Span | None:
        packed = self._packed(span) if span is not None else None
        return span if packed is None else packed.span

    def _are_read(self, identity: FileIdentity, parts: Sequence[Span]) -> bool:
        """Whether all of these are where the device reads them, and may."""
        return self._direct is not None and identity in self._lent and self._direct.has(identity, parts)

    def _read(self, span: Span) -> Sequence[torch.Tensor] | None:
        """Its bytes where the device reads them, if it may."""
        return self._direct.pieces(span) if self._direct is not None and span.identity in self._lent else None

    def _ranges(self, identity: FileIdentity) -> Ranges | None:
        mapping = self._registry.of(identity)
        return None if mapping is None else mapping.written()
