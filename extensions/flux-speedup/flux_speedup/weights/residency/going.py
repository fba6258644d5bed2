"""From home to a device: what is behind each weight right now, and what to ask the transfer for."""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass
from pathlib import Path

import torch

from ..errors import TransferError
from ..files.identity import FileIdentity
from ..files.mapping import Registry
from ..files.pagecache import WARM, resident_fraction
from ..files.span import Span, lost_among
from ..files.written import Ranges, overlaps
from ..transfer.item import Item
from .backing import Backing
from .forms import Recipe, recipe_of
from .roster import Entry
from .signature import Signature
from .state import AtHome, OnDevice, Place

# Smaller RAM tensors are copied as they are: a staging slot each would cost more than it gains.
_STAGE_FROM = 1 << 20


@dataclass(eq=False, slots=True)
class Departure:
    """A tensor that is at home and can go. `home`: its data there; `recipe`: what is made of it on the device."""

    tensor: torch.Tensor
    home: torch.Tensor
    backing: Backing
    item: Item
    recipe: Recipe | None = None

    @property
    def bytes(self) -> int:
        """Bytes it has on the device."""
        return self.item.bytes if self.recipe is None else self.recipe.bytes

    def landed(self, data: torch.Tensor, signature: Signature, number: int) -> OnDevice:
        """It is there, in this memory, of which `signature` has the checksum. Holds none of it."""
        return OnDevice(self.home, Place.of(data), self.backing, signature, number, self.recipe)

    def made(self, data: torch.Tensor) -> torch.Tensor:
        """What it is on the device, from its bytes there. Raises what the host raises, or ValueError."""
        recipe = self.recipe
        if recipe is None:
            return data
        with torch.inference_mode(self.item.inference), torch.no_grad():
            made = recipe.make(data)
        if (made.dtype, tuple(made.shape)) != (recipe.dtype, recipe.shape):
            raise ValueError(f"{made.dtype} {tuple(made.shape)} was made, not {recipe.dtype} {recipe.shape}")
        return made


def departures(entries: Iterable[Entry], registry: Registry) -> list[Departure]:
    """Those at home, each with what the transfer is to bring.

    A file view that somebody wrote into counts as RAM, and so does one where the system cannot tell. Raises
    TransferError where a file was written over and nobody has the old bytes.
    """
    entries = list(entries)
    path = lost_among((entry.tensor for entry in entries), registry)
    if path is not None:
        raise TransferError(path, "it was written over while it was in use, and its old bytes are gone")
    written: dict[int, Ranges | None] = {}
    found: list[Departure] = []
    for entry in entries:
        if not isinstance(entry.state, AtHome):
            continue
        backing, span, home = entry.state.backing, entry.state.span, entry.tensor.data
        if span is not None and _was_written(home, span, registry, written):
            backing, span = Backing.HOST, None
        item, recipe = _item(entry.tensor, home, span), recipe_of(entry.tensor)
        found.append(Departure(entry.tensor, home, backing, item, recipe))
    return found


def files_of(going: Iterable[Departure]) -> dict[FileIdentity, Path]:
    """The files that are to be read."""
    spans = (departure.item.origin for departure in going)
    return {span.identity: span.path for span in spans if isinstance(span, Span)}


def source_of(paths: Iterable[Path]) -> str:
    """Where the bytes of files are now: see LoadReport."""
    fractions = [resident_fraction(path) for path in set(paths)]
    known = [fraction for fraction in fractions if fraction is not None]
    if not known:
        return "file"
    return "page cache" if min(known) >= WARM else "disk"


def _item(tensor: torch.Tensor, home: torch.Tensor, span: Span | None) -> Item:
    inference = tensor.is_inference()
    if span is not None:
        return Item(span, span.dtype, span.shape, inference=inference)
    staged = home.is_contiguous() and home.nbytes >= _STAGE_FROM
    return Item(home, home.dtype, tuple(home.shape), staged=staged, inference=inference)


def _was_written(home: torch.Tensor, span: Span, registry: Registry, known: dict[int, Ranges | None]) -> bool:
    address = home.data_ptr()
    start = address - span.offset  # of its mapping, which lives as long as `home` does
    if start not in known:
        mapping = registry.around(address, span.length)
        known[start] = None if mapping is None else mapping.written()
    ranges = known[start]
    return overlaps(ranges, address, span.length) if ranges else ranges is None
