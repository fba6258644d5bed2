"""From home to a device: what is behind each entry right now, and what to ask the transfer for."""

from __future__ import annotations

from collections.abc import Sequence

import torch

from .backing import Backing, classify, prove_cast
from .entry import Entry, same_memory, set_data
from .item import Item
from .mapping import FileIdentity, Registry
from .span import Span
from .written import Ranges, overlaps

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
        _settle_cast(entry)
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
    dtype = entry.cast or data.dtype
    if entry.span is not None:
        return Item(entry.span, dtype, tuple(data.shape), inference=entry.tensor.is_inference())
    staged = data.is_contiguous() and data.nbytes >= _STAGE_FROM
    return Item(data, dtype, tuple(data.shape), staged=staged, inference=entry.tensor.is_inference())


def backing_now(entry: Entry, registry: Registry) -> Backing:
    """The backing an entry has or, at home, would have; nobody asks whether a file view was written."""
    return entry.backing if entry.away else _classify(entry, registry)[0]


def adopt_cast(entry: Entry, source: torch.Tensor, registry: Registry) -> bool:
    """Where casting the file's `source` gives the entry's RAM tensor, put the file view in its place."""
    dtype = entry.tensor.dtype
    if prove_cast(source, entry.tensor.detach(), registry) is None:
        return False
    view = source.detach()
    set_data([(entry.tensor, view)])
    entry.cast, entry.cast_view = dtype, view
    return True


def undo_cast(entry: Entry) -> None:
    """Give an entry whose home is a view in the file's dtype a RAM tensor of its own dtype again."""
    if entry.cast is None or entry.cast_view is None:
        return
    with torch.inference_mode(entry.tensor.is_inference()), torch.no_grad():
        if entry.away:
            entry.host = entry.cast_view.to(entry.cast)
        elif same_memory(entry.tensor, entry.cast_view):
            set_data([(entry.tensor, entry.cast_view.to(entry.cast))])
    if entry.away:
        entry.backing, entry.span = Backing.HOST, None
    entry.forget_cast()


def _classify(entry: Entry, registry: Registry) -> tuple[Backing, Span | None]:
    backing, span = classify(entry.tensor, registry)
    if backing is Backing.SPAN and entry.cast is not None:
        return Backing.SPAN_CAST, span
    return backing, span


def _settle_cast(entry: Entry) -> None:
    if entry.cast_view is not None and not same_memory(entry.tensor, entry.cast_view):
        entry.forget_cast()  # somebody gave it other data since


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
