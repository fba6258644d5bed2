"""Places where no database can be kept: one log line, and the recorder goes on in memory."""

from __future__ import annotations

import logging
import os
import shutil
import sqlite3
import sys
import tempfile
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path

import pytest

from flux_speedup.stats.events import Event, Query
from flux_speedup.stats.recorder import Recorder
from flux_speedup.stats.store import Store, StoreError

LOG = "flux_speedup"
NOBODY = 65534
Make = Callable[[Store], Recorder]


def numbered(number: int) -> Event:
    return Event("move", f"model {number}", number, 0.5, "disk", "GPU", at=float(number))


@pytest.fixture
def make() -> Iterator[Make]:
    made: list[Recorder] = []

    def build(store: Store) -> Recorder:
        made.append(Recorder(store))
        return made[-1]

    yield build
    for recorder in made:
        recorder.close()


def warnings(caplog: pytest.LogCaptureFixture) -> list[str]:
    return [record.getMessage() for record in caplog.records if record.levelno >= logging.WARNING]


def _directory(path: Path) -> None:
    path.mkdir()


def _parent_is_a_file(path: Path) -> None:
    path.parent.rmdir()
    path.parent.write_text("")


def _newer(path: Path) -> None:
    other = sqlite3.connect(path)
    other.execute("PRAGMA user_version = 99")
    other.close()


def _corrupt(path: Path) -> None:
    path.write_bytes(b"this is no database" * 1000)


@pytest.mark.parametrize("spoil", [_directory, _parent_is_a_file, _newer, _corrupt])
def test_a_file_that_cannot_be_used_is_one_log_line(
    make: Make, tmp_path: Path, caplog: pytest.LogCaptureFixture, spoil: Callable[[Path], None]
) -> None:
    path = tmp_path / "cache" / "stats.sqlite3"
    path.parent.mkdir()
    spoil(path)
    recorder = make(Store(path))
    with caplog.at_level(logging.WARNING, LOG):
        for number in range(3):
            recorder.record(numbered(number))
            recorder.flush(20)
            assert recorder.events(Query(limit=1)) == [numbered(number)]
    [line] = warnings(caplog)
    assert str(path) in line


def test_a_locked_file_is_one_log_line_and_loses_nothing(
    make: Make, tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    path = tmp_path / "stats.sqlite3"
    recorder = make(Store(path))
    recorder.record(numbered(1))
    recorder.flush(20)
    other = sqlite3.connect(path, isolation_level=None)
    other.execute("BEGIN EXCLUSIVE")
    with caplog.at_level(logging.WARNING, LOG):
        recorder.record(numbered(2))
        recorder.flush(20)
        assert recorder.events() == [numbered(2), numbered(1)]
        recorder.flush(20)
    [line] = warnings(caplog)
    assert "locked" in line
    other.execute("ROLLBACK")
    other.close()
    recorder.flush(20)
    recorder.close()
    again = Store(path)
    assert again.events() == [numbered(2), numbered(1)]
    again.close()


@pytest.mark.skipif(sys.platform == "win32", reason="an open file cannot be removed on Windows")
def test_a_folder_removed_while_open_is_made_again(
    make: Make, tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    folder = tmp_path / "cache"
    recorder = make(Store(folder / "stats.sqlite3"))
    recorder.record(numbered(1))
    recorder.flush(20)
    shutil.rmtree(folder)
    recorder.record(numbered(2))
    recorder.flush(20)
    assert recorder.events() == [numbered(2)]
    shutil.rmtree(folder)
    folder.write_text("in the way")
    with caplog.at_level(logging.WARNING, LOG):
        recorder.record(numbered(3))
        recorder.flush(20)
        assert recorder.events() == [numbered(3), numbered(2), numbered(1)]
    assert len(warnings(caplog)) == 1


@contextmanager
def read_only_folder() -> Iterator[Path]:
    """A folder that this process may read but not write in; root becomes nobody for that time."""
    with tempfile.TemporaryDirectory() as made:
        folder = Path(made)
        folder.chmod(0o555)
        root = os.geteuid() == 0
        if root:
            os.seteuid(NOBODY)
        try:
            yield folder
        finally:
            if root:
                os.seteuid(0)
            folder.chmod(0o755)


@pytest.mark.skipif(sys.platform == "win32", reason="folders have no write permission on Windows")
def test_a_read_only_folder() -> None:
    with read_only_folder() as folder:
        store = Store(folder / "stats.sqlite3")
        with pytest.raises(StoreError) as caught:
            store.add([numbered(1)])
        assert str(store.path) in str(caught.value)
        assert store.events() == []
        inner = Store(folder / "cache" / "stats.sqlite3")
        with pytest.raises(StoreError):
            inner.add([numbered(1)])


@pytest.mark.skipif(sys.platform == "win32", reason="folders have no write permission on Windows")
def test_a_read_only_folder_is_one_log_line(make: Make, caplog: pytest.LogCaptureFixture) -> None:
    with read_only_folder() as folder, caplog.at_level(logging.WARNING, LOG):
        recorder = make(Store(folder / "stats.sqlite3"))
        for number in range(3):
            recorder.record(numbered(number))
            recorder.flush(20)
        assert recorder.events() == [numbered(2), numbered(1), numbered(0)]
        recorder.close()
    [line] = warnings(caplog)
    assert str(folder) in line
