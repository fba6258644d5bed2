"""The SQLite file itself: opened with the right settings and table, recognised as damaged, set aside."""

from __future__ import annotations

import contextlib
import sqlite3
import time
from pathlib import Path

VERSION = 2
POLL_S = 0.02

EVENTS = """
CREATE TABLE IF NOT EXISTS events (
    id INTEGER PRIMARY KEY,
    at REAL, kind TEXT, what TEXT, bytes INTEGER, seconds REAL, source TEXT, target TEXT, detail TEXT
)
"""
# `body`: parts and passes as JSON. Version 1 had events alone.
REQUESTS = """
CREATE TABLE IF NOT EXISTS requests (
    id INTEGER PRIMARY KEY, began REAL, number INTEGER, kind TEXT, via TEXT,
    bytes INTEGER, images INTEGER, failed INTEGER, body TEXT
)
"""


def open_database(path: Path, busy_s: float) -> sqlite3.Connection:
    """A connection to `path`, folder and tables made where missing; usable from any one thread at a time.

    Waits at most about twice `busy_s` seconds for other processes. Raises sqlite3.Error or OSError.
    """
    path.parent.mkdir(parents=True, exist_ok=True)
    connection = sqlite3.connect(path, timeout=busy_s, isolation_level=None, check_same_thread=False)
    try:
        connection.text_factory = _text
        _use_wal(connection, time.monotonic() + busy_s)
        connection.execute("PRAGMA synchronous = NORMAL")
        _make_tables(connection)
    except BaseException:
        connection.close()
        raise
    return connection


def _text(raw: bytes) -> str:
    # File names that are not Unicode carry lone surrogates.
    return raw.decode("utf-8", "surrogatepass")


def _use_wal(connection: sqlite3.Connection, deadline: float) -> None:
    """Turn write-ahead logging on. A file system that cannot do it keeps its mode, which also works."""
    while True:
        try:
            connection.execute("PRAGMA journal_mode = WAL").fetchone()
        except sqlite3.OperationalError as error:
            # SQLite does not wait by itself when two processes turn it on at once.
            if "locked" not in str(error) or time.monotonic() > deadline:
                raise
            time.sleep(POLL_S)
        else:
            return


def _make_tables(connection: sqlite3.Connection) -> None:
    found = connection.execute("PRAGMA user_version").fetchone()[0]
    if found == VERSION:
        return
    if found > VERSION:
        message = f"it has version {found}, this extension knows {VERSION}"
        raise sqlite3.NotSupportedError(message)
    connection.execute("BEGIN IMMEDIATE")
    connection.execute(EVENTS)
    connection.execute(REQUESTS)
    connection.execute(f"PRAGMA user_version = {VERSION}")
    connection.execute("COMMIT")


def damaged(error: sqlite3.Error) -> bool:
    """Whether `error` says that the file is no database or a broken one (by text: 3.10 has no codes)."""
    return "malformed" in str(error) or "not a database" in str(error)


def identity(path: Path) -> tuple[int, int] | None:
    """Device and inode of the file at `path`, None where there is none.

    A file that was removed or replaced stays open, and would be written in vain.
    """
    with contextlib.suppress(OSError):
        found = path.stat()
        return found.st_dev, found.st_ino
    return None


def set_aside(path: Path) -> Path:
    """Rename a damaged database to *.corrupt (over an older one) and answer the new name. Raises OSError.

    Its journal is left: SQLite throws a journal away whose database is empty, as the next one is at first.
    """
    kept = aside(path)
    path.replace(kept)
    return kept


def aside(path: Path) -> Path:
    """Where a damaged database of this name is kept."""
    return path.with_name(path.name + ".corrupt")
