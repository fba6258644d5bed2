"""Statistics that were forgotten are in no file any more."""

from __future__ import annotations

import sqlite3
from pathlib import Path

import pytest

from flux_speedup.stats.events import Event
from flux_speedup.stats.store import Store, StoreError

NAME = "a-name-nobody-else-should-read"


def found(folder: Path) -> list[str]:
    """Files that hold the name."""
    return [each.name for each in folder.iterdir() if NAME.encode() in each.read_bytes()]


def filled(folder: Path) -> Store:
    store = Store(folder / "statistics.sqlite3")
    for n in range(300):
        store.add([Event("move", f"{NAME} {n}", n, 0.5, "file", "GPU", at=float(n))])
    return store


def test_no_byte_stays_in_file_journal_or_one_set_aside(tmp_path: Path) -> None:
    store = filled(tmp_path)
    (tmp_path / "statistics.sqlite3.corrupt").write_text(NAME)
    assert len(found(tmp_path)) >= 2
    store.clear()
    assert found(tmp_path) == []
    assert store.events() == []
    store.add([Event("move", "the next", 1, 0.5, "file", "GPU", at=1.0)])
    assert [each.what for each in store.events()] == ["the next"]
    store.close()


def test_a_reader_that_keeps_the_journal_is_said(tmp_path: Path) -> None:
    store = filled(tmp_path)
    other = sqlite3.connect(tmp_path / "statistics.sqlite3", isolation_level=None)
    other.execute("BEGIN")
    other.execute("SELECT * FROM events").fetchone()
    with pytest.raises(StoreError):
        store.clear()
    other.close()
    store.clear()
    assert found(tmp_path) == []
    store.close()
