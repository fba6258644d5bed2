"""Takes events and requests, at once, and logs and stores them from a background thread."""

from __future__ import annotations

import logging
import threading
import time
from collections import deque
from dataclasses import replace

from .events import NEWEST, STARTUP, Event, KindTotal, Query, Totals
from .report import printable, request_sentence, sentence
from .requests import Request
from .store import Store

BATCH_S = 0.25
RETRY_S = 30.0
CLOSE_S = 3.0
READ_S = 0.5
BACKLOG = 10_000
LOG = logging.getLogger("flux_speedup")


class Recorder:
    """The events and requests of this process, and their way into the store. Thread safe.

    `record` never raises and waits for no file and no console: the log line and the database are the business
    of one daemon thread, started by the first event. Events that cannot be stored stay here (the newest
    BACKLOG of them) and are tried again every RETRY_S seconds; the log says so once.
    """

    def __init__(self, store: Store | None, *, keep: int = 1000, log: logging.Logger = LOG) -> None:
        self._store = store
        self._log = log
        self._state = threading.Condition(threading.Lock())
        self._recent: deque[Event] = deque(maxlen=keep)
        self._requests: deque[Request] = deque(maxlen=keep)
        self._totals: dict[str, KindTotal] = {}
        self._fresh: deque[Event | Request] = deque(maxlen=BACKLOG)
        self._flushes = 0
        self._served = 0
        self._closed = False
        self._thread: threading.Thread | None = None
        # These belong to the background thread.
        self._backlog: deque[Event | Request] = deque(maxlen=BACKLOG)
        self._failing = False
        self._complained = False

    def record(self, what: Event | Request) -> None:
        """Keep an event, or a request that has ended. After `close` it is kept in memory only."""
        try:
            with self._state:
                if isinstance(what, Request):
                    self._requests.append(what)
                else:
                    self._totals[what.kind] = self._totals.get(what.kind, KindTotal()).plus(what)
                    self._recent.append(what)
                if not self._closed:
                    self._fresh.append(what)
                    self._start()
                    self._state.notify_all()
        except Exception:
            self._log.debug("an event could not be recorded", exc_info=True)

    def recent(self, limit: int = 100) -> list[Event]:
        """The last events of this process, newest first."""
        with self._state:
            kept = list(self._recent)
        return kept[::-1][: max(0, limit)]

    def totals(self) -> Totals:
        """Sums over all events of this process, those no longer in `recent` too."""
        with self._state:
            return Totals(dict(self._totals))

    def events(self, asked: Query = NEWEST) -> list[Event]:
        """Earlier starts included; from memory where the store cannot be used. Never raises."""
        if (store := self._readable()) is not None:
            try:
                return store.events(asked)
            except Exception as error:
                self._complain(error)
        return asked.of(self.recent(self._recent.maxlen or 0))

    def requests(self, limit: int = 20) -> list[Request]:
        """Ended requests, as `events`."""
        with self._state:
            own = list(self._requests)[::-1]
        if (store := self._readable()) is not None:
            try:
                here = {each.key for each in own}
                return [replace(each, here=each.key in here) for each in store.requests(limit)]
            except Exception as error:
                self._complain(error)
        return own[: max(0, limit)]

    def newest_here(self) -> Request | None:
        """The request of this process that ended last."""
        with self._state:
            return self._requests[-1] if self._requests else None

    def forget(self) -> None:
        """Delete everything, in memory and in the store. Raises StoreError: then the store is as it was."""
        self.flush()
        if self._store is not None:
            self._store.clear()
        with self._state:
            self._recent.clear()
            self._requests.clear()
            self._totals.clear()

    def flush(self, timeout: float = 2.0) -> None:
        """Wait until all events so far were logged and tried to be stored, at most `timeout` seconds."""
        with self._state:
            if self._thread is None or not self._thread.is_alive():
                return
            self._flushes += 1
            ticket = self._flushes
            self._state.notify_all()
            self._state.wait_for(lambda: self._served >= ticket, timeout)

    def close(self) -> None:
        """Store what is left and close the store, in a few seconds at most. May be called again."""
        with self._state:
            self._closed = True
            thread = self._thread
            self._state.notify_all()
        if thread is not None:
            thread.join(CLOSE_S)
        if self._store is not None:
            self._store.close()

    def _start(self) -> None:
        if self._thread is None or not self._thread.is_alive():
            self._thread = threading.Thread(target=self._run, name="flux-speedup statistics", daemon=True)
            self._thread.start()

    def _run(self) -> None:
        due: float | None = None
        while True:
            with self._state:
                left = None if due is None else max(0.0, due - time.monotonic())
                self._state.wait_for(self._called, left)
                fresh = list(self._fresh)
                self._fresh.clear()
                ticket, closing = self._flushes, self._closed
                now = closing or ticket > self._served
            for each in fresh:
                self._announce(each)
            self._backlog.extend(fresh)
            due = self._write_if_due(due, now)
            with self._state:
                self._served = ticket
                self._state.notify_all()
            if closing:
                return

    def _readable(self) -> Store | None:
        """The store, with everything so far in it, if it can be used."""
        if self._store is not None and not self._failing:
            self.flush(READ_S)
        return self._store if not self._failing else None

    def _called(self) -> bool:
        return bool(self._fresh) or self._closed or self._flushes > self._served

    def _announce(self, what: Event | Request) -> None:
        if not self._log.isEnabledFor(logging.INFO):
            return
        try:
            if isinstance(what, Request):
                self._log.info("%s", request_sentence(what))
            elif what.kind != STARTUP:
                self._log.info("%s", sentence(what))
        except Exception:
            self._log.debug("an event could not be put into words", exc_info=True)

    def _write_if_due(self, due: float | None, now: bool) -> float | None:
        """Write the backlog when its time has come; answers when that is next, None where nothing is left."""
        if not self._backlog or self._store is None:
            self._backlog.clear()
            return None
        if not now and due is None:
            return time.monotonic() + BATCH_S
        if not now and due is not None and time.monotonic() < due:
            return due
        try:
            self._store.add(list(self._backlog))
        except Exception as error:
            self._complain(error)
            self._failing = True
            return time.monotonic() + RETRY_S
        self._failing = False
        self._backlog.clear()
        return None

    def _complain(self, error: Exception) -> None:
        if self._complained:
            return
        self._complained = True
        self._log.warning(
            "statistics cannot be stored (%s); keeping them in memory, trying again later",
            printable(str(error)),
        )
