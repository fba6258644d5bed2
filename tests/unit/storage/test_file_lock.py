"""A lock between processes: one holder at a time, and where a file system has no locks that is said, once."""

from __future__ import annotations

import contextlib
import errno
import os
from pathlib import Path

import pytest

from flux_speedup.storage.file_lock import is_locked, locked
from flux_speedup.storage.sidecar import Sidecar
from flux_speedup.weights.files.file_digests import FileDigests

fcntl = pytest.importorskip("fcntl")


def nobody_waits() -> None:
    raise BlockingIOError


def test_one_at_a_time_and_nothing_is_left(tmp_path: Path) -> None:
    lock = tmp_path / "lock"
    with locked(lock, nobody_waits):
        assert is_locked(lock)
        with pytest.raises(BlockingIOError), locked(lock, nobody_waits):
            pass
    assert not is_locked(lock)
    assert not lock.exists()


@pytest.fixture
def no_locks(monkeypatch: pytest.MonkeyPatch) -> None:
    """As Lustre without `flock`, and some network drives."""

    def flock(*_: object) -> None:
        raise OSError(errno.ENOSYS, os.strerror(errno.ENOSYS))

    monkeypatch.setattr(fcntl, "flock", flock)


@pytest.mark.usefixtures("no_locks")
def test_a_file_system_without_locks_is_named_and_no_file_stays_open(tmp_path: Path) -> None:
    lock, open_before = tmp_path / "lock", os.listdir("/proc/self/fd")  # noqa: PTH208
    for _ in range(3):
        with pytest.raises(OSError, match="has no locks"), locked(lock, nobody_waits):
            pass
    assert not is_locked(lock)
    assert os.listdir("/proc/self/fd") == open_before  # noqa: PTH208


@pytest.mark.usefixtures("no_locks")
def test_hashes_come_in_the_background_there_too(tmp_path: Path) -> None:
    with contextlib.suppress(OSError), locked(tmp_path / "hashing.lock", nobody_waits):
        pass  # a process that was to begin early has left its file
    file = tmp_path / "model.safetensors"
    file.write_bytes(b"weights")
    digests = FileDigests(Sidecar(None), early=tmp_path)
    digests.begin(file)
    digests.wait(file)
    assert digests.known(file) is not None
