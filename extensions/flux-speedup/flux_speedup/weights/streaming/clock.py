"""One round of a model, timed unit by unit on the device: computing, and waiting for weights."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

import torch
from torch.utils.hooks import RemovableHandle

from .hooks import watch
from .timeline import Timeline
from .unit import Unit


@dataclass(frozen=True)
class Timed:
    """One round. `seconds` by unit: computing from its start to the next one's, without `waited`."""

    order: tuple[int, ...]
    seconds: Mapping[int, float]
    whole: float
    waited: float


class Clock:
    """Times the second round from now on (the first one warms up); then no hook of it is left."""

    def __init__(self, units: Mapping[torch.nn.Module, Unit], timeline: Timeline) -> None:
        self._timeline = timeline
        self._handles: list[RemovableHandle] = []
        self._first: int | None = None
        self._rounds = 0
        self._before: list[Any] = []
        self._inside: list[Any] = []
        self._after: list[Any] = []
        self._order: list[int] = []
        self._done: Timed | None = None
        for module, unit in units.items():
            self._handles += watch(module, unit, self._enters, self._starts, self._ends)

    def result(self) -> Timed | None:
        """The round, once it is over and the device has computed it. Waits for nothing."""
        if self._done is None and self._rounds > 2 and self._after:
            self._done = self._read()
        return self._done

    def stop(self) -> None:
        """Take every hook off."""
        while self._handles:
            self._handles.pop().remove()

    def _enters(self, unit: Unit) -> None:
        if self._first is None:
            self._first = unit.number
        self._rounds += unit.number == self._first
        if self._rounds > 2:
            self.stop()
        elif self._rounds == 2:
            self._before.append(self._timeline.stamp())

    def _starts(self, unit: Unit) -> None:
        if self._rounds == 2 and len(self._inside) < len(self._before):
            self._inside.append(self._timeline.stamp())
            self._order.append(unit.number)

    def _ends(self, unit: Unit) -> None:
        if self._rounds == 2 and len(self._after) < len(self._inside):
            self._after.append(self._timeline.stamp())

    def _read(self) -> Timed | None:
        between, last = self._timeline.seconds, self._after[-1]
        whole = between(self._before[0], last)
        if whole is None or not len(self._before) == len(self._inside) == len(self._after):
            return None
        seconds = dict.fromkeys(self._order, 0.0)
        waited = 0.0
        for number, before, inside, following in zip(
            self._order, self._before, self._inside, [*self._before[1:], last], strict=True
        ):
            seconds[number] += between(inside, following) or 0.0
            waited += between(before, inside) or 0.0
        return Timed(tuple(dict.fromkeys(self._order)), seconds, whole, waited)
