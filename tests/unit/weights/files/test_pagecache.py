"""The page cache is asked, not guessed."""

from __future__ import annotations

import os
import sys
from pathlib import Path

import pytest

from flux_speedup.weights.files import pagecache
from flux_speedup.weights.files.pagecache import forget, resident_fraction

linux = pytest.mark.skipif(sys.platform != "linux", reason="mincore is asked on Linux only")


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


def test_where_the_system_does_not_say_what_fits_into_ram_may_be_there(
    path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    for known, room, warm in (
        (0.5, 1 << 40, False),
        (1.0, 0, True),
        (None, 3_000_001, True),
        (None, 9, False),
    ):
        monkeypatch.setattr(pagecache, "resident_fraction", lambda _, known=known: known)
        monkeypatch.setattr(pagecache, "available", lambda room=room: room)
        assert pagecache.is_warm(path) is warm
    assert not pagecache.is_warm(path.with_name("missing"))


@linux
def test_the_unknown_is_none(tmp_path: Path) -> None:
    assert resident_fraction(tmp_path / "missing") is None
    (tmp_path / "empty").touch()
    assert resident_fraction(tmp_path / "empty") is None
