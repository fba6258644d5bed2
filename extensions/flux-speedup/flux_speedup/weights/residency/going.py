"""From home to a device: what is behind each weight right now, and what to ask the transfer for."""

from __future__ import annotations

from collections.abc import Hashable, Iterable
from collections.abc import Set as AbstractSet
from dataclasses import dataclass
from pathlib import Path

import torch

from ..errors import TransferError
from ..files.identity import FileIdentity
from ..files.looks import Looks
from ..files.mapping import Mapping, Near, Registry
from ..files.pagecache import WARM, resident_fraction
from ..files.span import Span, lost_among
from ..files.written import overlaps
from ..inference import made_in_inference
from ..transfer.item import Item
from .backing import Backing
from .forms import Recipe, recipe_of
from .roster import Entry
from .signature import Signature
from .state import AtHome, OnDevice, Place


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

    @property
    def key(self) -> Hashable:
        """What names its bytes on the device for good; None where nothing does."""
        return self.item.key if self.recipe is None else None

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


def departures(entries: Iterable[Entry], registry: Registry, looks: Looks | None = None) -> list[Departure]:
    """Those at home, each with what the transfer is to bring. `looks`: of a load that asks part by part.

    A file view that somebody wrote into counts as RAM, and so does one where the system cannot tell. Raises
    TransferError where a file was written over and nobody has the old bytes.
    """
    entries = list(entries)
    path = lost_among((entry.tensor for entry in entries), registry)
    if path is not None:
        raise TransferError(path, "it was written over while it was in use, and its old bytes are gone")
    at_home = [
        (each.tensor, each.tensor.data, each.state) for each in entries if isinstance(each.state, AtHome)
    ]
    views = [_memory(home, state.span) for _, home, state in at_home if state.span is not None]
    written = _written(views, registry, looks or Looks())
    found: list[Departure] = []
    for tensor, home, (backing, span) in at_home:
        if span is not None and _memory(home, span) in written:
            backing, span = Backing.HOST, None
        item, recipe = _item(tensor, home, span), recipe_of(tensor)
        found.append(Departure(tensor, home, backing, item, recipe))
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
    inference = made_in_inference(tensor)
    if span is not None:
        return Item(span, span.dtype, span.shape, inference=inference)
    return Item(home, home.dtype, tuple(home.shape), inference=inference)


def _memory(home: torch.Tensor, span: Span) -> tuple[int, int]:
    """Where a view of a file begins and ends."""
    address = home.data_ptr()
    return address, address + span.length


def _written(
    views: Iterable[tuple[int, int]], registry: Registry, looks: Looks
) -> AbstractSet[tuple[int, int]]:
    """Those of these views of files into which somebody wrote, or may have."""
    near, found = Near(registry), set[tuple[int, int]]()
    # By the addresses of mappings, which live as long as the views.
    parts: dict[int, tuple[Mapping, list[tuple[int, int]]]] = {}
    for start, end in views:
        mapping = near.around(start, end - start)
        if mapping is None:
            found.add((start, end))
        else:
            parts.setdefault(mapping.address, (mapping, []))[1].append((start, end))
    for mapping, own in parts.values():
        ranges = looks.among(own, mapping.address, mapping.identity.size)
        if ranges is None:
            found.update(own)
        elif ranges:
            found.update((start, end) for start, end in own if overlaps(ranges, start, end - start))
    return found
