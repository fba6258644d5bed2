"""Units whose modules are running: their parameters have the data on the device, and their places are taken."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import torch

from .kept import Kept
from .ring import Mark, Place
from .timeline import Timeline
from .unit import Unit


class InUse:
    """By unit. Not thread safe: its stream calls it under a lock. `over`: bytes that can be released."""

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
        # With the stream that computes with it, where that is known.
        self._places: dict[int, tuple[Place, Any]] = {}
        self._waited: tuple[Any, Mark] = None, None  # the last stream that waited, and for what
        self._over: list[Place] = []
        self._on: Any = None  # the stream that computed with all of these
        self.over = 0

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
            self._places[unit.number] = place, self._wait(place)
            place.expected = False
            place.users += 1
            views = place.views
        unit.users = 1
        unit.come(views)
        if place is None or place.made is None:
            unit.merge()
            if self._kept is not None and place is not None:
                self._keep(self._kept, unit)

    def again(self, unit: Unit) -> None:
        """It runs already, and is called once more: from inside, or from another thread."""
        unit.users += 1
        if unit.number in self._places:
            place, _ = self._places[unit.number]
            self._wait(place)
            self._places[unit.number] = place, None  # nobody knows whose call ends last

    def leave(self, unit: Unit) -> bool:
        """One call of its module is over; whether all are, and its parameters are at home again."""
        if not unit.users:
            return False
        if unit.users == 1:
            self.end(unit)
            return True
        unit.users -= 1
        if unit.number in self._places:  # this call's own stream
            place, _ = self._places[unit.number]
            place.computed.append(self._timeline.computed(self._timeline.computing()))
        return False

    def end(self, unit: Unit) -> None:
        """Its parameters are at home; its place is free once it is released."""
        unit.users = 0
        unit.go_home()
        if unit.number not in self._places:
            return
        place, stream = self._places.pop(unit.number)
        stream = self._timeline.computing() if stream is None else stream
        same = stream == self._on  # in PyTorch neither `==` nor `!=` holds between a stream and None
        if not same:
            self.release()
            self._on = stream
        self._over.append(place)
        self.over += place.end - place.start

    def release(self) -> None:
        """Places that nobody uses any more are free once what was computed with them is over: with one mark."""
        if self._over:
            mark = self._timeline.computed(self._on)
            for place in self._over:
                place.computed.append(mark)
                place.users -= 1
            self._over.clear()
            self.over = 0

    def let_go(self) -> None:
        """The ring is not used any more."""
        self._over.clear()
        self.over = 0

    def _wait(self, place: Place) -> Any:
        """Computing waits for its bytes, if it did not for what came with them; the stream that computes."""
        mark, stream = place.arrival(), self._timeline.computing()
        waiter, waited = self._waited
        waits = mark is waited and stream == waiter
        if not waits:
            self._timeline.computing_waits(stream, mark)
            self._waited = stream, mark
        return stream

    def _keep(self, kept: Kept, unit: Unit) -> None:
        try:
            kept.keep(unit)
        except Exception as error:
            kept.forget([unit.number])
            self._say(
                f"{unit.name} is not kept in RAM as it is now ({error}); it comes from its file each time"
            )
