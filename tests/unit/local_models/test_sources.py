"""Where a weight is fetched from: Hugging Face with and without its library, a mirror, through a proxy."""

from __future__ import annotations

import builtins
from pathlib import Path

import pytest

from tests.unit.local_models.fetcher import Server, assert_failed, assert_fetched
from tests.unit.local_models.files import CONTENT, entry, put
from tests.unit.local_models.server import File, cut, serving, status, whole


def test_hugging_face_by_its_plain_address(server: Server, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("HF_ENDPOINT", server.url)
    file = server.repository(cut(4000), whole)
    assert_fetched(server, server.fetch(entry(), use_library=False))
    assert file.ranges == [None, "bytes=4000-"]


def test_the_mirror_is_asked_first_and_the_source_after_it(
    server: Server, monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    monkeypatch.setenv("HF_ENDPOINT", server.url)
    file = server.repository(whole)
    with serving({}) as empty:
        assert_fetched(server, server.fetch(entry(), use_library=False, mirror=empty))
    assert len(file.ranges) == 1
    server.target.unlink()
    monkeypatch.setenv("HF_ENDPOINT", "http://127.0.0.1:9")
    assert_fetched(server, server.fetch(entry(), use_library=False, mirror=server.url))


@pytest.fixture
def library(server: Server, monkeypatch: pytest.MonkeyPatch) -> None:
    """The real library, which asks our server."""
    constants = pytest.importorskip("huggingface_hub.constants")
    monkeypatch.setattr(constants, "HF_HUB_OFFLINE", False)
    monkeypatch.setattr(constants, "HF_HUB_DISABLE_PROGRESS_BARS", True)
    monkeypatch.setenv("HF_ENDPOINT", server.url)


def test_hugging_face_through_its_library(server: Server, library: None) -> None:
    server.repository(whole)
    assert_fetched(server, server.fetch(entry()))


def test_what_fails_in_the_library_fails_with_its_reason_and_comes_later(
    server: Server, library: None
) -> None:
    file = server.repository(cut(4000), status(404))
    assert_failed(server, server.fetch(entry()), server.url)
    file.acts = [whole]
    assert_fetched(server, server.fetch(entry()))


def test_what_a_killed_library_left_is_gone_on_with(server: Server, library: None) -> None:
    file = server.repository(whole)
    left = Path(".face.pt.part.hub") / ".cache" / "huggingface" / "download"
    put(server.target.parent / left, "a1.etag.12345678.incomplete", CONTENT[:4000])
    put(server.target.parent / left, "a1.etag.87654321.incomplete", CONTENT[:90])
    assert_fetched(server, server.fetch(entry()))
    assert file.ranges == ["bytes=4000-"]


def test_where_the_plain_address_wants_a_token_the_library_is_asked(server: Server, library: None) -> None:
    put(server.target.parent, ".face.pt.part", CONTENT[:4000])
    server.repository(status(401), whole)
    assert_fetched(server, server.fetch(entry()))


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
    assert_fetched(server, server.fetch(entry()))


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
        assert_fetched(server, server.fetch(wanted))
    assert asked == ["http://models.example/face.pt"]
