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


Arrival = Callable[[], Mark]
"""Answers with the mark after which the bytes are there, once that is queued. Raises what copying raised."""


class Supply(Protocol):
    """`name` is shown to people. `bring` queues, or sees to it that somebody queues, in the order of the calls."""

    name: str

    def bring(self, load: Load, after: Sequence[Mark]) -> Arrival: ...

    def rest(self) -> None:
        """All that was brought so far is queued after that."""
        ...

    def close(self) -> None:
        """Nothing is under way after that, and nothing is brought any more."""
        ...


class Straight:
    """The copy stream reads the source by itself: pinned or registered memory (or waits, where it is neither)."""

    def __init__(self, timeline: Timeline, name: str) -> None:
        self.name = name
        self._timeline = timeline

    def bring(self, load: Load, after: Sequence[Mark]) -> Arrival:
        timeline = self._timeline
        try:
            with torch.inference_mode(), timeline.copying(after):
                for target, source in load.copies:
                    target.copy_(source, non_blocking=True)
            mark = finish(load, timeline)
        except BaseException:
            timeline.drain()  # the load's memory is let go now
            raise
        return lambda: mark

    def rest(self) -> None:
        return

    def close(self) -> None:
        self._timeline.drain()


def finish(load: Load, timeline: Timeline) -> Mark:
    """Queue what follows the copies, which are queued; the mark after which all of it is over."""
    if not load.casts and not load.made:
        return timeline.copied()
    with torch.inference_mode(), timeline.making():
        for target, source in load.casts:
            target.copy_(source)
        for make in load.made:
            make()
    return timeline.made()
