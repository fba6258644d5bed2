"""Events and requests kept across starts, in one SQLite file that several WebUI processes may share."""

from __future__ import annotations

import contextlib
import logging
import sqlite3
import threading
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import TypeVar

from . import rows
from .database import aside, damaged, identity, open_database, set_aside
from .events import NEWEST, Event, Query
from .requests import Request

BUSY_S = 0.8
LOCK_S = 2 * BUSY_S
FAILURES = (sqlite3.Error, OSError, ValueError, OverflowError, TypeError)

T = TypeVar("T")


class StoreError(Exception):
    """The database could not be read or written; nothing was stored. The message names file and reason."""

    def __init__(self, path: Path, why: object) -> None:
        super().__init__(f"{path}: {why}")
        self.path = path


class Store:
    """The newest `max_rows` events, and as many requests, of all processes that use `path`.

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

    def add(self, kept: Sequence[Event | Request]) -> None:
        """Store all of `kept` or none, and forget the oldest beyond max_rows. Raises StoreError only."""
        if not kept:
            return

        def insert(connection: sqlite3.Connection) -> None:
            events = [rows.row_of(each) for each in kept if isinstance(each, Event)]
            requests = [rows.request_row(each) for each in kept if isinstance(each, Request)]
            connection.execute("BEGIN IMMEDIATE")
            connection.executemany(rows.INSERT, events)
            connection.execute(rows.TRIM, (self._max_rows,))
            connection.executemany(rows.INSERT_REQUEST, requests)
            connection.execute(rows.TRIM_REQUESTS, (self._max_rows,))
            connection.execute("COMMIT")

        self._use(insert)

    def events(self, asked: Query = NEWEST) -> list[Event]:
        """Stored events. Raises StoreError only."""

        def select(connection: sqlite3.Connection) -> list[rows.Stored]:
            wanted = {
                "since": asked.since,
                "kind": None if asked.kind is None else rows.raw(asked.kind),
                "model": None if asked.model is None else rows.raw(asked.model),
                "limit": max(0, asked.limit),
                "offset": max(0, asked.offset),
            }
            return connection.execute(rows.SELECT, wanted).fetchall()

        # Reading must not make the file: nothing was stored yet.
        if identity(self.path) is None:
            return []
        return [rows.event_of(row) for row in self._use(select)]

    def requests(self, limit: int) -> list[Request]:
        """Stored requests, the one that began last first. Raises StoreError only."""

        def select(connection: sqlite3.Connection) -> list[rows.StoredRequest]:
            return connection.execute(rows.SELECT_REQUESTS, (max(0, limit),)).fetchall()

        if identity(self.path) is None:
            return []
        return [rows.request_of(row) for row in self._use(select)]

    def clear(self) -> None:
        """Forget everything: no byte of it stays in the file, its journal, or one set aside as damaged.

        Raises StoreError only, also where another process keeps the journal from being emptied.
        """

        def delete(connection: sqlite3.Connection) -> None:
            connection.execute("PRAGMA secure_delete = ON")
            connection.execute("BEGIN IMMEDIATE")
            connection.execute("DELETE FROM events")
            connection.execute("DELETE FROM requests")
            connection.execute("COMMIT")
            connection.execute("VACUUM")
            (busy, _, _) = connection.execute("PRAGMA wal_checkpoint(TRUNCATE)").fetchone()
            if busy:
                raise sqlite3.OperationalError("another process is reading it; its journal is not empty yet")
            aside(self.path).unlink(missing_ok=True)

        if identity(self.path) is not None:
            self._use(delete)

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
        kept = set_aside(self.path)
        self._log.warning("statistics file %s was damaged: kept as %s, started anew", self.path, kept.name)
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
