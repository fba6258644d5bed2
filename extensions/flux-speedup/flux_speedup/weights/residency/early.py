"""Weights on their way to a device before anybody asks for them: what a load then asks for, it finds there.

Only what comes from a file: its bytes cannot change on the way without being another span.
"""

from __future__ import annotations

import logging
from collections.abc import Callable, Iterable, Sequence
from typing import Protocol

import torch

from ..errors import TransferError
from ..files.span import Span
from ..transfer.item import Item
from ..transfer.lane import Lane
from ..transfer.run import Arrived
from .going import Departure
from .signature import Signature
from .state import OnDevice

_log = logging.getLogger("flux_speedup")


class Underway(Protocol):
    """A transfer that goes on by itself; see `weights.transfer.transfer.Underway`."""

    def result(self) -> list[torch.Tensor]: ...

    def stop(self) -> None: ...


class Starter(Protocol):
    """What starts one. Raises TransferError."""

    def __call__(self, items: Sequence[Item], lane: Lane, *, arrived: Arrived | None) -> Underway: ...


Landed = tuple[torch.Tensor, OnDevice]
"""New memory on the device with a weight's bytes, and what is to be noted of that."""


class Early:
    """One model's weights that come before they are asked for, or nothing. One call at a time.

    `bytes`: what they take on `device` now.
    """

    def __init__(self, start: Starter, signed: Callable[..., Signature]) -> None:
        self._start = start
        self._signed = signed
        self._underway: Underway | None = None
        self._going: list[Departure] = []
        self._signature: Signature | None = None
        self.device: torch.device | None = None
        self.bytes = 0

    def begin(self, going: Iterable[Departure], device: torch.device, lane: Lane) -> int:
        """Start with what comes from files; the bytes it takes on the device from now on.

        Raises TransferError, torch.OutOfMemoryError: nothing is on its way then.
        """
        self.stop()
        coming = [d for d in going if isinstance(d.item.origin, Span) and d.recipe is None]
        if not coming:
            return 0
        items = [departure.item for departure in coming]
        signature = self._signed([item.bytes for item in items], device, alone=True)
        self._underway = self._start(items, lane, arrived=signature.add)
        self._going, self._signature, self.device = coming, signature, device
        self.bytes = sum(item.bytes for item in items)
        return self.bytes

    def landed(self, going: Iterable[Departure], device: torch.device) -> dict[int, Landed]:
        """By id of its tensor, what has come of all that goes now; waits for it, and lets the rest go."""
        underway, begun, signature = self._underway, self._going, self._signature
        if underway is None or signature is None or device != self.device:
            self.stop()
            return {}
        self._underway, self._going, self._signature, self.bytes = None, [], None, 0
        try:
            tensors = underway.result()
        except TransferError as error:
            _log.info("what was on its way ahead of its load did not come (%s)", str(error))
            return {}
        signature.join()
        there = {
            id(departure.tensor): (departure.item, data, number)
            for number, (departure, data) in enumerate(zip(begun, tensors, strict=True))
        }
        found: dict[int, Landed] = {}
        for now in going:
            known = there.get(id(now.tensor))
            if known is not None and _is_same(known[0], now.item):
                _, data, number = known
                found[id(now.tensor)] = data, now.landed(data, signature, number)
        return found

    @property
    def is_underway(self) -> bool:
        """Whether anything is on its way, or waits to be asked for."""
        return self._underway is not None

    def stop(self) -> None:
        """Nobody wants it: no copy is under way any more, and its memory is free."""
        underway, self._underway = self._underway, None
        if underway is not None:
            underway.stop()
        self._going, self._signature, self.bytes = [], None, 0


def _is_same(one: Item, other: Item) -> bool:
    """Whether both bring the same bytes of the same file, as the same kind of tensor."""
    return isinstance(other.origin, Span) and (one.origin, one.dtype, one.shape, one.inference) == (
        other.origin,
        other.dtype,
        other.shape,
        other.inference,
    )
