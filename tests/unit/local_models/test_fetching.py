"""One weight from a server that misbehaves: what is in place afterwards, and what is said."""

from __future__ import annotations

import builtins
import sys
import urllib.request
from collections.abc import Iterator
from pathlib import Path

import pytest

from flux_speedup.local_models.catalog import Entry
from flux_speedup.local_models.digests import Digests
from flux_speedup.local_models.fetching import How, Result, Row, fetch, verify
from flux_speedup.local_models.progress import Bar
from flux_speedup.local_models.transfer import Patience, TransferFailed, _Careful
from tests.unit.local_models.files import CONTENT, OTHER, entry, put, sha256
from tests.unit.local_models.server import (
    Act,
    File,
    cut,
    drip,
    instead,
    no_ranges,
    serving,
    silence,
    status,
    whole,
    wrong_range,
)

PATIENCE = Patience(timeout=0.5, attempts=3, pause=0.01)


class Server:
    """Serves CONTENT at /face.pt and in a repository, and fetches it into a models folder."""

    def __init__(self, url: str, files: dict[str, File], models: Path) -> None:
        self.url = url
        self.models = models
        self.target = models / "adetailer" / "face.pt"
        self._files = files

    def behave(self, *acts: Act, content: bytes = CONTENT) -> File:
        self._files["/face.pt"] = File(content, list(acts))
        return self._files["/face.pt"]

    def repository(self, *acts: Act) -> File:
        self._files["/Bingsu/adetailer/resolve/main/face.pt"] = File(CONTENT, list(acts))
        return self._files["/Bingsu/adetailer/resolve/main/face.pt"]

    def entry(self, **fields: object) -> Entry:
        return entry(**{"repo": None, "repo_file": None, "url": f"{self.url}/face.pt", **fields})

    def fetch(self, wanted: Entry | None = None, **how: object) -> Row:
        given = How(self.models, Digests(None), patience=PATIENCE, **how)  # type: ignore[arg-type]
        return fetch(wanted or self.entry(), given, Bar("face.pt", 0, quiet=True))

    def left(self) -> list[str]:
        return sorted(path.name for path in (self.models / "adetailer").iterdir())


@pytest.fixture
def server(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[Server]:
    for name in ("http_proxy", "HTTP_PROXY", "all_proxy", "ALL_PROXY"):
        monkeypatch.delenv(name, raising=False)
    monkeypatch.delenv("HF_HUB_OFFLINE", raising=False)
    files: dict[str, File] = {}
    with serving(files) as url:
        yield Server(url, files, tmp_path / "models")


def good(server: Server, row: Row) -> None:
    assert (row.result, row.size) == (Result.FETCHED, len(CONTENT)), row
    assert server.target.read_bytes() == CONTENT
    assert server.left() == ["face.pt"]


def failed(server: Server, row: Row, *words: str) -> None:
    assert row.result is Result.FAILED, row
    assert all(word in row.why for word in words), row.why
    assert not server.target.exists()


@pytest.mark.parametrize(
    "acts",
    [
        [whole],
        [no_ranges],
        [status(500), whole],
        [status(503, Retry_After="0"), status(429), whole],
        [cut(100), whole],
        [cut(0), whole],
        [cut(100), cut(100), whole],
        [cut(5000), no_ranges],
        [drip(900, 0.01)],
        [silence(1.5), whole],
    ],
)
def test_what_may_pass_is_tried_again_and_comes_whole(server: Server, acts: list[Act]) -> None:
    server.behave(*acts)
    good(server, server.fetch())


def test_it_goes_on_where_it_stopped(server: Server) -> None:
    file = server.behave(cut(4000), cut(3000), whole)
    good(server, server.fetch())
    assert file.ranges == [None, "bytes=4000-", "bytes=7000-"]


@pytest.mark.parametrize(
    ("acts", "words"),
    [
        ([status(404)], ["404"]),
        ([status(403)], ["403"]),
        ([status(500)], ["500", "3 attempts"]),
        ([cut(0)], ["ended after 0", "3 attempts"]),
        ([silence(1.5)], ["3 attempts"]),
        ([cut(100), wrong_range], ["another range"]),
        ([instead(OTHER)], ["sha256", sha256(OTHER)]),
        ([instead(CONTENT + b"more")], [f"{len(CONTENT) + 4} bytes, not {len(CONTENT)}"]),
        ([instead(CONTENT[:500])], [f"500 bytes, not {len(CONTENT)}"]),
        ([status(302, Location="file:///etc/passwd")], []),
        ([status(302, Location="/face.pt")], []),
    ],
)
def test_what_cannot_be_right_fails_with_the_reason(
    server: Server, acts: list[Act], words: list[str]
) -> None:
    server.behave(*acts)
    failed(server, server.fetch(), *words)


@pytest.mark.parametrize("page", [b"<!doctype html>", b"version https://git-lfs.github.com/spec/v1\n", b""])
def test_a_page_instead_of_a_file_fails_also_where_nothing_is_known(server: Server, page: bytes) -> None:
    server.behave(instead(page))
    failed(server, server.fetch(server.entry(bytes=None, sha256=None)), "not the file")


def test_where_nothing_is_known_it_still_goes_on_by_the_servers_tag(server: Server) -> None:
    file = server.behave(cut(4000), whole)
    good(server, server.fetch(server.entry(bytes=None, sha256=None)))
    assert file.ranges == [None, "bytes=4000-"]


def test_half_of_another_version_is_dropped(server: Server) -> None:
    server.behave(cut(4000), status(404), content=OTHER[::-1])
    row = server.fetch(server.entry(bytes=None, sha256=None))
    failed(server, row, "404")
    assert any(name.endswith(".part") for name in server.left())
    server.behave(whole)
    good(server, server.fetch(server.entry(bytes=None, sha256=None)))
    # The same where the tag is not known and the size alone tells nothing.
    server.target.unlink()
    put(server.target.parent, ".face.pt.part", OTHER[:4000][::-1])
    good(server, server.fetch())


@pytest.mark.parametrize("content", [CONTENT, CONTENT + b"more", OTHER])
def test_a_part_that_is_complete_or_more_is_no_trouble(server: Server, content: bytes) -> None:
    put(server.target.parent, ".face.pt.part", content)
    server.behave(whole)
    good(server, server.fetch())


def test_a_sha256_that_one_source_states_is_a_warning(server: Server) -> None:
    server.behave(whole, content=OTHER)
    row = server.fetch(server.entry(confirmed=False))
    assert row.result is Result.FETCHED
    assert "only one source" in row.why
    assert server.target.read_bytes() == OTHER


def test_what_is_there_is_not_asked_for(server: Server) -> None:
    put(server.target.parent)
    file = server.behave(whole)
    assert server.fetch().result is Result.PRESENT
    assert file.ranges == []


@pytest.mark.parametrize(
    "content", [b"", CONTENT[:300], b"<html>", b"version https://git-lfs.github.com/spec/v1\n"]
)
def test_remains_of_a_download_are_replaced(server: Server, content: bytes) -> None:
    put(server.target.parent, content=content)
    server.behave(whole)
    good(server, server.fetch())


def test_another_file_of_the_users_is_never_replaced(server: Server) -> None:
    put(server.target.parent, content=OTHER)
    file = server.behave(whole)
    row = server.fetch()
    assert row.result is Result.FAILED
    assert "move it away" in row.why
    assert server.target.read_bytes() == OTHER
    assert file.ranges == []


@pytest.mark.skipif(sys.platform == "win32", reason="links need a privilege on Windows")
def test_a_folder_of_models_that_is_a_link_is_as_good_as_any(server: Server, tmp_path: Path) -> None:
    elsewhere = tmp_path / "elsewhere"
    elsewhere.mkdir()
    server.models.mkdir()
    (server.models / "adetailer").symlink_to(elsewhere)
    server.behave(whole)
    good(server, server.fetch())
    assert (elsewhere / "face.pt").read_bytes() == CONTENT
    assert server.fetch().result is Result.PRESENT


@pytest.mark.parametrize("target", ["http://host/face.pt", "ftp://host/face.pt", "file:///etc/passwd"])
def test_nobody_is_sent_on_from_https_to_less(target: str) -> None:
    request = urllib.request.Request("https://host/face.pt")
    with pytest.raises(TransferFailed, match="not followed"):
        _Careful().redirect_request(request, None, 302, "Found", {}, target)
    onwards = _Careful().redirect_request(request, None, 302, "Found", {}, "https://cdn/face.pt")
    assert onwards is not None
    assert onwards.full_url == "https://cdn/face.pt"


def test_verify_asks_nobody(server: Server) -> None:
    how = How(server.models, Digests(None))
    assert verify(server.entry(), how).result is Result.MISSING
    put(server.target.parent, content=OTHER)
    row = verify(server.entry(), how)
    assert (row.result, row.good) == (Result.FAILED, False)
    assert sha256(OTHER) in row.why
    put(server.target.parent)
    how = How(server.models, Digests(None))
    assert verify(server.entry(), how) == Row(server.entry(), Result.PRESENT, "", len(CONTENT))


def test_a_folder_that_cannot_be_made_and_an_entry_without_source(server: Server, tmp_path: Path) -> None:
    failed(server, server.fetch(server.entry(url=None)), "no source")
    server.models = tmp_path / "file"
    server.models.write_bytes(b"")
    assert server.fetch().result is Result.FAILED


def test_hugging_face_by_its_plain_address(server: Server, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("HF_ENDPOINT", server.url)
    file = server.repository(cut(4000), whole)
    good(server, server.fetch(entry(), use_library=False))
    assert file.ranges == [None, "bytes=4000-"]


def test_the_mirror_is_asked_first_and_the_source_after_it(
    server: Server, monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    monkeypatch.setenv("HF_ENDPOINT", server.url)
    file = server.repository(whole)
    with serving({}) as empty:
        good(server, server.fetch(entry(), use_library=False, mirror=empty))
    assert len(file.ranges) == 1
    server.target.unlink()
    monkeypatch.setenv("HF_ENDPOINT", "http://127.0.0.1:9")
    good(server, server.fetch(entry(), use_library=False, mirror=server.url))


def test_hugging_face_through_its_library(server: Server, monkeypatch: pytest.MonkeyPatch) -> None:
    constants = pytest.importorskip("huggingface_hub.constants")
    monkeypatch.setattr(constants, "HF_HUB_OFFLINE", False)
    monkeypatch.setattr(constants, "HF_HUB_DISABLE_PROGRESS_BARS", True)
    monkeypatch.setenv("HF_ENDPOINT", server.url)
    server.repository(whole)
    good(server, server.fetch(entry()))


def test_without_the_library_the_plain_address_is_taken(
    server: Server, monkeypatch: pytest.MonkeyPatch
) -> None:
    real = builtins.__import__

    def missing(name: str, *rest: object, **named: object) -> object:
        if name.startswith("huggingface_hub"):
            raise ImportError(name)
        return real(name, *rest, **named)  # type: ignore[arg-type]

    monkeypatch.setattr(builtins, "__import__", missing)
    monkeypatch.setenv("HF_ENDPOINT", server.url)
    server.repository(whole)
    good(server, server.fetch(entry()))


def test_the_proxy_of_the_environment_is_asked(server: Server, monkeypatch: pytest.MonkeyPatch) -> None:
    asked: list[str] = []

    class Proxy(dict[str, File]):
        def get(self, key: str, default: object = None) -> File:  # type: ignore[override]
            asked.append(key)
            return File(CONTENT, [whole])

    with serving(Proxy()) as proxy:
        monkeypatch.setenv("http_proxy", proxy)
        monkeypatch.setenv("no_proxy", "")
        wanted = server.entry(url="http://models.example/face.pt")
        good(server, server.fetch(wanted))
    assert asked == ["http://models.example/face.pt"]
