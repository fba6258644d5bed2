"""Files that are broken, locked, or not ours."""

from __future__ import annotations

import logging
import sqlite3
from collections.abc import Iterator
from pathlib import Path

import pytest

from flux_speedup.stats.events import Event
from flux_speedup.stats.store import Store, StoreError


def numbered(number: int) -> Event:
    return Event("move", f"model {number}", number, 0.5, "disk", "GPU", at=float(number))


@pytest.fixture
def store(tmp_path: Path) -> Iterator[Store]:
    made = Store(tmp_path / "cache" / "stats.sqlite3")
    yield made
    made.close()


def test_a_corrupt_file_is_set_aside_once(store: Store, caplog: pytest.LogCaptureFixture) -> None:
    store.path.parent.mkdir()
    store.path.write_bytes(b"this is no database" * 1000)
    with caplog.at_level(logging.WARNING, "flux_speedup"):
        store.add([numbered(1)])
    assert store.events() == [numbered(1)]
    aside = store.path.with_name("stats.sqlite3.corrupt")
    assert aside.read_bytes().startswith(b"this is no database")
    assert len(caplog.records) == 1
    assert str(store.path) in caplog.text

    store.close()
    store.path.write_bytes(b"broken again" * 1000)
    with pytest.raises(StoreError, match="not a database"):
        store.add([numbered(2)])
    assert store.path.read_bytes().startswith(b"broken again")


def test_a_file_that_breaks_while_open_is_set_aside(store: Store) -> None:
    store.add([numbered(number) for number in range(50)])
    store.close()
    content = bytearray(store.path.read_bytes())
    content[200:] = b"\xa5" * (len(content) - 200)
    store.path.write_bytes(content)
    store.add([numbered(99)])
    assert store.events() == [numbered(99)]
    assert store.path.with_name("stats.sqlite3.corrupt").exists()


def test_a_corrupt_file_that_another_process_renewed_is_not_set_aside(tmp_path: Path) -> None:
    path = tmp_path / "stats.sqlite3"
    path.write_bytes(b"this is no database" * 1000)
    first, second = Store(path), Store(path)
    first.add([numbered(1)])
    second.add([numbered(2)])
    assert second.events() == [numbered(2), numbered(1)]
    first.close()
    second.close()


def test_a_left_over_journal_does_not_reach_the_new_file(store: Store) -> None:
    store.add([numbered(number) for number in range(50)])
    store.close()
    other = sqlite3.connect(store.path, isolation_level=None)
    other.execute("UPDATE events SET what = 'from the old journal' WHERE id > 40")
    journal = store.path.with_name("stats.sqlite3-wal")
    frames = journal.read_bytes()
    other.close()
    assert b"from the old journal" in frames
    store.path.write_bytes(b"this is no database" * 1000)
    journal.write_bytes(frames)
    store.add([numbered(99)])
    assert store.events() == [numbered(99)]
    store.close()
    assert store.events() == [numbered(99)]


def test_a_path_that_is_a_directory(tmp_path: Path) -> None:
    store = Store(tmp_path)
    with pytest.raises(StoreError) as caught:
        store.add([numbered(1)])
    assert str(tmp_path) in str(caught.value)
    with pytest.raises(StoreError):
        store.events()


def test_a_parent_that_is_a_file(tmp_path: Path) -> None:
    (tmp_path / "file").write_text("")
    store = Store(tmp_path / "file" / "stats.sqlite3")
    with pytest.raises(StoreError):
        store.add([numbered(1)])
    assert store.events() == []


def test_a_file_locked_by_another_connection(store: Store) -> None:
    store.add([numbered(1)])
    other = sqlite3.connect(store.path, isolation_level=None)
    other.execute("BEGIN EXCLUSIVE")
    with pytest.raises(StoreError, match="locked"):
        store.add([numbered(2)])
    other.execute("ROLLBACK")
    other.close()
    store.add([numbered(3)])
    assert store.events() == [numbered(3), numbered(1)]


def test_a_newer_table_is_left_alone(store: Store) -> None:
    store.add([numbered(1)])
    store.close()
    other = sqlite3.connect(store.path)
    other.execute("PRAGMA user_version = 99")
    other.close()
    with pytest.raises(StoreError, match="version 99"):
        store.add([numbered(2)])
    assert not store.path.with_name("stats.sqlite3.corrupt").exists()


def test_a_foreign_database_is_left_alone(tmp_path: Path) -> None:
    path = tmp_path / "stats.sqlite3"
    other = sqlite3.connect(path)
    other.execute("CREATE TABLE events (recipe TEXT)")
    other.commit()
    store = Store(path)
    with pytest.raises(StoreError):
        store.add([numbered(1)])
    store.close()
    assert other.execute("SELECT count(*) FROM events").fetchone() == (0,)
    other.close()
