"""A process that hashes before the WebUI can: one at a time, joined and never repeated, and nothing left of it."""

from __future__ import annotations

import contextlib
import hashlib
import os
import threading
from collections.abc import Iterator
from pathlib import Path

import pytest

from flux_speedup.storage.sidecar import Sidecar
from flux_speedup.weights.files import digest_pass, early_hashing
from flux_speedup.weights.files.digest_pass import pieces
from flux_speedup.weights.files.early_hashing import DIGESTS, Another, is_at_work, work
from flux_speedup.weights.files.file_digests import FileDigests
from tests.waiting import PATIENCE_S, eventually


@pytest.fixture
def weights(tmp_path: Path) -> Path:
    path = tmp_path / "weights.safetensors"
    path.write_bytes(os.urandom(50_000))
    return path.resolve()


class Process:
    """What another process does, on a thread: it reads one piece and waits. `wanted`: until it is told to end."""

    def __init__(self, path: Path, folder: Path) -> None:
        self.begun, self.go_on = threading.Event(), threading.Event()
        self.wanted = True
        self.digest: str | None = None
        self._path, self._folder = path, folder
        self._thread = threading.Thread(target=self._run)
        self._thread.start()
        assert self.begun.wait(PATIENCE_S)

    def end(self, *, wanted: bool = True) -> None:
        self.wanted = wanted
        self.go_on.set()
        self._thread.join(PATIENCE_S)

    def _run(self) -> None:
        with contextlib.suppress(OSError):  # the file changed
            self.digest = work(self._path, self._folder, lambda: self.wanted, self._read)

    def _read(self, path: Path) -> Iterator[memoryview]:
        for piece in pieces(path):
            yield piece
            self.begun.set()
            assert self.go_on.wait(PATIENCE_S)


def sha256(path: Path) -> str:
    return hashlib.sha256(path.read_bytes()).hexdigest()


def unread(_path: Path) -> Iterator[memoryview]:
    raise AssertionError("it is read a second time")
    yield memoryview(b"")


@pytest.fixture(autouse=True)
def looks_always(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(early_hashing, "_LOOK_S", -1.0)
    monkeypatch.setattr(digest_pass, "CHUNK", 10_000)


def test_whoever_needs_the_digest_joins_and_reads_nothing(weights: Path, tmp_path: Path) -> None:
    process = Process(weights, tmp_path)
    assert is_at_work(tmp_path, weights)
    assert not is_at_work(tmp_path, tmp_path / "other")
    digests = FileDigests(Sidecar(tmp_path / DIGESTS), read=unread, early=tmp_path)
    digests.begin(weights)
    assert digests.under_way(weights)
    threading.Timer(0.1, process.end).start()
    digests.wait(weights)
    assert digests.known(weights) == sha256(weights)
    assert not digests.under_way(weights)
    assert not is_at_work(tmp_path, weights)
    assert sorted(path.name for path in tmp_path.iterdir()) == [DIGESTS, weights.name]


def test_one_that_nobody_waits_for_comes_by_itself(weights: Path, tmp_path: Path) -> None:
    process = Process(weights, tmp_path)
    digests = FileDigests(Sidecar(tmp_path / DIGESTS), read=unread, early=tmp_path)
    digests.begin(weights)
    process.end()
    assert eventually(lambda: not digests.under_way(weights))
    assert digests.known(weights) == sha256(weights)


def test_where_it_ends_without_a_digest_we_begin_anew(weights: Path, tmp_path: Path) -> None:
    process = Process(weights, tmp_path)
    digests = FileDigests(Sidecar(tmp_path / DIGESTS), early=tmp_path)
    digests.begin(weights)
    process.end(wanted=False)  # its WebUI is gone; another one is ours
    assert process.digest is None
    digests.wait(weights)
    assert digests.known(weights) == sha256(weights)


def test_a_pass_that_is_not_wanted_any_more_does_not_wait_for_the_process(
    weights: Path, tmp_path: Path
) -> None:
    process = Process(weights, tmp_path)
    digests = FileDigests(Sidecar(tmp_path / DIGESTS), read=unread, early=tmp_path)
    digests.begin(weights)
    digests.stop()
    digests.wait(weights)
    assert digests.known(weights) is None
    process.end()


def test_there_is_one_at_a_time(weights: Path, tmp_path: Path) -> None:
    process = Process(weights, tmp_path)
    with pytest.raises(Another):
        work(weights, tmp_path, lambda: True)
    process.end()
    assert process.digest == sha256(weights)
    assert work(weights, tmp_path, lambda: True, unread) is None  # it is known now


def test_a_file_that_changes_meanwhile_gets_no_digest(weights: Path, tmp_path: Path) -> None:
    process = Process(weights, tmp_path)
    weights.write_bytes(os.urandom(50_000))
    process.end()
    assert process.digest is None
    assert not (tmp_path / DIGESTS).exists()


@pytest.mark.parametrize("said", ["", "[]", "{}", '{"path": 3}'])
def test_what_it_says_of_itself_may_be_anything(weights: Path, tmp_path: Path, said: str) -> None:
    process = Process(weights, tmp_path)
    (tmp_path / "hashing.json").write_text(said)
    assert not is_at_work(tmp_path, weights)
    process.end()
