"""A packed file that is open, and what to do with its tensors' bytes once they have come to the device."""

from __future__ import annotations

import functools
import logging
from dataclasses import dataclass, field
from typing import TYPE_CHECKING

import torch

from ... import shortage
from ..errors import ReadError
from ..files.mapping import Mapping
from ..files.span import Span
from .decoding import unpack
from .form import RAW, Form
from .index import Entry

if TYPE_CHECKING:
    from .store import Store

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

    def unpack(self, tensor: torch.Tensor, *, right: bool) -> torch.Tensor | None:
        """Decode what has come to the end of a dense tensor's memory. The checksum, for `see`, unless `right`."""
        memory = tensor.reshape(-1).view(torch.uint8)
        return unpack(memory, self.form, self.file.store.choice.decoder, right=right)

    def see(self, total: int) -> bool:
        """Whether the checksum is the one that it was written with; else nothing of its file is read any more."""
        if total == self.entry.checksum:
            self.file.checked.add(self.entry.offset)
        else:
            self.damage()
        return not self.file.damaged

    def unpack_now(self, tensor: torch.Tensor, home: torch.Tensor) -> None:
        """Decode, and where that cannot be the tensor gets the bytes of `home`. Waits at the first time."""
        try:
            total = self.unpack(tensor, right=self.is_right)
            if total is not None:
                self.see(int(total))
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
