"""Events kept across starts, in one SQLite file that several WebUI processes may share."""

from __future__ import annotations

import contextlib
import logging
import sqlite3
import threading
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import TypeVar

from .database import damaged, identity, open_database, set_aside
from .events import Event

BUSY_S = 0.8
LOCK_S = 2 * BUSY_S
INT64_MAX = 2**63 - 1
FAILURES = (sqlite3.Error, OSError, ValueError, OverflowError, TypeError)

# Text goes in as bytes: SQLite's own binding refuses lone surrogates, which file names can carry.
INSERT = """
INSERT INTO events (at, kind, what, bytes, seconds, source, target, detail) VALUES
(?, CAST(? AS TEXT), CAST(? AS TEXT), ?, ?, CAST(? AS TEXT), CAST(? AS TEXT), CAST(? AS TEXT))
"""
TRIM = "DELETE FROM events WHERE id <= (SELECT id FROM events ORDER BY id DESC LIMIT 1 OFFSET ?)"
SELECT = """
SELECT at, kind, what, bytes, seconds, source, target, detail FROM events
WHERE (:since IS NULL OR at >= :since) AND (:kind IS NULL OR kind = CAST(:kind AS TEXT))
ORDER BY at DESC, id DESC LIMIT :limit OFFSET :offset
"""

Row = tuple[float, bytes, bytes, int, float, bytes, bytes, bytes]
Stored = tuple["float | None", str, str, int, "float | None", str, str, str]
T = TypeVar("T")


class StoreError(Exception):
    """The database could not be read or written; nothing was stored. The message names file and reason."""

    def __init__(self, path: Path, why: object) -> None:
        super().__init__(f"{path}: {why}")
        self.path = path


class Store:
    """The newest `max_rows` events of all processes that use `path`.

    Opens nothing before the first use. Any thread may call; calls wait for one another. A damaged file is
    renamed to *.corrupt and started anew, once in the life of a Store.
    """

    def __init__(self, path: Path, *, max_rows: int = 10_000, log: logging.Logger | None = None) -> None:
        self.path = path
        self._max_rows = max(1, max_rows)
        self._log = log or logging.getLogger("flux_speedup")
        self._lock = threading.Lock()
        self._connection: sqlite3.Connection | None = None
        self._identity: tuple[int, int] | None = None
        self._started_anew = False

    def add(self, events: Sequence[Event]) -> None:
        """Store all of `events` or none, and forget the oldest beyond max_rows. Raises StoreError only."""
        if not events:
            return

        def insert(connection: sqlite3.Connection) -> None:
            connection.execute("BEGIN IMMEDIATE")
            connection.executemany(INSERT, [_row(event) for event in events])
            connection.execute(TRIM, (self._max_rows,))
            connection.execute("COMMIT")

        self._use(insert)

    def query(
        self, *, since: float | None = None, kind: str | None = None, limit: int = 100, offset: int = 0
    ) -> list[Event]:
        """Stored events, newest first; since: seconds since the epoch, inclusive. Raises StoreError only."""

        def select(connection: sqlite3.Connection) -> list[Stored]:
            wanted = {
                "since": since,
                "kind": None if kind is None else _raw(kind),
                "limit": max(0, limit),
                "offset": max(0, offset),
            }
            return connection.execute(SELECT, wanted).fetchall()

        # Reading must not make the file: nothing was stored yet.
        if identity(self.path) is None:
            return []
        return [_event(row) for row in self._use(select)]

    def close(self) -> None:
        """Close the file, waiting at most LOCK_S seconds for other threads. A later call opens it again."""
        if self._lock.acquire(timeout=LOCK_S):
            try:
                self._drop()
            finally:
                self._lock.release()

    def _use(self, act: Callable[[sqlite3.Connection], T]) -> T:
        if not self._lock.acquire(timeout=LOCK_S):
            raise StoreError(self.path, "another thread is using it")
        try:
            return self._or_anew(act)
        except FAILURES as error:
            # Closing also rolls back what was begun.
            self._drop()
            raise StoreError(self.path, error) from error
        finally:
            self._lock.release()

    def _or_anew(self, act: Callable[[sqlite3.Connection], T]) -> T:
        try:
            return act(self._connected())
        except sqlite3.DatabaseError as error:
            if self._started_anew or not damaged(error):
                raise
        self._drop()
        self._started_anew = True
        try:
            # Another process may have started the file anew since this one opened it.
            return act(self._connected())
        except sqlite3.DatabaseError as error:
            if not damaged(error):
                raise
        self._drop()
        aside = set_aside(self.path)
        self._log.warning("statistics file %s was damaged: kept as %s, started anew", self.path, aside.name)
        return act(self._connected())

    def _connected(self) -> sqlite3.Connection:
        if self._connection is not None and identity(self.path) != self._identity:
            self._drop()
        if self._connection is None:
            self._connection = open_database(self.path, BUSY_S)
            self._identity = identity(self.path)
        return self._connection

    def _drop(self) -> None:
        connection, self._connection = self._connection, None
        if connection is not None:
            with contextlib.suppress(sqlite3.Error):
                connection.close()


def _raw(text: str) -> bytes:
    return str(text).encode("utf-8", "surrogatepass")


def _row(event: Event) -> Row:
    # int() and float(): SQLite refuses the numbers of numpy.
    return (
        float(event.at),
        _raw(event.kind),
        _raw(event.what),
        max(-INT64_MAX, min(int(event.bytes), INT64_MAX)),
        float(event.seconds),
        _raw(event.source),
        _raw(event.target),
        _raw(event.detail),
    )


def _event(row: Stored) -> Event:
    at, kind, what, size, seconds, source, target, detail = row
    return Event(kind, what, size, _number(seconds), source, target, _number(at), detail)


def _number(value: float | None) -> float:
    # SQLite keeps a NaN as NULL.
    return float("nan") if value is None else value
