"""Places in one block of bytes, handed out in a circle: who may overwrite what, and after which events.

Pure bookkeeping: a mark is whatever stands for a point in a stream's work; nobody here looks into one.
"""

from __future__ import annotations

from collections import deque
from collections.abc import Callable
from dataclasses import dataclass, field
from typing import Any

ALIGN = 256
Mark = Any


@dataclass(eq=False)
class Place:
    """Bytes `start` to `end` of the ring, for one unit.

    `expected`: brought ahead and not used yet. `users`: computations that use it and are still being queued.
    `computed`: marks of computations that are queued; all of them must be over before it is overwritten.
    `arrival`, `views`, `made` (what the copy that it is filled from was made of): kept for whoever fills it.
    """

    unit: int
    start: int
    end: int
    expected: bool = True
    users: int = 0
    computed: list[Mark] = field(default_factory=list)
    arrival: Any = None
    views: Any = None
    made: Any = None

    @property
    def free(self) -> bool:
        """Whether it may be overwritten, once `computed` is over."""
        return not self.expected and not self.users


class Ring:
    """Places by unit. What a free place holds stays readable until the place is handed out again."""

    def __init__(self, size: int) -> None:
        self.size = size
        self._places: deque[Place] = deque()  # the oldest first: the circle's order
        self._by_unit: dict[int, Place] = {}
        self._end = 0
        self._owed: list[Mark] = []

    def find(self, unit: int) -> Place | None:
        """The place that holds this unit's bytes."""
        return self._by_unit.get(unit)

    def place(self, unit: int, size: int, made: Callable[[], Mark]) -> tuple[Place, list[Mark]] | None:
        """A place of `size` bytes and what must be over before it is written; None while there is none.

        The unit's older place, if it has one, is forgotten. `made`: answers with a mark after all that was brought,
        for places that nobody has computed with: else that was waited for before.
        """
        size = -(-size // ALIGN) * ALIGN
        if size > self.size:
            return None
        start = self._end if self._end + size <= self.size else 0
        end, wraps = start + size, start == 0 and self._end != 0
        marks = list(self._owed)
        taken, unused = 0, False
        for old in self._places:
            # Whatever lies between the circle's end and the block's end is skipped with the wrap.
            if (old.start >= end or start >= old.end) and not (wraps and old.start >= self._end):
                break  # not in the way
            if not old.free:
                return None
            marks += old.computed
            unused |= not old.computed
            taken += 1
        if unused:
            marks.append(made())
        self._owed.clear()
        for _ in range(taken):
            self._drop(self._places.popleft())
        new = Place(unit, start, end)
        self._places.append(new)
        self._by_unit[unit] = new
        self._end = end
        return new, marks

    def hand_back(self, unit: int, marks: list[Mark]) -> None:
        """The place that the unit has just got is not written; what nobody has waited for, the next one must."""
        self.forget(unit)
        self._owed += marks

    def forget(self, unit: int) -> None:
        """What the unit's place holds is not to be found any more; the place is free once nobody uses it."""
        found = self._by_unit.pop(unit, None)
        if found is not None:
            found.expected = False

    def expected(self) -> list[Place]:
        """Places that were brought ahead and not used, the oldest first."""
        return [place for place in self._places if place.expected]

    def _drop(self, old: Place) -> None:
        if self._by_unit.get(old.unit) is old:
            del self._by_unit[old.unit]


def ring_bytes(room: int, largest: int, most: int) -> int:
    """Size of a ring where `room` bytes are for weights: a twelfth, at most `most`, at least two of the largest."""
    aligned = -(-largest // ALIGN) * ALIGN
    return max(2 * aligned, min(most, room // 12) // ALIGN * ALIGN)
