"""The recorder: what is kept, logged and stored, and that no store can stop the one who records."""

from __future__ import annotations

import logging
import threading
import time
from collections.abc import Callable, Iterator, Sequence
from pathlib import Path

import pytest

from flux_speedup.stats.events import Event, KindTotal, Query
from flux_speedup.stats.recorder import Recorder
from flux_speedup.stats.store import Store, StoreError
from tests.waiting import PATIENCE_S, eventually

LOG = "flux_speedup"
Make = Callable[..., Recorder]


def numbered(number: int, kind: str = "move") -> Event:
    return Event(kind, f"model {number}", number, 0.5, "disk", "GPU", at=float(number))


class FakeStore(Store):
    """Keeps what it is given in a list; fails while `broken` is set, waits while `gate` is closed."""

    def __init__(self) -> None:
        super().__init__(Path("nowhere") / "stats.sqlite3")
        self.batches: list[list[Event]] = []
        self.broken: Exception | None = None
        self.attempts = 0
        self.gate = threading.Event()
        self.gate.set()
        self.closed = 0

    def add(self, events: Sequence[Event]) -> None:
        self.attempts += 1
        self.gate.wait(PATIENCE_S)
        if self.broken is not None:
            raise self.broken
        self.batches.append(list(events))

    def query(
        self, *, since: float | None = None, kind: str | None = None, limit: int = 100, offset: int = 0
    ) -> list[Event]:
        if self.broken is not None:
            raise self.broken
        return [event for batch in self.batches for event in batch][::-1][offset : offset + limit]

    def close(self) -> None:
        self.closed += 1

    @property
    def stored(self) -> list[Event]:
        return [event for batch in self.batches for event in batch]


@pytest.fixture
def make() -> Iterator[Make]:
    made: list[Recorder] = []

    def build(store: Store | None, *, keep: int = 1000) -> Recorder:
        made.append(Recorder(store, keep=keep))
        return made[-1]

    yield build
    for recorder in made:
        recorder.close()


def warnings(caplog: pytest.LogCaptureFixture) -> list[str]:
    return [record.getMessage() for record in caplog.records if record.levelno >= logging.WARNING]


def test_recent_is_newest_first_and_bounded(make: Make) -> None:
    recorder = make(None, keep=5)
    for number in range(8):
        recorder.record(numbered(number))
    assert [event.bytes for event in recorder.recent()] == [7, 6, 5, 4, 3]
    assert [event.bytes for event in recorder.recent(2)] == [7, 6]
    assert recorder.recent(0) == []
    assert recorder.totals().kind("move") == KindTotal(8, 28, 4.0)


def test_many_threads_lose_nothing(make: Make) -> None:
    store = FakeStore()
    recorder = make(store, keep=10_000)
    start = threading.Barrier(8)

    def work(name: int) -> None:
        start.wait()
        for number in range(200):
            recorder.record(Event(f"kind {name}", str(number), 1, 0.5, "", ""))

    threads = [threading.Thread(target=work, args=(name,)) for name in range(8)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    recorder.flush(20)
    assert [recorder.totals().kind(f"kind {name}") for name in range(8)] == [KindTotal(200, 200, 100.0)] * 8
    assert store.stored == recorder.recent(10_000)[::-1]
    for name in range(8):
        in_order = [event.what for event in store.stored if event.kind == f"kind {name}"]
        assert in_order == [str(number) for number in range(200)]


def test_writes_are_batched_from_a_daemon_thread_that_starts_with_the_first_event(make: Make) -> None:
    def own() -> list[threading.Thread]:
        return [thread for thread in threading.enumerate() if thread.name == "flux-speedup statistics"]

    before = own()
    store = FakeStore()
    recorder = make(store)
    assert own() == before
    store.gate.clear()
    recorder.record(numbered(0))
    [thread] = [thread for thread in own() if thread not in before]
    assert thread.daemon
    recorder.flush(0.0)
    for number in range(1, 50):
        recorder.record(numbered(number))
    store.gate.set()
    recorder.flush(20)
    assert store.stored == [numbered(number) for number in range(50)]
    assert len(store.batches) <= 2


def test_events_reach_the_store_without_a_flush(make: Make) -> None:
    store = FakeStore()
    recorder = make(store)
    recorder.record(numbered(1))
    assert eventually(lambda: store.batches)
    assert store.stored == [numbered(1)]


def test_one_info_line_an_event_but_none_for_the_start(make: Make, caplog: pytest.LogCaptureFixture) -> None:
    recorder = make(None)
    with caplog.at_level(logging.INFO, LOG):
        recorder.record(Event("startup", "load scripts", 0, 1.0, "", ""))
        recorder.record(Event("move", "transformer", 23_800_000_000, 0.51, "page cache", "GPU"))
        recorder.flush(20)
    assert [(record.levelname, record.getMessage()) for record in caplog.records] == [
        ("INFO", "transformer: 23.8 GB in 0.51 s, 46.7 GB/s, page cache -> GPU")
    ]


def test_a_broken_store_is_one_log_line_and_is_tried_again(
    make: Make, caplog: pytest.LogCaptureFixture
) -> None:
    store = FakeStore()
    store.broken = StoreError(store.path, "disk full")
    recorder = make(store)
    with caplog.at_level(logging.WARNING, LOG):
        for number in range(3):
            recorder.record(numbered(number))
            recorder.flush(20)
        assert store.attempts == 3
        assert recorder.events(Query(limit=2)) == [numbered(2), numbered(1)]
        store.broken = None
        recorder.flush(20)
        assert store.stored == [numbered(0), numbered(1), numbered(2)]
        store.broken = StoreError(store.path, "disk full again")
        recorder.record(numbered(3))
        recorder.flush(20)
    [line] = warnings(caplog)
    assert "stats.sqlite3" in line
    assert "disk full" in line
    assert "in memory" in line


def test_an_unexpected_error_of_the_store_does_not_end_the_thread(make: Make) -> None:
    store = FakeStore()
    store.broken = MemoryError("a bug")
    recorder = make(store)
    recorder.record(numbered(1))
    recorder.flush(20)
    store.broken = None
    recorder.flush(20)
    assert store.stored == [numbered(1)]


def test_record_flush_and_close_do_not_wait_for_a_store_that_hangs(make: Make) -> None:
    store = FakeStore()
    store.gate.clear()
    recorder = make(store)
    start = time.monotonic()
    recorder.record(numbered(1))
    recorder.flush(0.2)
    recorder.record(numbered(2))
    assert recorder.recent() == [numbered(2), numbered(1)]
    recorder.close()
    assert time.monotonic() - start < PATIENCE_S / 2
    store.gate.set()


def test_a_malformed_event_raises_nothing_and_stops_nothing(make: Make) -> None:
    store = FakeStore()
    recorder = make(store)
    recorder.record(Event("move", "x", "many", 1.0, "", ""))  # type: ignore[arg-type]
    recorder.record(Event("move", None, 1, 1.0, "", ""))  # type: ignore[arg-type]
    recorder.record(numbered(1))
    recorder.flush(20)
    assert store.stored[-1] == numbered(1)
    assert recorder.totals().kind("move").count == 2


def test_close_stores_what_is_left_and_later_events_stay_in_memory(make: Make) -> None:
    store = FakeStore()
    recorder = make(store)
    recorder.record(numbered(1))
    recorder.close()
    assert store.stored == [numbered(1)]
    recorder.record(numbered(2))
    recorder.flush(20)
    recorder.close()
    assert store.stored == [numbered(1)]
    assert recorder.recent() == [numbered(2), numbered(1)]
    assert store.closed == 2


def test_events_join_earlier_starts_and_this_one(make: Make, tmp_path: Path) -> None:
    path = tmp_path / "stats.sqlite3"
    earlier = make(Store(path))
    earlier.record(numbered(1))
    earlier.close()
    recorder = make(Store(path))
    recorder.record(numbered(2, "unload"))
    assert recorder.events() == [numbered(2, "unload"), numbered(1)]
    assert recorder.events(Query(kind="move")) == [numbered(1)]
    assert recorder.totals().kind("move").count == 0


def test_events_in_memory_are_filtered_and_paged_too(make: Make) -> None:
    recorder = make(None)
    for number in range(10):
        recorder.record(numbered(number, "move" if number % 2 else "unload"))
    assert [e.bytes for e in recorder.events(Query(kind="move", since=3.0, limit=2, offset=1))] == [7, 5]
