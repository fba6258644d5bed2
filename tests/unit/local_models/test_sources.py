"""Where a weight is fetched from: Hugging Face, a mirror, through a proxy; what a token is for."""

from __future__ import annotations

from pathlib import Path

import pytest

from flux_speedup.local_models import hub
from flux_speedup.local_models.fetching import NOT_VERIFIED
from tests.unit.local_models.fetcher import Server, assert_failed, assert_fetched
from tests.unit.local_models.files import CONTENT, entry
from tests.unit.local_models.server import File, Handler, cut, serving, whole


def test_hugging_face_by_its_plain_address(server: Server, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("HF_ENDPOINT", server.url)
    file = server.repository(cut(4000), whole)
    assert_fetched(server, server.fetch(entry()))
    assert file.ranges == [None, "bytes=4000-"]


def test_the_mirror_is_asked_first_and_the_source_after_it(
    server: Server, monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    monkeypatch.setenv("HF_ENDPOINT", server.url)
    file = server.repository(whole)
    with serving({}) as empty:
        assert_fetched(server, server.fetch(entry(), mirror=empty))
    assert len(file.ranges) == 1
    server.target.unlink()
    monkeypatch.setenv("HF_ENDPOINT", "http://127.0.0.1:9")
    assert_fetched(server, server.fetch(entry(), mirror=server.url))


@pytest.mark.parametrize("fields", [{"sha256": None}, {"bytes": None}, {"confirmed": False}])
def test_what_cannot_be_verified_comes_from_no_mirror(
    server: Server, monkeypatch: pytest.MonkeyPatch, fields: dict[str, object]
) -> None:
    file = server.repository(whole)
    monkeypatch.setenv("HF_ENDPOINT", server.url)
    monkeypatch.setattr(hub, "ENDPOINT", "http://127.0.0.1:9")
    assert_failed(server, server.fetch(entry(**fields), mirror=server.url), "127.0.0.1:9")
    assert file.ranges == []
    monkeypatch.setattr(hub, "ENDPOINT", server.url)
    row = server.fetch(entry(**fields))
    assert_fetched(server, row)
    assert row.why == NOT_VERIFIED
    assert server.fetch(entry(**fields)).why == NOT_VERIFIED


def test_a_token_goes_to_hugging_face_and_to_nobody_it_sends_us_on_to(
    server: Server, monkeypatch: pytest.MonkeyPatch
) -> None:
    seen: list[str | None] = []

    def sent_on(handler: Handler, file: File) -> None:
        seen.append(handler.headers.get("Authorization"))
        handler.send_response(302)
        handler.send_header("Location", f"{server.url}/face.pt")
        handler.send_header("Content-Length", "0")
        handler.end_headers()

    def noted(handler: Handler, file: File) -> None:
        seen.append(handler.headers.get("Authorization"))
        whole(handler, file)

    server.repository(sent_on)
    server.behave(noted)
    monkeypatch.setenv("HF_TOKEN", "hf_secret")
    monkeypatch.setattr(hub, "ENDPOINT", server.url)
    assert_fetched(server, server.fetch(entry()))
    assert seen == ["Bearer hf_secret", None]
    server.target.unlink()
    elsewhere = f"{server.url.replace('127.0.0.1', 'localhost')}/face.pt"
    assert_fetched(server, server.fetch(server.entry(url=elsewhere)))
    assert seen[2:] == [None]


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
