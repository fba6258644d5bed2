"""Read-ahead: every byte once, in the background; paused, stopped, off, and never in the way."""

from __future__ import annotations

import os
import threading
import time
from pathlib import Path

import pytest

from flux_speedup.weights.files import readahead
from flux_speedup.weights.files.readahead import Outcome, ReadAhead
from tests.waiting import PATIENCE_S

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
    assert reading.wait(PATIENCE_S)
    return [(outcome.path.name, outcome.complete, outcome.why) for outcome in reading.outcomes]


@pytest.fixture
def seen(monkeypatch: pytest.MonkeyPatch) -> list[bytes]:
    """Every piece that was read."""
    pieces: list[bytes] = []
    fill = ReadAhead._fill

    def noted(readinto, buffer: memoryview) -> int:
        count = fill(readinto, buffer)
        pieces.append(bytes(buffer[:count]))
        return count

    monkeypatch.setattr(ReadAhead, "_fill", staticmethod(noted))
    return pieces


@pytest.mark.parametrize("chunk", [7_001, 1_000, SIZE, SIZE + 1])
def test_every_byte_is_read_once_by_several_threads(files: list[Path], seen: list[bytes], chunk: int) -> None:
    told: list[Outcome] = []
    begun: list[Path] = []
    reading = ReadAhead(files, begins=begun.append, ended=told.append, available=lambda: PLENTY, chunk=chunk)
    reading.start()
    assert done(reading) == [("one", True, ""), ("two", True, "")]
    whole = [path.read_bytes() for path in files]
    expected = [data[at : at + chunk] for data in whole for at in range(0, SIZE, chunk)]
    assert sorted(piece for piece in seen if piece) == sorted(expected)
    assert told == reading.outcomes
    assert begun == files


def test_as_many_files_as_fit_into_the_ram_are_read_and_everybody_is_told(files: list[Path]) -> None:
    for available, complete in ((1.19, [False, False]), (1.21, [True, False]), (2.41, [True, True])):
        reading = ReadAhead(files, available=lambda share=available: int(share * SIZE))
        reading.start()
        assert [ok for _, ok, _ in done(reading)] == complete
        left_out = [why for _, ok, why in done(reading) if not ok]
        assert left_out == ["too little RAM available"] * (2 - sum(complete))


def test_what_is_not_needed_is_not_read_and_needs_no_ram(files: list[Path]) -> None:
    enough_for_one = round(readahead.HEADROOM * SIZE)
    reading = ReadAhead(files, needed=lambda path: path.name == "two", available=lambda: enough_for_one)
    reading.start()
    assert done(reading) == [("one", False, "not needed"), ("two", True, "")]


def test_nothing_is_read_while_a_load_runs(files: list[Path], seen: list[bytes]) -> None:
    reading = ReadAhead(files, available=lambda: PLENTY, chunk=1000)
    with reading.gate.loading(), reading.gate.loading():
        reading.start()
        time.sleep(0.1)
        assert seen == []
    assert all(ok for _, ok, _ in done(reading))


def test_stopped_it_ends_and_tells_of_every_file(files: list[Path]) -> None:
    begun, go_on = threading.Event(), threading.Event()

    def begins(path: Path) -> None:
        begun.set()
        assert go_on.wait(PATIENCE_S)

    reading = ReadAhead(files, begins=begins, available=lambda: PLENTY)
    reading.start()
    assert begun.wait(PATIENCE_S)
    reading.stop(0)
    go_on.set()
    assert done(reading) == [("one", False, "stopped"), ("two", False, "stopped")]


def test_stopped_while_a_load_runs_it_ends(files: list[Path]) -> None:
    reading = ReadAhead(files, available=lambda: PLENTY)
    with reading.gate.loading():
        reading.start()
        reading.stop(10)
        assert [why for _, _, why in done(reading)] == ["stopped", "stopped"]


def test_a_missing_file_leaves_the_others(files: list[Path], tmp_path: Path) -> None:
    reading = ReadAhead([tmp_path / "gone", tmp_path, *files], available=lambda: PLENTY)
    reading.start()
    assert [ok for _, ok, _ in done(reading)] == [False, False, True, True]


def test_a_file_that_shrinks_meanwhile_is_not_complete(files: list[Path]) -> None:
    reading = ReadAhead(files[:1], available=lambda: PLENTY)
    fill = reading._fill

    def shrinks(readinto, buffer: memoryview) -> int:
        count = fill(readinto, buffer)
        os.truncate(files[0], 10)
        return count

    reading._fill = shrinks  # type: ignore[method-assign]
    reading.start()
    assert done(reading) == [("one", False, "the file changed meanwhile")]


def test_an_error_of_the_system_ends_it_quietly(files: list[Path]) -> None:
    def available() -> int:
        raise OSError("no such figure")

    reading = ReadAhead(files, available=available)
    reading.start()
    assert done(reading) == [("one", False, "no such figure"), ("two", False, "no such figure")]


@pytest.mark.parametrize(("cores", "threads"), [(1, 2), (4, 4), (64, 8)])
def test_threads_are_those_that_may_run_at_once(
    cores: int, threads: int, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(readahead, "cores", lambda: cores)
    assert readahead._threads() == threads
