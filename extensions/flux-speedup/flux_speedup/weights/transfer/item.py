"""What a transfer is asked for: new device tensors, and where their bytes are."""

from __future__ import annotations

import math
from collections.abc import Callable, Hashable, Sequence
from dataclasses import dataclass

import torch

from ..files.identity import FileIdentity
from ..files.span import Span
from ..packed.packed_file import Packed
from ..packed.store import Store
from .plan import Request
from .reader import MemorySource


@dataclass(eq=False, slots=True)
class Item:
    """One new device tensor of `dtype` and `shape`, and where its bytes are: a file span or a tensor in RAM.

    A RAM tensor that is not contiguous is copied without staging (its strides are kept). `inference`: the new
    one is an inference tensor; a parameter made under inference mode has no version counter, and given ordinary
    data it could not be viewed outside that mode. `packed`: the packed form that is read in place of a span, and
    decoded on the device.
    """

    origin: Span | torch.Tensor
    dtype: torch.dtype
    shape: tuple[int, ...]
    inference: bool = False
    packed: Packed | None = None

    @property
    def source(self) -> Span | torch.Tensor:
        """Where its bytes are read."""
        return self.origin if self.packed is None else self.packed.span

    @property
    def key(self) -> Hashable:
        """What names its bytes for good: the part of a file that they are. None where nothing does."""
        origin = self.origin
        return (origin.identity, origin.offset, origin.length) if isinstance(origin, Span) else None

    @property
    def bytes(self) -> int:
        """Bytes of the new tensor."""
        return math.prod(self.shape) * self.dtype.itemsize


class Wanted:
    """What is to be read for items: `origins`, sources in order of first use, each file once and all that is in RAM
    as one, and `requests`.
    """

    def __init__(self) -> None:
        self.origins: list[Span | MemorySource] = []
        self.requests: list[Request] = []
        self._files: dict[FileIdentity, int] = {}
        self._memory = MemorySource()
        self._number = -1  # of that among the sources

    def add(self, dest: int, item: Item, *, straight: bool) -> None:
        """Item number `dest`; `straight`: its bytes go from where they are, and no chunk of them is read."""
        if isinstance(span := item.source, Span):
            source = self._files.setdefault(span.identity, len(self.origins))
            if source == len(self.origins):
                self.origins.append(span)
            if not straight:
                self.requests.append(Request(source, span.offset, span.length, dest))
        elif not straight and span.numel() and span.is_contiguous():
            if self._number < 0:
                self._number = len(self.origins)
                self.origins.append(self._memory)
            self.requests.append(Request(self._number, self._memory.add(span), span.nbytes, dest))


def packed_where_better(
    items: Sequence[Item],
    device: torch.device,
    store: Store,
    registered: Callable[[FileIdentity], Callable[[Span], bool]],
) -> list[Item]:
    """The items, each with its packed form where a load to this device is to read that; see Store.for_load."""
    if store.folder is None:
        return list(items)
    spans = [item.origin if isinstance(item.origin, Span) else None for item in items]
    found = store.for_load(spans, device, registered)
    return [
        item if one is None else Item(item.origin, item.dtype, item.shape, item.inference, one)
        for item, one in zip(items, found, strict=True)
    ]
