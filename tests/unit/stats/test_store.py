"""The database: what comes back, and what is forgotten."""

from __future__ import annotations

import math
import tempfile
from collections.abc import Iterator
from pathlib import Path

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from flux_speedup.stats.events import Event, Query
from flux_speedup.stats.store import Store

NAMES = [
    'it\'s "quoted"; DROP TABLE events;--',
    "two\nlines\r\n",
    "flux 🚀 模型",
    "\ud83d lone \udcff",
    "nul\0",
    "",
]


def numbered(number: int, kind: str = "move", at: float | None = None) -> Event:
    return Event(kind, f"model {number}", number, 0.5, "disk", "GPU", at=float(number) if at is None else at)


@pytest.fixture
def store(tmp_path: Path) -> Iterator[Store]:
    made = Store(tmp_path / "cache" / "stats.sqlite3", max_rows=50)
    yield made
    made.close()


def test_nothing_is_made_before_the_first_event(store: Store) -> None:
    assert store.events() == []
    store.add([])
    assert not store.path.parent.exists()


def test_events_come_back_newest_first_and_survive_a_restart(store: Store) -> None:
    store.add([numbered(1), numbered(3)])
    store.add([numbered(2)])
    store.close()
    again = Store(store.path)
    assert again.events() == [numbered(3), numbered(2), numbered(1)]
    again.close()


def test_filters_and_pages(store: Store) -> None:
    store.add([numbered(number, "move" if number % 2 else "unload") for number in range(10)])
    assert [e.bytes for e in store.events(Query(kind="move"))] == [9, 7, 5, 3, 1]
    assert [e.bytes for e in store.events(Query(since=7.0))] == [9, 8, 7]
    assert [e.bytes for e in store.events(Query(since=4.0, kind="unload", limit=2, offset=1))] == [6, 4]
    assert store.events(Query(offset=10)) == []
    assert store.events(Query(limit=0)) == []


def test_only_the_newest_rows_are_kept(store: Store) -> None:
    store.add([numbered(number) for number in range(120)])
    assert [e.bytes for e in store.events(Query(limit=1000))] == list(range(119, 69, -1))
    for number in range(120, 130):
        store.add([numbered(number)])
    assert [e.bytes for e in store.events(Query(limit=1000))] == list(range(129, 79, -1))


@pytest.mark.parametrize("name", NAMES)
def test_odd_names_come_back_unchanged(store: Store, name: str) -> None:
    event = Event(name, name, 1, 1.0, name, name, detail=name)
    store.add([event])
    assert store.events(Query(kind=name)) == [event]


def test_numbers_sqlite_cannot_hold(store: Store) -> None:
    store.add([Event("move", "x", 2**70, math.nan, "", "", at=math.inf)])
    [found] = store.events()
    assert found.bytes == 2**63 - 1
    assert math.isnan(found.seconds)
    assert found.at == math.inf


def anything() -> st.SearchStrategy[str]:
    return st.text(st.characters(), max_size=20)


@given(
    st.lists(
        st.builds(
            Event,
            kind=anything(),
            what=anything(),
            bytes=st.integers(-(2**62), 2**63 - 1),
            seconds=st.floats(allow_nan=False),
            source=anything(),
            target=anything(),
            at=st.floats(allow_nan=False),
            detail=anything(),
        ),
        max_size=8,
    )
)
@settings(max_examples=40, deadline=None)
def test_every_event_survives_the_round_trip(events: list[Event]) -> None:
    with tempfile.TemporaryDirectory() as folder:
        store = Store(Path(folder) / "stats.sqlite3")
        store.add(events)
        # Stable: among events of the same time the one stored last is the newest.
        assert store.events() == sorted(reversed(events), key=lambda event: -event.at)
        store.close()
