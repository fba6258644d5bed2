"""Read-ahead fills the page cache, yields to loads, does no harm; the page cache is asked, not guessed."""

from __future__ import annotations

import hashlib
import os
import sys
import threading
from pathlib import Path

import pytest

from flux_speedup.weights.files.pagecache import forget, resident_fraction
from flux_speedup.weights.files.readahead import ReadAhead

linux = pytest.mark.skipif(sys.platform != "linux", reason="mincore is asked on Linux only")
GB = 1 << 30


@pytest.fixture
def path(tmp_path: Path) -> Path:
    path = tmp_path / "weights.bin"
    with path.open("wb") as file:
        file.write(os.urandom(3_000_001))
        file.flush()
        os.fsync(file.fileno())
    return path


@linux
def test_what_was_read_is_resident_and_asking_reads_nothing(path: Path) -> None:
    forget(path)
    before = resident_fraction(path)
    assert before is not None
    if before > 0.5:
        pytest.skip("this file system keeps its pages")
    assert resident_fraction(path) == before
    path.read_bytes()
    assert resident_fraction(path) == 1.0


@linux
def test_the_unknown_is_none(tmp_path: Path) -> None:
    assert resident_fraction(tmp_path / "missing") is None
    (tmp_path / "empty").touch()
    assert resident_fraction(tmp_path / "empty") is None


def test_reads_everything_and_lets_a_hash_come_along(path: Path) -> None:
    digest = hashlib.sha256()
    ahead = ReadAhead([path], look=lambda _, piece: digest.update(piece), available=lambda: GB, chunk=1 << 16)
    ahead.start()
    assert ahead.wait(30)
    (outcome,) = ahead.outcomes
    assert (outcome.path, outcome.bytes, outcome.complete) == (path, 3_000_001, True)
    assert digest.digest() == hashlib.sha256(path.read_bytes()).digest()


def test_nothing_is_read_where_ram_is_short(path: Path) -> None:
    ahead = ReadAhead([path, path], available=lambda: 3_000_001)
    ahead.start()
    assert ahead.wait(30)
    assert [(o.bytes, o.complete) for o in ahead.outcomes] == [(0, False)]
    assert "RAM" in ahead.outcomes[0].why


def test_a_file_that_cannot_be_read_does_not_stop_the_next(path: Path, tmp_path: Path) -> None:
    ahead = ReadAhead([tmp_path / "missing", tmp_path, path], available=lambda: GB)
    ahead.start()
    assert ahead.wait(30)
    assert [o.complete for o in ahead.outcomes] == [False, False, True]


def test_pausing_holds_it_until_the_last_pause_ends(path: Path) -> None:
    pieces: list[int] = []
    first = threading.Event()

    def look(_: Path, piece: memoryview) -> None:
        pieces.append(len(piece))
        first.set()

    ahead = ReadAhead([path], look=look, available=lambda: GB, chunk=1 << 16)
    with ahead.paused():
        with ahead.paused():
            ahead.start()
        assert not ahead.wait(0.2)
        assert pieces == []
    assert ahead.wait(30)
    assert sum(pieces) == 3_000_001


def test_stopping_ends_it_early(path: Path) -> None:
    reached, going_on = threading.Event(), threading.Event()

    def look(_: Path, piece: memoryview) -> None:
        reached.set()
        going_on.wait(30)

    ahead = ReadAhead([path], look=look, available=lambda: GB, chunk=1 << 16)
    ahead.start()
    assert reached.wait(30)
    ahead.stop(0)
    going_on.set()
    assert ahead.wait(30)
    (outcome,) = ahead.outcomes
    assert (outcome.complete, outcome.why) == (False, "stopped")
    assert outcome.bytes < 3_000_001


def test_a_file_that_changes_meanwhile_is_not_complete(path: Path) -> None:
    def look(_: Path, piece: memoryview) -> None:
        stat = path.stat()
        os.utime(path, ns=(stat.st_atime_ns, stat.st_mtime_ns + 1_000_000))

    ahead = ReadAhead([path], look=look, available=lambda: GB)
    ahead.start()
    assert ahead.wait(30)
    assert ahead.outcomes[0].why == "the file changed meanwhile"
