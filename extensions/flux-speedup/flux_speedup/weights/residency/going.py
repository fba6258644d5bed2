"""From home to a device: what is behind each entry right now, and what to ask the transfer for."""

from __future__ import annotations

from collections.abc import Sequence

import torch

from ..files.mapping import FileIdentity, Registry
from ..files.span import Span
from ..files.written import Ranges, overlaps
from ..transfer.item import Item
from .backing import Backing, classify, prove
from .entry import Entry, set_data

# Smaller RAM tensors are copied as they are: a staging slot each would cost more than it gains.
_STAGE_FROM = 1 << 20


def prepare(entries: Sequence[Entry], registry: Registry) -> tuple[list[Entry], list[Entry]]:
    """Sets backing and span of each entry at home; returns those that can go, and those left to the host.

    A file view that somebody wrote into counts as RAM, and so does one where the system cannot tell.
    """
    written: dict[FileIdentity, Ranges | None] = {}
    ready: list[Entry] = []
    left: list[Entry] = []
    for entry in entries:
        entry.backing, entry.span = _classify(entry, registry)
        if entry.backing is Backing.NONE:
            left.append(entry)
            continue
        if entry.span is not None and _was_written(entry, entry.span, registry, written):
            _make_ram(entry)
        ready.append(entry)
    return ready, left


def item_of(entry: Entry) -> Item:
    """What the transfer is to bring for a prepared entry."""
    data = entry.tensor.detach()
    dtype = entry.cast_now or data.dtype
    if entry.span is not None:
        return Item(entry.span, dtype, tuple(data.shape), inference=entry.tensor.is_inference())
    staged = data.is_contiguous() and data.nbytes >= _STAGE_FROM
    return Item(data, dtype, tuple(data.shape), staged=staged, inference=entry.tensor.is_inference())


def backing_now(entry: Entry, registry: Registry) -> Backing:
    """The backing an entry has or, at home, would have; nobody asks whether a file view was written."""
    return entry.backing if entry.away else _classify(entry, registry)[0]


def file_view(entry: Entry, source: torch.Tensor, registry: Registry) -> torch.Tensor | None:
    """`source`, a tensor of a file, where it gives the entry's RAM tensor: as it is, or cast. Reads both."""
    home = entry.tensor.detach()
    if classify(home, registry)[0] is not Backing.HOST or prove(source, home, registry) is None:
        return None
    return source.detach()


def undo_cast(entry: Entry) -> None:
    """Give an entry whose home is a view in the file's dtype a RAM tensor of its own dtype again."""
    dtype, view = entry.cast_now, entry.cast_view
    if dtype is None or view is None:
        return
    with torch.inference_mode(entry.tensor.is_inference()), torch.no_grad():
        home = view.to(dtype)
    if entry.away:
        entry.host, entry.backing, entry.span = home, Backing.HOST, None
    else:
        set_data([(entry.tensor, home)])


def growth(entry: Entry) -> int:
    """Bytes that a weight at home takes more (or fewer) on the device, as it is cast there."""
    dtype = None if entry.away else entry.cast_now
    return 0 if dtype is None else entry.tensor.numel() * (dtype.itemsize - entry.tensor.element_size())


def _classify(entry: Entry, registry: Registry) -> tuple[Backing, Span | None]:
    backing, span = classify(entry.tensor, registry)
    if backing is Backing.SPAN and entry.cast_now is not None:
        return Backing.SPAN_CAST, span
    return backing, span


def _was_written(
    entry: Entry, span: Span, registry: Registry, known: dict[FileIdentity, Ranges | None]
) -> bool:
    if span.identity not in known:
        mapping = registry.of(span.identity)
        known[span.identity] = None if mapping is None else mapping.written()
    ranges = known[span.identity]
    return ranges is None or overlaps(ranges, entry.tensor.data_ptr(), span.length)


def _make_ram(entry: Entry) -> None:
    undo_cast(entry)
    entry.backing, entry.span = Backing.HOST, None
