"""Read-ahead: every byte once, in order, in the background; paused, stopped, off, and never in the way."""

from __future__ import annotations

import os
import threading
from pathlib import Path

import pytest

from flux_speedup.weights.files import readahead
from flux_speedup.weights.files.readahead import Outcome, ReadAhead

SIZE = 100_000
PLENTY = 10**12


@pytest.fixture
def files(tmp_path: Path) -> list[Path]:
    made = []
    for name in ("one", "two"):
        path = tmp_path / name
        path.write_bytes(os.urandom(SIZE))
        made.append(path)
    return made


def done(reading: ReadAhead) -> list[tuple[str, bool, str]]:
    assert reading.wait(10)
    return [(outcome.path.name, outcome.complete, outcome.why) for outcome in reading.outcomes]


def test_every_byte_is_seen_once_and_in_order(files: list[Path]) -> None:
    seen: dict[Path, bytes] = {path: b"" for path in files}

    def look(path: Path, piece: memoryview) -> None:
        seen[path] += piece

    told: list[Outcome] = []
    reading = ReadAhead(files, look, ended=told.append, available=lambda: PLENTY, chunk=7_001)
    reading.start()
    assert done(reading) == [("one", True, ""), ("two", True, "")]
    assert seen == {path: path.read_bytes() for path in files}
    assert told == reading.outcomes
    assert [outcome.mtime_ns for outcome in told] == [path.stat().st_mtime_ns for path in files]


def test_with_too_little_ram_nothing_is_read_and_everybody_is_told(files: list[Path]) -> None:
    looked: list[Path] = []
    needed = round(readahead.HEADROOM * 2 * SIZE)
    for available, complete in ((needed - 1, False), (needed, True)):
        reading = ReadAhead(files, lambda p, _: looked.append(p), available=lambda free=available: free)
        reading.start()
        assert [ok for _, ok, _ in done(reading)] == [complete, complete]
        assert bool(looked) == complete


def test_what_is_not_needed_is_not_read_and_needs_no_ram(files: list[Path]) -> None:
    enough_for_one = round(readahead.HEADROOM * SIZE)
    reading = ReadAhead(files, needed=lambda path: path.name == "two", available=lambda: enough_for_one)
    reading.start()
    assert done(reading) == [("one", False, "not needed"), ("two", True, "")]


def test_nothing_is_read_while_paused(files: list[Path]) -> None:
    first, more = threading.Event(), threading.Event()

    def look(path: Path, piece: memoryview) -> None:
        (more if first.is_set() else first).set()

    reading = ReadAhead(files, look, available=lambda: PLENTY, chunk=10)
    with reading.paused(), reading.paused():
        reading.start()
        assert not first.wait(0.1)
    assert first.wait(10)
    assert more.wait(10)
    assert all(ok for _, ok, _ in done(reading))


def test_stopped_it_ends_and_tells_of_every_file(files: list[Path]) -> None:
    begun, go_on = threading.Event(), threading.Event()

    def look(path: Path, piece: memoryview) -> None:
        begun.set()
        go_on.wait(10)

    reading = ReadAhead(files, look, available=lambda: PLENTY, chunk=1000)
    reading.start()
    assert begun.wait(10)
    reading.stop(0)
    go_on.set()
    assert done(reading) == [("one", False, "stopped"), ("two", False, "stopped")]


def test_stopped_while_paused_it_ends(files: list[Path]) -> None:
    reading = ReadAhead(files, available=lambda: PLENTY)
    with reading.paused():
        reading.start()
        reading.stop(10)
        assert [why for _, _, why in done(reading)] == ["stopped", "stopped"]


def test_a_missing_file_and_a_failing_look_leave_the_others(files: list[Path], tmp_path: Path) -> None:
    def look(path: Path, piece: memoryview) -> None:
        if path.name == "one":
            raise RuntimeError("no")

    reading = ReadAhead([tmp_path / "gone", *files], look, available=lambda: PLENTY)
    reading.start()
    assert [ok for _, ok, _ in done(reading)] == [False, False, True]


def test_a_file_that_changes_meanwhile_is_not_complete(files: list[Path]) -> None:
    def look(path: Path, piece: memoryview) -> None:
        with path.open("ab") as file:
            file.write(b"more")
        os.utime(path, ns=(1, 1))
        stop.set()

    stop = threading.Event()
    reading = ReadAhead(
        files[:1], lambda p, b: None if stop.is_set() else look(p, b), available=lambda: PLENTY
    )
    reading.start()
    assert done(reading) == [("one", False, "the file changed meanwhile")]


def test_an_error_of_the_system_ends_it_quietly(files: list[Path]) -> None:
    def available() -> int:
        raise OSError("no such figure")

    reading = ReadAhead(files, available=available)
    reading.start()
    assert done(reading) == [("one", False, "no such figure"), ("two", False, "no such figure")]
