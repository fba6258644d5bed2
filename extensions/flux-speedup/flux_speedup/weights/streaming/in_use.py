"""Units whose modules are running: their parameters have the data on the device, and their places are taken."""

from __future__ import annotations

from collections.abc import Callable

import torch

from .kept import Kept
from .ring import Place
from .timeline import Timeline
from .unit import Unit


class InUse:
    """By unit. Not thread safe: its stream calls it under a lock."""

    def __init__(
        self,
        timeline: Timeline,
        alone: Callable[[Unit], list[torch.Tensor]],
        kept: Kept | None,
        say: Callable[[str], None],
    ) -> None:
        """`alone`: brings a unit beside the ring. `kept`: copies in RAM of what has arrived. `say`: to people."""
        self._timeline = timeline
        self._alone = alone
        self._kept = kept
        self._say = say
        self._places: dict[int, Place] = {}

    @property
    def numbers(self) -> list[int]:
        """Of those that have a place of the ring."""
        return list(self._places)

    def enter(self, unit: Unit, place: Place | None) -> None:
        """Its module is about to run. `place`: where its bytes are, or will be; None where the ring has no room."""
        if place is None:
            views = self._alone(unit)
            unit.alone += views
        else:
            self._timeline.computing_waits(place.arrival())
            place.expected = False
            place.users += 1
            self._places[unit.number] = place
            views = place.views
        unit.users = 1
        for slot, view in zip(unit.slots, views, strict=True):
            slot.show(view)
        if place is None or place.made is None:
            unit.merge()
            if self._kept is not None and place is not None:
                self._keep(self._kept, unit)

    def again(self, unit: Unit) -> None:
        """It runs already, and is called once more: from inside, or from another thread."""
        unit.users += 1
        place = self._places.get(unit.number)
        if place is not None:
            self._timeline.computing_waits(place.arrival())

    def leave(self, unit: Unit) -> bool:
        """One call of its module is over; whether all are, and its parameters are at home again."""
        if not unit.users:
            return False
        if unit.users == 1:
            self.end(unit)
            return True
        unit.users -= 1
        place = self._places.get(unit.number)
        if place is not None:  # this call's own stream
            place.computed.append(self._timeline.computed())
        return False

    def end(self, unit: Unit) -> None:
        """Its parameters are at home, and its place is free once what was computed with it is over."""
        unit.users = 0
        unit.go_home()
        place = self._places.pop(unit.number, None)
        if place is not None:
            place.computed.append(self._timeline.computed())
            place.users -= 1

    def _keep(self, kept: Kept, unit: Unit) -> None:
        try:
            kept.keep(unit)
        except Exception as error:
            kept.forget([unit.number])
            self._say(
                f"{unit.name} is not kept in RAM as it is now ({error}); it comes from its file each time"
            )
