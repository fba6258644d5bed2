"""Digests of files: kept, waited for, computed; right for the file as it is now."""

from __future__ import annotations

import hashlib
import json
import os
import sys
import threading
import time
from collections.abc import Iterator
from functools import partial
from pathlib import Path

import pytest

from flux_speedup.storage.sidecar import MOST_FILES, Sidecar, Stamp
from flux_speedup.weights.files.digest_pass import pieces
from flux_speedup.weights.files.file_digests import FileDigests
from tests.waiting import PATIENCE_S, eventually


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


class Reading:
    """How a pass reads, held up: `begun` is set after the first piece, and the rest waits for `go_on`."""

    def __init__(self) -> None:
        self.begun, self.go_on = threading.Event(), threading.Event()
        self.passes = 0

    def __call__(self, path: Path) -> Iterator[memoryview]:
        self.passes += 1
        for piece in pieces(path):
            yield piece
            self.begun.set()
            assert self.go_on.wait(PATIENCE_S)


@pytest.fixture
def reading() -> Iterator[Reading]:
    made = Reading()
    yield made
    made.go_on.set()


def over(digests: FileDigests, path: Path) -> bool:
    return eventually(lambda: not digests.under_way(path))


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


def test_a_background_pass_brings_it_and_keeps_it(weights: Path, kept: Path, reading: Reading) -> None:
    reading.go_on.set()
    digests = FileDigests(Sidecar(kept), read=reading)
    digests.begin(weights)
    assert over(digests, weights)
    assert digests.of(weights, never) == sha256(weights)
    digests.begin(weights)
    assert reading.passes == 1
    assert FileDigests(Sidecar(kept)).known(weights) == sha256(weights)


def test_a_pass_under_way_is_waited_for_and_none_is_begun_beside_it(
    weights: Path, kept: Path, reading: Reading
) -> None:
    digests = FileDigests(Sidecar(kept), read=reading)
    digests.begin(weights)
    assert reading.begun.wait(PATIENCE_S)
    digests.begin(weights)
    assert digests.known(weights) is None
    threading.Timer(0.1, reading.go_on.set).start()
    assert digests.of(weights, never) == sha256(weights)
    assert reading.passes == 1


def test_a_pass_that_is_stopped_leaves_it_to_be_computed(weights: Path, kept: Path, reading: Reading) -> None:
    digests = FileDigests(Sidecar(kept), read=reading)
    digests.begin(weights)
    assert reading.begun.wait(PATIENCE_S)
    digests.stop()
    reading.go_on.set()
    assert digests.of(weights, lambda: sha256(weights)) == sha256(weights)
    assert over(digests, weights)


def test_a_pass_that_cannot_read_leaves_it_to_be_computed(weights: Path, kept: Path) -> None:
    def read(path: Path) -> Iterator[memoryview]:
        raise OSError("no")

    digests = FileDigests(Sidecar(kept), read=read)
    digests.begin(weights)
    assert over(digests, weights)
    assert digests.of(weights, lambda: sha256(weights)) == sha256(weights)


def test_a_pass_gives_way_to_loads_and_to_computing_unless_it_is_waited_for(
    weights: Path, kept: Path
) -> None:
    digests = FileDigests(Sidecar(kept))
    with digests.gate.computing():
        digests.begin(weights)
        time.sleep(0.05)
        assert digests.under_way(weights)
        assert digests.of(weights, never) == sha256(weights)
    other = weights.with_name("other")
    other.write_bytes(b"other")
    with digests.gate.loading():
        digests.begin(other)
        waiting = threading.Thread(target=digests.of, args=(other, never))
        waiting.start()
        waiting.join(0.05)
        assert waiting.is_alive()
    waiting.join(PATIENCE_S)
    assert digests.known(other) == sha256(other)


def test_a_pass_over_a_file_replaced_since_counts_for_the_old_one_only(
    weights: Path, kept: Path, reading: Reading
) -> None:
    digests = FileDigests(Sidecar(kept), read=reading)
    digests.begin(weights)
    assert reading.begun.wait(PATIENCE_S)
    other = weights.with_name("other")
    other.write_bytes(b"other")
    other.replace(weights)
    digests.begin(weights)  # another pass, over what is there now
    reading.go_on.set()
    assert digests.of(weights, never) == hashlib.sha256(b"other").hexdigest()
    assert over(digests, weights)
    assert digests.known(weights) == hashlib.sha256(b"other").hexdigest()


def test_a_file_that_changes_while_it_is_read_has_no_digest_from_that(
    weights: Path, kept: Path, reading: Reading
) -> None:
    digests = FileDigests(Sidecar(kept), read=reading)
    digests.begin(weights)
    assert reading.begun.wait(PATIENCE_S)
    weights.write_bytes(b"other")
    reading.go_on.set()
    assert over(digests, weights)
    assert digests.known(weights) is None


@pytest.mark.skipif(sys.platform == "win32", reason="names and numbers of files are another thing there")
@pytest.mark.parametrize("hashed_first", [True, False])
@pytest.mark.parametrize("how", ["hard link", "renamed", "symlink"])
def test_a_file_is_hashed_once_whatever_it_is_called(
    weights: Path, kept: Path, how: str, hashed_first: bool
) -> None:
    other = weights.with_name("other.safetensors")
    digests = FileDigests(Sidecar(kept))
    if hashed_first or how == "renamed":
        assert digests.of(weights, lambda: sha256(weights))
    if how == "hard link":
        os.link(weights, other)
    elif how == "renamed":
        weights.rename(other)
    else:
        other.symlink_to(weights)
    if not hashed_first and how != "renamed":
        assert digests.of(weights, lambda: sha256(weights))
    for again in (digests, FileDigests(Sidecar(kept))):
        assert again.of(other, never) == sha256(other)
        if how != "renamed":
            assert again.of(weights, never) == sha256(weights)


@pytest.mark.skipif(sys.platform == "win32", reason="names and numbers of files are another thing there")
def test_one_pass_for_two_names(weights: Path, kept: Path, reading: Reading) -> None:
    other = weights.with_name("other.safetensors")
    os.link(weights, other)
    digests = FileDigests(Sidecar(kept), read=reading)
    digests.begin(weights)
    assert reading.begun.wait(PATIENCE_S)
    digests.begin(other)
    assert digests.under_way(other)
    reading.go_on.set()
    assert digests.of(other, never) == sha256(weights)
    assert reading.passes == 1


@pytest.mark.skipif(sys.platform == "win32", reason="there is no ctime there")
@pytest.mark.parametrize("name_too", [False, True])
def test_bytes_written_over_with_the_old_time_put_back_are_hashed_again(
    weights: Path, kept: Path, name_too: bool
) -> None:
    digests = FileDigests(Sidecar(kept))
    digests.of(weights, lambda: sha256(weights))
    before = weights.stat()
    with weights.open("r+b") as file:
        file.write(b"other")
    os.utime(weights, ns=(before.st_atime_ns, before.st_mtime_ns))
    if name_too:
        os.link(weights, weights.with_name("other.safetensors"))
    assert digests.known(weights) is None


def test_a_file_in_the_hub_cache_tells_its_own(tmp_path: Path, kept: Path) -> None:
    digests = FileDigests(Sidecar(kept))
    repository = tmp_path / "models--black-forest-labs--FLUX.1-dev"
    blob = repository / "blobs" / ("a1" * 32)
    snapshot = repository / "snapshots" / "rev" / "flux1-dev.safetensors"
    for folder in (blob.parent, snapshot.parent):
        folder.mkdir(parents=True)
    blob.write_bytes(b"weights")
    snapshot.symlink_to(blob)
    link = tmp_path / "model.safetensors"
    link.symlink_to(snapshot)
    assert digests.known(link) == blob.name
    assert digests.of(link, never) == blob.name


@pytest.mark.parametrize(
    "name",
    [
        f"models--a--b/blobs/{'a' * 40}",
        f"models--a--b/blobs/{'A' * 64}",
        f"models--a--b/blobs/{'a' * 64}.incomplete",
        f"models--a--b/other/{'a' * 64}",
        f"mine/blobs/{'a' * 64}",
        "a" * 64,
    ],
)
def test_other_names_tell_none(tmp_path: Path, kept: Path, name: str) -> None:
    file = tmp_path / name
    file.parent.mkdir(parents=True, exist_ok=True)
    file.write_bytes(b"weights")
    assert FileDigests(Sidecar(kept)).known(file) is None


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
        '{"files": {"%s": {"size": 1, "mtime_ns": true, "ctime_ns": 1, "sample": "", "sha256": "%s"}}}',
        '{"files": {"%s": {"size": 1, "mtime_ns": 1, "ctime_ns": 1, "sample": "", "sha256": "short"}}}',
        '{"files": {"%s": {"size": 1, "mtime_ns": 1, "ctime_ns": 1, "sample": 1, "sha256": "%s"}}}',
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


def test_where_nothing_can_be_written_it_is_kept_in_memory_and_told_once(
    weights: Path, tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    (tmp_path / "a file").touch()
    another = tmp_path / "another.safetensors"
    another.write_bytes(b"x" * 1000)
    for file in (None, tmp_path / "a file" / "digests.json"):
        caplog.clear()
        digests = FileDigests(Sidecar(file))
        with caplog.at_level("INFO", "flux_speedup"):
            for path in (weights, another):
                digests.of(path, partial(sha256, path))
                assert digests.of(path, never) == sha256(path)
        told = [record.getMessage() for record in caplog.records]
        assert sum("cannot be written" in line for line in told) == (file is not None)
        assert len(told) == len({line.partition("(")[0] for line in told})


def test_two_processes_keep_what_the_other_wrote(kept: Path) -> None:
    one, two = Sidecar(kept), Sidecar(kept)
    stamp = Stamp(1, 1, 1, "")
    assert one.get(Path("/a"), stamp) is None
    two.put(Path("/b"), stamp, "b" * 64)
    one.put(Path("/a"), stamp, "a" * 64)
    assert Sidecar(kept).get(Path("/b"), stamp) == "b" * 64


def test_the_oldest_entries_go(kept: Path) -> None:
    row = {"size": 1, "mtime_ns": 1, "ctime_ns": 1, "sample": "", "sha256": "a" * 64}
    rows = {f"/{n}": row for n in range(MOST_FILES)}
    kept.parent.mkdir(parents=True)
    kept.write_text(json.dumps({"files": rows}))
    made = Sidecar(kept)
    made.put(Path("/new"), Stamp(1, 1, 1, ""), "b" * 64)
    assert made.get(Path("/0"), Stamp(1, 1, 1, "")) is None
    assert made.get(Path("/new"), Stamp(1, 1, 1, "")) == "b" * 64
