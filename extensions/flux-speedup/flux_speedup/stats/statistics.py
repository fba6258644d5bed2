"""The figures of this process: events and requests, kept across starts, and what was saved."""

from __future__ import annotations

import logging
import threading
from collections.abc import Callable
from pathlib import Path
from typing import TYPE_CHECKING

from .events import NEWEST, STARTUP, WHOLE, Event, Query, Totals
from .first_image import FirstImage
from .machine import Machine, Savings
from .requests import Request
from .savings import Tally, savings
from .tracking import LOADING, Tracking

if TYPE_CHECKING:
    from .recorder import Recorder

log = logging.getLogger("flux_speedup")


class Statistics:
    """Safe from any thread. `place`: the database's file (None: memory only) and how many rows it keeps.

    `read_ahead`: bytes of the selected model that were read ahead so far, and of all that had to be.
    """

    def __init__(
        self,
        place: Callable[[], tuple[Path | None, int]],
        read_ahead: Callable[[], tuple[int, int]] = lambda: (0, 0),
    ) -> None:
        self._place = place
        self._read_ahead = read_ahead
        self._ready: tuple[int, int] | None = None
        self._start: float | None = None
        self._first: FirstImage | None = None
        self._lock = threading.Lock()
        self._recorder: Recorder | None = None
        self._since_start = Tally()
        self._newest: Tally | None = None
        self._found: dict[str, int] = {}
        self.tracking = Tracking(self._ended, began=self._asked_for)

    def record(self, event: Event) -> None:
        """Something happened; where a request caused it, it counts there."""
        self.tracking.charge(event)
        with self._lock:
            self._since_start = self._since_start.plus(event)
            if event.kind == STARTUP and event.what == WHOLE:
                self._start = event.seconds
        self._made().record(event)

    def events(self, asked: Query = NEWEST) -> list[Event]:
        """As `Recorder.events`."""
        return self._made().events(asked)

    def totals(self) -> Totals:
        """Sums of this process."""
        by_kind = self._recorder.totals().by_kind if self._recorder is not None else {}
        with self._lock:
            return Totals(by_kind, dict(self._found))

    def requests(self, limit: int) -> list[Request]:
        """Those that run, then those that ended, the newest first."""
        running = [request for request, _ in self.tracking.running()]
        ended = self._made().requests(max(0, limit - len(running)))
        return [*running, *ended][: max(0, limit)]

    def newest_here(self) -> Request | None:
        """The newest request of this process, one that runs before one that ended."""
        running = self.tracking.running()
        if running:
            return running[0][0]
        return self._recorder.newest_here() if self._recorder is not None else None

    def savings(self, machine: Machine | None, nothing: str) -> Savings:
        """Of this process and of its newest request; see `savings.savings`."""
        running = self.tracking.running()
        with self._lock:
            newest = running[0][1] if running else self._newest
            return savings(self._since_start, newest, machine, nothing)

    def forget(self) -> None:
        """Delete everything that was recorded. Raises StoreError."""
        self._made().forget()
        with self._lock:
            self._since_start, self._newest, self._found = Tally(), None, {}

    def close(self) -> None:
        """From here on nothing is written."""
        self._made().close()

    def first_image(self) -> FirstImage | None:
        """What the first image of this process waited for, once it is made."""
        return self._first

    def _asked_for(self) -> None:
        if self._first is None:
            self._ready = self._read_ahead()

    def _ended(self, request: Request, tally: Tally) -> None:
        with self._lock:
            self._newest = tally
            if not request.failed:
                self._found[tally.found] = self._found.get(tally.found, 0) + 1
            told = self._first is None and request.images > 0 and self._ready is not None
            if told and self._ready is not None:
                models = sum(request.parts.get(part, 0.0) for part in LOADING)
                read, wanted = self._ready
                self._first = FirstImage(self._start, wanted, read, tally.cold, models)
        self._made().record(request)
        if told and self._first is not None:
            log.info("%s", self._first.sentence())

    def _made(self) -> Recorder:
        # Made when it is first needed: preload must not pay for SQLite.
        with self._lock:
            if self._recorder is None:
                from .recorder import Recorder
                from .store import Store

                file, rows = self._place()
                self._recorder = Recorder(Store(file, max_rows=rows) if file is not None else None)
            return self._recorder
