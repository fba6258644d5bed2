"""Digests of files: kept, waited for, computed; right for the file as it is now."""

from __future__ import annotations

import hashlib
import json
import os
import threading
from pathlib import Path

import pytest

from flux_speedup.storage.sidecar import MOST_FILES, Sidecar, Stamp
from flux_speedup.weights.files.file_digests import FileDigests
from flux_speedup.weights.files.readahead import ReadAhead


@pytest.fixture
def weights(tmp_path: Path) -> Path:
    path = tmp_path / "weights.safetensors"
    path.write_bytes(os.urandom(50_000))
    return path


@pytest.fixture
def kept(tmp_path: Path) -> Path:
    return tmp_path / "cache" / "flux-speedup" / "digests.json"


def sha256(path: Path) -> str:
    return hashlib.sha256(path.read_bytes()).hexdigest()


def never() -> str:
    raise AssertionError("it was computed again")


def background(digests: FileDigests, path: Path, **more: object) -> ReadAhead:
    digests.expect(path)
    return ReadAhead(
        [path],
        digests.look,
        ended=digests.ended,
        available=lambda: 10**12,
        chunk=1000,
        **more,  # type: ignore[arg-type]
    )


def test_computed_once_in_its_life(weights: Path, kept: Path) -> None:
    assert FileDigests(Sidecar(kept)).of(weights, lambda: sha256(weights)) == sha256(weights)
    assert FileDigests(Sidecar(kept)).of(str(weights), never) == sha256(weights)


def test_a_changed_file_is_computed_again(weights: Path, kept: Path) -> None:
    digests = FileDigests(Sidecar(kept))
    digests.of(weights, lambda: sha256(weights))
    weights.write_bytes(b"other")
    assert digests.known(weights) is None
    assert digests.of(weights, lambda: sha256(weights)) == sha256(weights)
    os.utime(weights, ns=(5, 5))
    assert digests.known(weights) is None


def test_a_file_that_changes_while_it_is_computed_is_not_kept(weights: Path, kept: Path) -> None:
    digests = FileDigests(Sidecar(kept))

    def compute() -> str:
        found = sha256(weights)
        weights.write_bytes(b"other")
        return found

    digests.of(weights, compute)
    assert digests.known(weights) is None


def test_a_background_pass_brings_it_and_keeps_it(weights: Path, kept: Path) -> None:
    digests = FileDigests(Sidecar(kept))
    reading = background(digests, weights)
    reading.start()
    assert reading.wait(10)
    assert digests.of(weights, never) == sha256(weights)
    assert not digests.expected(weights)
    assert FileDigests(Sidecar(kept)).known(weights) == sha256(weights)


def test_a_pass_under_way_is_waited_for(weights: Path, kept: Path) -> None:
    digests = FileDigests(Sidecar(kept))
    begun, go_on = threading.Event(), threading.Event()

    def look(path: Path, piece: memoryview) -> None:
        digests.look(path, piece)
        begun.set()
        go_on.wait(10)

    reading = background(digests, weights)
    reading.look = look
    reading.start()
    assert begun.wait(10)
    threading.Timer(0.1, go_on.set).start()
    assert digests.of(weights, never) == sha256(weights)
    assert reading.wait(10)


def test_a_pass_that_is_stopped_leaves_it_to_be_computed(weights: Path, kept: Path) -> None:
    digests = FileDigests(Sidecar(kept))
    begun = threading.Event()

    def look(path: Path, piece: memoryview) -> None:
        digests.look(path, piece)
        begun.set()
        reading.stop(0)

    reading = background(digests, weights)
    reading.look = look
    reading.start()
    assert begun.wait(10)
    assert digests.of(weights, lambda: sha256(weights)) == sha256(weights)


def test_a_pass_that_has_not_begun_is_not_waited_for(weights: Path, kept: Path) -> None:
    digests = FileDigests(Sidecar(kept))
    reading = background(digests, weights)
    with reading.paused():
        reading.start()
        assert digests.of(weights, lambda: sha256(weights)) == sha256(weights)
    assert reading.wait(10)
    assert digests.known(weights) == sha256(weights)


def test_a_pass_over_a_file_replaced_since_counts_for_the_old_one_only(weights: Path, kept: Path) -> None:
    digests = FileDigests(Sidecar(kept))

    def look(path: Path, piece: memoryview) -> None:
        digests.look(path, piece)
        if weights.stat().st_size == 50_000:
            other = weights.with_name("other")
            other.write_bytes(b"other")
            other.replace(weights)

    reading = background(digests, weights)
    reading.look = look
    reading.start()
    assert reading.wait(10)
    assert digests.known(weights) is None
    assert digests.of(weights, lambda: sha256(weights)) == sha256(weights)


def test_a_link_is_the_file_it_leads_to(weights: Path, kept: Path, tmp_path: Path) -> None:
    digests = FileDigests(Sidecar(kept))
    digests.of(weights, lambda: sha256(weights))
    link = tmp_path / "link.safetensors"
    link.symlink_to(weights)
    assert digests.of(link, never) == sha256(weights)


@pytest.mark.parametrize(
    "text",
    [
        "",
        "{",
        "[]",
        '{"files": []}',
        '{"files": {"%s": 1}}',
        '{"files": {"%s": {"size": 1, "mtime_ns": true, "sha256": "%s"}}}',
        '{"files": {"%s": {"size": 1, "mtime_ns": 1, "sha256": "short"}}}',
        "[" * 100_000,
    ],
)
def test_a_file_that_is_not_ours_counts_for_nothing_and_is_replaced(
    weights: Path, kept: Path, text: str
) -> None:
    kept.parent.mkdir(parents=True)
    kept.write_text(text)
    digests = FileDigests(Sidecar(kept))
    assert digests.known(weights) is None
    digests.of(weights, lambda: sha256(weights))
    assert list(json.loads(kept.read_text())["files"]) == [str(weights.resolve())]
    assert [path.name for path in kept.parent.iterdir()] == [kept.name]


def test_where_nothing_can_be_written_it_is_kept_in_memory(weights: Path, tmp_path: Path) -> None:
    (tmp_path / "a file").touch()
    for file in (None, tmp_path / "a file" / "digests.json"):
        digests = FileDigests(Sidecar(file))
        digests.of(weights, lambda: sha256(weights))
        assert digests.of(weights, never) == sha256(weights)


def test_two_processes_keep_what_the_other_wrote(kept: Path) -> None:
    one, two = Sidecar(kept), Sidecar(kept)
    stamp = Stamp(1, 1)
    assert one.get(Path("/a"), stamp) is None
    two.put(Path("/b"), stamp, "b" * 64)
    one.put(Path("/a"), stamp, "a" * 64)
    assert Sidecar(kept).get(Path("/b"), stamp) == "b" * 64


def test_the_oldest_entries_go(kept: Path) -> None:
    rows = {f"/{n}": {"size": 1, "mtime_ns": 1, "sha256": "a" * 64} for n in range(MOST_FILES)}
    kept.parent.mkdir(parents=True)
    kept.write_text(json.dumps({"files": rows}))
    made = Sidecar(kept)
    made.put(Path("/new"), Stamp(1, 1), "b" * 64)
    assert made.get(Path("/0"), Stamp(1, 1)) is None
    assert made.get(Path("/new"), Stamp(1, 1)) == "b" * 64
