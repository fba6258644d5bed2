"""One weight from a server that misbehaves: what is in place afterwards, and what is said."""

from __future__ import annotations

import sys
import urllib.request
from pathlib import Path

import pytest

from flux_speedup.local_models.digests import Digests
from flux_speedup.local_models.fetching import How, Result, Row, verify
from flux_speedup.local_models.transfer import TransferFailed, _Careful
from tests.unit.local_models.fetcher import Server, assert_failed, assert_fetched
from tests.unit.local_models.files import CONTENT, OTHER, put, sha256
from tests.unit.local_models.server import (
    Act,
    cut,
    drip,
    instead,
    no_ranges,
    silence,
    status,
    whole,
    wrong_range,
)


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
    assert_fetched(server, server.fetch())


def test_it_goes_on_where_it_stopped(server: Server) -> None:
    file = server.behave(cut(4000), cut(3000), whole)
    assert_fetched(server, server.fetch())
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
    assert_failed(server, server.fetch(), *words)


@pytest.mark.parametrize("page", [b"<!doctype html>", b"version https://git-lfs.github.com/spec/v1\n", b""])
def test_a_page_instead_of_a_file_fails_also_where_nothing_is_known(server: Server, page: bytes) -> None:
    server.behave(instead(page))
    assert_failed(server, server.fetch(server.entry(bytes=None, sha256=None)), "not the file")


def test_where_nothing_is_known_it_still_goes_on_by_the_servers_tag(server: Server) -> None:
    file = server.behave(cut(4000), whole)
    assert_fetched(server, server.fetch(server.entry(bytes=None, sha256=None)))
    assert file.ranges == [None, "bytes=4000-"]


def test_half_of_another_version_is_dropped(server: Server) -> None:
    server.behave(cut(4000), status(404), content=OTHER[::-1])
    row = server.fetch(server.entry(bytes=None, sha256=None))
    assert_failed(server, row, "404")
    assert any(name.endswith(".part") for name in server.left())
    server.behave(whole)
    assert_fetched(server, server.fetch(server.entry(bytes=None, sha256=None)))
    # The same where the tag is not known and the size alone tells nothing.
    server.target.unlink()
    put(server.target.parent, ".face.pt.part", OTHER[:4000][::-1])
    assert_fetched(server, server.fetch())


@pytest.mark.parametrize("content", [CONTENT, CONTENT + b"more", OTHER])
def test_a_part_that_is_complete_or_more_is_no_trouble(server: Server, content: bytes) -> None:
    put(server.target.parent, ".face.pt.part", content)
    server.behave(whole)
    assert_fetched(server, server.fetch())


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
    assert_fetched(server, server.fetch())


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
    assert_fetched(server, server.fetch())
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
    assert_failed(server, server.fetch(server.entry(url=None)), "no source")
    server.models = tmp_path / "file"
    server.models.write_bytes(b"")
    assert server.fetch().result is Result.FAILED
