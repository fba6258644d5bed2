"""What is on its way for the units of one model: into places of the ring, or into memory of its own, to stay there.

Not thread safe: its stream calls it under a lock.
"""

from __future__ import annotations

from collections.abc import Collection, Mapping, Sequence
from dataclasses import dataclass

import torch

from ... import shortage
from .kept import Kept
from .loads import Loads, brought_alone, load_of_own
from .order import Cursor
from .ring import Mark, Place, Ring
from .supply import Arrival, Supply
from .timeline import Timeline
from .unit import Pieces, Unit

FEW = 4
"""Units on their way; with no more, nothing is waited for to bring others."""


@dataclass
class Figures:
    """Counted since the stream began: bytes and units brought; those that nobody had expected in time."""

    bytes: int = 0
    units: int = 0
    unexpected: int = 0
    rounds: int = 0


@dataclass(frozen=True, eq=False)
class Own:
    """A unit's weights in memory of their own, as they are at home, and the mark after which they are there."""

    views: list[torch.Tensor]
    arrival: Arrival


class Bringing:
    """The ring, and how far copies are ahead of computing."""

    def __init__(
        self,
        units: Mapping[int, Unit],
        timeline: Timeline,
        supply: Supply,
        ring: int,
        pieces: Pieces,
        kept: Kept | None = None,
    ) -> None:
        """`ring`: bytes, which take device memory from the first unit brought there on, until `rest`."""
        self.figures = Figures()
        self.size = ring
        self._batch = ring // 4
        self.supply = supply
        self.cursor = Cursor(())
        self.coming: frozenset[int] = frozenset()
        self._units = units
        self._timeline = timeline
        self._pieces = pieces
        self._kept = kept
        self._ring = Ring(ring)
        self._loads: Loads | None = None
        self._own: dict[int, Own] = {}

    @property
    def held(self) -> int:
        """Bytes of the ring that take device memory now."""
        return 0 if self._loads is None else self.size

    def follow(self, order: Sequence[int]) -> None:
        """What comes next is the begin of this order."""
        for place in self._ring.expected():
            place.expected = False
        self.cursor.restart(order)

    def ran(self, number: int) -> None:
        """Computing is at this unit: what was brought for units whose turn is over may be overwritten."""
        for over in self.cursor.ran(number):
            place = self._ring.find(over)
            if place is not None:
                place.expected = False

    def forget(self, numbers: Collection[int]) -> None:
        """What is on its way for these is not what they need."""
        for number in numbers:
            self._ring.forget(number)
            self._units[number].let_go()
        self.let_go(numbers)
        self._drop(numbers)

    def let_go(self, numbers: Collection[int]) -> None:
        """What these were brought from may go."""
        if self._loads is not None:
            self._loads.forget(numbers)

    def come(self, numbers: Collection[int]) -> None:
        """These, and no others, get memory of their own when it is their turn."""
        self.coming = frozenset(numbers)
        self._drop(self._own.keys() - self.coming)

    def own(self, unit: Unit) -> Own | None:
        """Its weights in memory of their own, if it is one of those that come to stay; they are the caller's."""
        if unit.number not in self.coming and not self._own:
            return None
        if unit.number in self.coming and unit.number not in self._own:
            self.figures.unexpected += 1
            self._bring_own(unit)
        found = self._own.pop(unit.number, None)
        self.coming -= {unit.number}
        if found is not None:
            self._ring.forget(unit.number)
        return found

    def find(self, unit: Unit) -> Place | None:
        """The place with its weights; one that has others' LoRAs in them is not to be found any more."""
        found = self._ring.find(unit.number)
        if found is not None and found.made is not None and not found.made.is_of(unit):
            self._ring.forget(unit.number)
            return None
        return found

    def bring(self, unit: Unit) -> Place | None:
        """A place for a unit that nobody expected, brought now; None where the ring has no room."""
        self.figures.unexpected += 1
        return self._bring(unit, force=True)

    def alone(self, unit: Unit) -> list[torch.Tensor]:
        """Beside the ring, which has no room: in memory of its own, on the stream that computes."""
        return brought_alone(unit, self._timeline.memory)

    def is_time(self, size: int) -> bool:
        """Whether to `fill` now where so many bytes may have become free: a few units are brought together."""
        return size >= self._batch or self.cursor.ahead <= FEW

    def fill(self) -> None:
        """Bring what comes next, as far as there is room."""
        gone = self.figures.bytes
        try:
            while (number := self.cursor.upcoming()) is not None:
                if number not in self._own and not self._bring_own(self._units[number]):
                    place = self.find(self._units[number]) or self._bring(self._units[number])
                    if place is None:
                        return
                    place.expected = True  # still there from the last time, or asked for twice
                self.cursor.brought()
                if self.figures.bytes - gone >= self._batch:
                    self.supply.go()
                    gone = self.figures.bytes
        finally:
            self.supply.go()

    def rest(self) -> None:
        """Nobody runs the model for a while: no memory is held until somebody does, and none comes to stay."""
        self.come(())
        for unit in self._units.values():
            unit.let_go()
        if self._loads is None:
            return
        self.settle()
        self._loads = None
        self._ring = Ring(self.size)
        self.cursor.restart(self.cursor.order)

    def close(self) -> None:
        """No copy is under way any more."""
        self.supply.close()
        self.coming = frozenset()
        self._own.clear()
        self._ring = Ring(0)
        self._loads = None

    def settle(self) -> None:
        """Whoever gets memory that is let go now comes after what may still be brought there."""
        made = self._made()
        computing = self._timeline.computing()
        self._timeline.computing_waits(computing, self._timeline.copied())
        self._timeline.computing_waits(computing, made)

    def _made(self) -> Mark:
        self.supply.rest()
        return self._timeline.made()

    def _drop(self, numbers: Collection[int]) -> None:
        gone = [self._own.pop(number) for number in list(numbers) if number in self._own]
        if gone:
            self.settle()

    def _bring_own(self, unit: Unit) -> bool:
        """Whether a unit that comes to stay is on its way; where there is no room for it, it streams on."""
        if unit.number not in self.coming or any(
            slot.raw is not None and slot.recipe is None for slot in unit.slots
        ):
            return False
        try:
            memories = [self._timeline.memory(slot.home.nbytes) for slot in unit.slots]
        except RuntimeError as error:
            if not shortage.of_card(error):
                raise
            self.coming = frozenset()
            return False
        load, views = load_of_own(unit, memories, self._pieces)
        self._own[unit.number] = Own(views, self.supply.bring(load, ()))
        self._count(unit)
        return True

    def _bring(self, unit: Unit, *, force: bool = False) -> Place | None:
        """A place of the ring for a unit, its bytes on their way. `force`: what others expect gives way."""
        found = self._ring.place(unit.number, unit.place, self._made)
        if found is None and force:
            found = self._instead(unit)
        if found is None:
            return None
        place, marks = found
        try:
            copy = self._kept.find(unit) if self._kept is not None else None
            if self._loads is None:
                self._loads = Loads(self._timeline.memory(self.size), self._pieces)
            load, views = self._loads.into(unit, place.start, copy)
            after = marks if copy is None or copy.mark is None else [*marks, copy.mark]
            place.arrival = self.supply.bring(load, after)
        except BaseException:
            self._ring.hand_back(unit.number, marks)
            raise
        place.views, place.made = views, None if copy is None else copy.made
        self._count(unit)
        return place

    def _instead(self, unit: Unit) -> tuple[Place, list[Mark]] | None:
        """A place where what others expect was, as little of it as that takes."""
        found, followed = None, True
        expected = self._ring.expected()
        for place in sorted(expected, key=lambda each: not self.cursor.is_skipped(each.unit)):
            place.expected = False
            followed = self.cursor.is_skipped(place.unit)
            self.cursor.give_up([place.unit])
            found = self._ring.place(unit.number, unit.place, self._made)
            if found is not None:
                break
        # Where only what had been skipped went, the order is followed still.
        if expected and (found is None or not followed):
            self.cursor.restart(self.cursor.order, unit.number)
            for place in self._ring.expected():
                place.expected = found is not None and place is found[0]
        return found

    def _count(self, unit: Unit) -> None:
        self.figures.bytes += unit.brought
        self.figures.units += 1
