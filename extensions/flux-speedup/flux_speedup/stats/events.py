"""One thing that happened (a load, a move, an unload, a stage of the start) and sums of such things."""

from __future__ import annotations

import math
import time
from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field

GB = 1e9
STARTUP = "startup"
UNLOAD = "unload"
BY_HOST = "by the WebUI itself"
"""How the detail of a move begins that is none of ours."""
KEPT = "kept"
"""Where a checkpoint comes from that was built before."""
WHOLE = "total"
"""The stage that is a whole start: all others are parts of it."""


def rate_gb_s(size: int, seconds: float) -> float | None:
    """GB/s (GB = 10^9 bytes) of `size` bytes in `seconds`; None where that is no positive number."""
    if not size > 0 or not seconds > 0:
        return None
    rate = size / seconds / GB
    return rate if math.isfinite(rate) and rate > 0 else None


@dataclass(frozen=True)
class Event:
    """One thing that happened.

    kind: "checkpoint" (built from files), "move" (to the device), "unload", "startup" (a stage of the start).
    what: the checkpoint, the component or the stage. bytes: 0 where it does not apply.
    source, target: "disk", "page cache", "RAM", "GPU" or "". at: seconds since the epoch when it ended.
    """

    kind: str
    what: str
    bytes: int
    seconds: float
    source: str
    target: str
    at: float = field(default_factory=time.time)
    detail: str = ""

    @property
    def ours(self) -> bool:
        """Whether a move was ours: what the WebUI moves by itself says so, or says nothing."""
        return bool(self.detail) and not self.detail.startswith(BY_HOST)

    @property
    def rate(self) -> float | None:
        """GB/s, or None where bytes or seconds is 0."""
        return rate_gb_s(self.bytes, self.seconds)


@dataclass(frozen=True)
class Query:
    """Which events, newest first; None: all. since: seconds since the epoch, inclusive.

    model: a part of `Event.what`, in whatever case.
    """

    kind: str | None = None
    since: float | None = None
    model: str | None = None
    limit: int = 100
    offset: int = 0

    def of(self, newest_first: Iterable[Event]) -> list[Event]:
        """Those of the events that are asked for."""
        found = [
            event
            for event in newest_first
            if (self.since is None or event.at >= self.since) and self.kind in (None, event.kind)
            if self.model is None or self.model.lower() in event.what.lower()
        ]
        return found[max(0, self.offset) :][: max(0, self.limit)]


NEWEST = Query()


@dataclass(frozen=True)
class KindTotal:
    """The sum over the events of one kind; bytes and seconds as in `Event`."""

    count: int = 0
    bytes: int = 0
    seconds: float = 0.0

    def plus(self, event: Event) -> KindTotal:
        """This sum with one more event in it. Of a start only the whole counts: its stages are in there."""
        if event.kind == STARTUP and event.what != WHOLE:
            return self
        return KindTotal(self.count + 1, self.bytes + event.bytes, self.seconds + event.seconds)

    @property
    def rate(self) -> float | None:
        """Mean GB/s over all of them, or None where bytes or seconds is 0."""
        return rate_gb_s(self.bytes, self.seconds)


@dataclass(frozen=True)
class Totals:
    """Sums by kind, kinds in the order in which they first happened.

    found: requests by where they found their checkpoint, as `Tally.found`.
    """

    by_kind: Mapping[str, KindTotal] = field(default_factory=dict)
    found: Mapping[str, int] = field(default_factory=dict)

    @classmethod
    def of(cls, events: Iterable[Event]) -> Totals:
        """The sums over `events`."""
        by_kind: dict[str, KindTotal] = {}
        for event in events:
            by_kind[event.kind] = by_kind.get(event.kind, KindTotal()).plus(event)
        return cls(by_kind)

    def kind(self, kind: str) -> KindTotal:
        """The sum of `kind`; all zeros where none happened."""
        return self.by_kind.get(kind, KindTotal())
