"""Weights as the device had them once, kept in pinned RAM: merged once, or read once, and streamed from there.

What is kept counts for exactly the parameters, homes and merges that it was made of. It is never a weight's home,
and nobody but the stream sees it: so nobody takes merged bytes for clean ones.
"""

from __future__ import annotations

import threading
from collections.abc import Callable, Collection, Mapping, Sequence
from dataclasses import dataclass
from functools import partial

import torch

from ..transfer.blocks import Blocks
from .ring import ALIGN, Mark
from .timeline import Timeline
from .unit import Merge, Slot, Unit


@dataclass(frozen=True, eq=False)
class Made:
    """What a copy was made of."""

    slots: Sequence[Slot]
    merges: Mapping[str, Merge]

    def is_of(self, unit: Unit) -> bool:
        """Whether the unit has these very weights, and gets these very LoRAs."""
        if self.slots is unit.slots:
            return self.merges is unit.merges
        pairs = list(zip(self.slots, unit.slots, strict=False))
        return (
            self.merges is unit.merges
            and len(pairs) == len(self.slots) == len(unit.slots)
            and all(
                then.name == now.name
                and then.parameter is now.parameter
                and then.home.data_ptr() == now.home.data_ptr()
                and (then.dtype, then.home.shape) == (now.dtype, now.home.shape)
                for then, now in pairs
            )
        )


@dataclass(eq=False)
class Copy:
    """A unit's weights; `pieces`: bytes for each slot, in one piece. There once `mark`, if any, is reached."""

    made: Made
    pieces: Sequence[Sequence[torch.Tensor]]
    mark: Mark


class Kept:
    """The copies of one model's units. Not thread safe but for the blocks that come."""

    def __init__(self, timeline: Timeline, blocks: Blocks, clean: Callable[[Unit], bool]) -> None:
        """`clean`: whether a unit that gets no LoRA is worth keeping, too: it comes from slower memory."""
        self._timeline = timeline
        self._blocks = blocks
        self._clean = clean
        self._copies: dict[int, Copy] = {}
        self._written: dict[int, Mark] = {}  # after the last copy into a unit's block, if it counts or not
        self._lock = threading.Lock()  # of what follows
        self._asked: set[int] = set()
        self._own: dict[int, torch.Tensor] = {}  # blocks by unit

    @property
    def is_empty(self) -> bool:
        """Whether nothing is kept, nor asked for."""
        return not self._asked

    def find(self, unit: Unit) -> Copy | None:
        """The copy of a unit that counts for it now."""
        copy = self._copies.get(unit.number)
        if copy is None or not copy.made.is_of(unit):
            return None
        if copy.mark is not None and self._timeline.reached(copy.mark):
            copy.mark = None  # nothing to wait for, in any round from now on
        return copy

    def keep(self, unit: Unit) -> None:
        """Its parameters have the data on the device that they compute with: copy it back, if there is a block."""
        if not self._wants(unit) or self.find(unit) is not None:
            return
        if not all(_as_expected(slot) for slot in unit.slots):
            return
        block = self._block(unit.number, sum(_aligned(slot.bytes) for slot in unit.slots))
        if block is None:
            return
        found: dict[Slot, tuple[torch.Tensor]] = {}
        at = 0
        try:
            for slot in sorted(unit.slots, key=lambda each: each.start):  # as they lie in a place
                piece = block[at : at + slot.bytes]
                found[slot] = (piece,)
                self._timeline.back(piece, slot.parameter.data.reshape(-1).view(torch.uint8))
                at += _aligned(slot.bytes)
        finally:
            mark = self._written[unit.number] = self._timeline.computed(self._timeline.computing())
        pieces = [found[slot] for slot in unit.slots]
        self._copies[unit.number] = Copy(Made(unit.slots, unit.merges), pieces, mark)

    def forget(self, numbers: Collection[int]) -> None:
        """These copies are not what their units are any more. Their blocks stay, for the next ones."""
        for number in numbers:
            self._copies.pop(number, None)

    def trim(self, units: Collection[Unit]) -> None:
        """Blocks of all but these, and of those among them that need none, go. Nobody reads them any more."""
        wanted = {unit.number for unit in units if self._wants(unit)}
        gone: list[torch.Tensor] = []
        with self._lock:
            for number in self._asked - wanted:
                gone += self._taken(number)
        self._blocks.let_go(gone)

    def close(self) -> None:
        """Nothing is kept any more, and no thread is left."""
        self.trim(())
        self._blocks.close()

    def _wants(self, unit: Unit) -> bool:
        return bool(unit.merges) or self._clean(unit)

    def _block(self, number: int, size: int) -> torch.Tensor | None:
        gone: list[torch.Tensor] = []
        with self._lock:
            found = self._own.get(number)
            if found is not None and found.numel() != size:
                self._timeline.drain()  # the old copy may be on its way to the device
                gone = self._taken(number)
            ask = number not in self._asked
            self._asked.add(number)
        if gone:
            found = None
            self._blocks.let_go(gone)
        if ask and not self._blocks.ask(size, partial(self._ready, number), partial(self._is_asked, number)):
            with self._lock:
                self._asked.discard(number)
        return self._own.get(number)

    def _taken(self, number: int) -> list[torch.Tensor]:
        """A unit's block, if it has one, which nothing writes to any more. Under the lock."""
        self._timeline.wait(self._written.pop(number, None))
        self._copies.pop(number, None)
        self._asked.discard(number)
        block = self._own.pop(number, None)
        return [] if block is None else [block]

    def _is_asked(self, number: int) -> bool:
        return number in self._asked

    def _ready(self, number: int, block: torch.Tensor) -> None:
        with self._lock:
            if number in self._asked:
                self._own[number] = block


def _as_expected(slot: Slot) -> bool:
    data = slot.parameter.data
    return (data.dtype, tuple(data.shape)) == (slot.dtype, slot.shape) and data.is_contiguous()


def _aligned(size: int) -> int:
    return -(-size // ALIGN) * ALIGN
