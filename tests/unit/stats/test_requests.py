"""Requests in the database, beside the events, and one that had events alone."""

from __future__ import annotations

import logging
import sqlite3
from collections.abc import Iterator
from pathlib import Path

import pytest

from flux_speedup.stats.events import Event, Query
from flux_speedup.stats.recorder import Recorder
from flux_speedup.stats.report import request_sentence
from flux_speedup.stats.requests import Pass, Request, Steps
from flux_speedup.stats.store import Store, StoreError

EVENT = Event("move", "transformer", 24, 0.5, "page cache", "GPU", at=5.0)


def request(number: int = 1, *, failed: bool = False) -> Request:
    parts = {"load": 0.25, "sampling": 2.0, "other": 0.5}
    steps = Steps(8, 0.252, 0.021, 13_600_000_000)
    passes = (
        Pass("txt2img", 2.25, {"load": 0.25, "sampling": 2.0}, steps),
        Pass("hires 🚀", 0.25, {"other": 0.25}),
    )
    return Request(number, "txt2img", "API", float(number), 2.75, parts, passes, 24, 1, False, failed)


@pytest.fixture
def store(tmp_path: Path) -> Iterator[Store]:
    made = Store(tmp_path / "stats.sqlite3", max_rows=3)
    yield made
    made.close()


def test_requests_come_back_as_they_were_newest_first_and_survive_a_restart(store: Store) -> None:
    store.add([request(1), EVENT, request(2, failed=True)])
    store.close()
    again = Store(store.path)
    assert again.requests(10) == [request(2, failed=True), request(1)]
    assert again.requests(1) == [request(2, failed=True)]
    assert again.events() == [EVENT]
    again.close()


def test_only_the_newest_are_kept(store: Store) -> None:
    for number in range(1, 6):
        store.add([request(number)])
    assert [each.number for each in store.requests(10)] == [5, 4, 3]


def test_a_file_of_the_first_version_loses_nothing(store: Store) -> None:
    old = sqlite3.connect(store.path)
    old.executescript(
        """
        CREATE TABLE events (id INTEGER PRIMARY KEY, at REAL, kind TEXT, what TEXT, bytes INTEGER,
            seconds REAL, source TEXT, target TEXT, detail TEXT);
        INSERT INTO events (at, kind, what, bytes, seconds, source, target, detail)
            VALUES (5.0, 'move', 'transformer', 24, 0.5, 'page cache', 'GPU', '');
        PRAGMA user_version = 1;
        """
    )
    old.close()
    assert store.events() == [EVENT]
    assert store.requests(10) == []
    store.add([request()])
    assert store.requests(10) == [request()]
    assert store.events() == [EVENT]


@pytest.mark.parametrize(
    "body",
    [
        "",
        "[]",
        '{"parts": 3}',
        '{"parts": {"load": "x"}, "passes": [1]}',
        '{"passes": [{"steps": {"count": "x"}}]}',
        "[" * 9999,
    ],
)
def test_a_body_of_somebody_else_is_no_error(store: Store, body: str) -> None:
    store.add([request()])
    with sqlite3.connect(store.path) as other:
        other.execute("UPDATE requests SET body = ?", (body,))
    other.close()
    (found,) = store.requests(1)
    assert (found.number, found.seconds, dict(found.parts)) == (1, 0, {})


def test_models_are_found_by_a_part_of_their_name(store: Store) -> None:
    store.add([EVENT, Event("checkpoint", "Flux1-dev.safetensors", 1, 1.0, "", "", at=6.0)])
    assert [each.kind for each in store.events(Query(model="flux1"))] == ["checkpoint"]
    assert [each.kind for each in store.events(Query(model="FORMER"))] == ["move"]
    assert store.events(Query(model="%")) == []
    recorder = Recorder(None)
    recorder.record(EVENT)
    assert recorder.events(Query(model="FORMER")) == [EVENT]
    assert recorder.events(Query(model="vae")) == []
    recorder.close()


def test_everything_can_be_forgotten(store: Store, caplog: pytest.LogCaptureFixture) -> None:
    recorder = Recorder(store, log=logging.getLogger("flux_speedup.test"))
    recorder.record(EVENT)
    recorder.record(request())
    assert recorder.requests() == [request()]
    recorder.forget()
    assert (recorder.requests(), recorder.events(), recorder.recent()) == ([], [], [])
    assert recorder.totals().by_kind == {}
    recorder.record(request(7))
    assert [each.number for each in recorder.requests()] == [7]
    recorder.close()


def test_what_cannot_be_deleted_stays(store: Store) -> None:
    store.add([EVENT])
    with sqlite3.connect(store.path, isolation_level=None) as other:
        other.execute("BEGIN IMMEDIATE")
        with pytest.raises(StoreError):
            store.clear()
    other.close()
    assert store.events() == [EVENT]


def test_without_a_store_requests_are_in_memory() -> None:
    recorder = Recorder(None)
    for number in (1, 2):
        recorder.record(request(number))
    assert [each.number for each in recorder.requests(1)] == [2]
    recorder.close()


def test_a_request_is_one_line() -> None:
    assert request_sentence(request()) == (
        "txt2img: 2.75 s (load 0.25 s, sampling 2.00 s, other 0.50 s); "
        "8 x 0.252 s/it, 13.6 GB each at 54.0 GB/s, 0.02 s of it waited for weights"
    )
    assert "0.50 s), failed; 8 x" in request_sentence(request(failed=True))
