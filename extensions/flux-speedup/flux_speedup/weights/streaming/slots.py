"""Slots between reading and copying: which are free, which a copy still reads; and what is read at once."""

from __future__ import annotations

import queue
from collections import deque
from collections.abc import Iterable, Sequence
from typing import NamedTuple

import torch

from ..transfer.reader import Source
from ..transfer.staging import Slot
from .ring import Mark
from .timeline import Timeline

_ALIGN = 64


class Part(NamedTuple):
    """Bytes of a source from `offset` on that go to `target` (uint8, one dimension)."""

    target: torch.Tensor
    source: Source
    offset: int

    @property
    def length(self) -> int:
        return self.target.numel()

    @property
    def room(self) -> int:
        """Bytes of a slot that it takes."""
        return -(-self.length // _ALIGN) * _ALIGN


def packed(parts: Iterable[Part], size: int) -> list[list[Part]]:
    """The parts in their order, cut and put together: each list fits a slot of `size` bytes."""
    lists: list[list[Part]] = []
    room = 0
    for target, source, offset in parts:
        at = 0
        while at < target.numel():
            if room <= 0:
                lists.append([])
                room = size
            part = Part(target[at : at + room], source, offset + at)
            lists[-1].append(part)
            at += part.length
            room -= part.room
    return lists


class Slots:
    """Handed out to readers; given back by one thread, which also finds out whose copies are over.

    The one that was given back last goes out first: it is still in the processor's cache.
    """

    def __init__(self, slots: Sequence[Slot], timeline: Timeline) -> None:
        self.count = len(slots)
        self._timeline = timeline
        self._free = list(slots)
        self._tokens: queue.SimpleQueue[None] = queue.SimpleQueue()  # one for each that is free
        for _ in slots:
            self._tokens.put(None)
        self._copied: deque[tuple[Slot, Mark]] = deque()

    def take(self) -> Slot:
        """A slot to read into; waits for one."""
        self._tokens.get()
        return self._free.pop()

    def give(self, slot: Slot) -> None:
        """Nothing reads it any more. From any thread."""
        self._free.append(slot)
        self._tokens.put(None)

    def copied(self, slot: Slot, mark: Mark) -> None:
        """It is free once the mark is reached and somebody has collected it."""
        self._copied.append((slot, mark))

    def collect(self) -> None:
        """Give back those whose copies are over. Waits for one only where copies have all there are."""
        while self._copied and self._is_over(self._copied[0][1], len(self._copied) == self.count):
            self.give(self._copied.popleft()[0])

    def _is_over(self, mark: Mark, must: bool) -> bool:
        try:
            if must:
                self._timeline.wait(mark)
            return must or self._timeline.reached(mark)
        except Exception:  # the device is lost: every copy raises from here on, and tells whoever needs it
            return True
