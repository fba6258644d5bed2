"""How a unit's bytes come to its place: straight from memory that the device can read, or as the system copies."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Protocol

import torch

from .ring import Mark
from .timeline import Timeline


@dataclass(frozen=True, eq=False)
class Load:
    """What goes to one place: copies first (bytes), then what is cast of them or made, on the device."""

    copies: Sequence[tuple[torch.Tensor, torch.Tensor]]
    casts: Sequence[tuple[torch.Tensor, torch.Tensor]] = ()
    made: Sequence[Callable[[], object]] = ()


_NOTHING = Load(())
Arrival = Callable[[], Mark]
"""Answers with the mark after which the bytes are there, once that is queued. Raises what copying raised."""


class Supply(Protocol):
    """`name` is shown to people. `bring` sees to it that somebody queues, in the order of the calls, at `go` at the
    latest.
    """

    name: str

    def bring(self, load: Load, after: Sequence[Mark]) -> Arrival: ...

    def go(self) -> None:
        """All that was brought so far is on its way. Raises nothing that an arrival raises."""
        ...

    def rest(self) -> None:
        """All that was brought so far is queued after that."""
        ...

    def close(self) -> None:
        """Nothing is under way after that, and nothing is brought any more."""
        ...


class _Brought:
    """One load of `Straight`; once it is queued, its mark, or why there is none."""

    def __init__(self, load: Load, after: Sequence[Mark]) -> None:
        self.load, self.after = load, after
        self.mark: Mark = None
        self.error: BaseException | None = None


class Straight:
    """The copy stream reads the source by itself: pinned or registered memory (or waits, where it is neither).

    What is brought before somebody needs it, or `go`, is queued together: to change streams, wait and mark takes
    the processor longer than a small load.
    """

    def __init__(self, timeline: Timeline, name: str) -> None:
        self.name = name
        self._timeline = timeline
        self._waiting: list[_Brought] = []

    def bring(self, load: Load, after: Sequence[Mark]) -> Arrival:
        one = _Brought(load, after)
        self._waiting.append(one)

        def arrival() -> Mark:
            if self._waiting:
                self.go()
            if one.error is not None:
                raise one.error
            return one.mark

        return arrival

    def go(self) -> None:
        if self._waiting:
            together, self._waiting = self._waiting, []
            self._queue(together)

    def rest(self) -> None:
        self.go()

    def close(self) -> None:
        self.go()
        self._timeline.drain()

    def _queue(self, together: Sequence[_Brought]) -> None:
        timeline = self._timeline
        try:
            # Marks of one point in the computing are the same.
            after = {id(mark): mark for one in together for mark in one.after}
            with torch.inference_mode(), timeline.copying(tuple(after.values())):
                for one in together:
                    for target, source in one.load.copies:
                        target.copy_(source, non_blocking=True)
            mark = finish([one.load for one in together], timeline)
        except BaseException as error:
            timeline.drain()  # the loads' memory is let go now
            for one in together:
                one.error = error.with_traceback(None)
            if not isinstance(error, Exception):
                raise
            for one in together if len(together) > 1 else ():  # those that can be brought are
                self._queue([one])
        else:
            for one in together:
                one.mark, one.error = mark, None
                one.load, one.after = _NOTHING, ()  # whoever keeps the arrival keeps no memory by that


def finish(loads: Sequence[Load], timeline: Timeline) -> Mark:
    """Queue what follows the copies, which are queued; the mark after which all of it is over."""
    if not any(load.casts or load.made for load in loads):
        return timeline.copied()
    with torch.inference_mode(), timeline.making():
        for load in loads:
            for target, source in load.casts:
                target.copy_(source)
            for make in load.made:
                make()
    return timeline.made()
