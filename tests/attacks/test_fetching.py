"""Servers that would hold whoever fetches a weight, or hand over something else."""

from __future__ import annotations

import sys
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from flux_speedup.local_models import at_start
from flux_speedup.local_models.digests import Digests
from flux_speedup.local_models.fetching import How, Row, fetch
from flux_speedup.local_models.progress import Bar
from flux_speedup.local_models.transfer import Patience
from tests.unit.local_models.fetcher import Server, assert_failed, assert_fetched
from tests.unit.local_models.files import CONTENT
from tests.unit.local_models.server import File, Handler, serving, whole


@pytest.fixture
def server(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[Server]:
    for name in ("http_proxy", "HTTP_PROXY"):
        monkeypatch.delenv(name, raising=False)
    files: dict[str, File] = {}
    with serving(files) as url:
        yield Server(url, files, tmp_path / "models")


def patient(server: Server, **patience: Any) -> tuple[Row, float]:
    how = How(server.models, Digests(None), patience=Patience(timeout=2.0, pause=0.01, **patience))
    began = time.monotonic()
    return fetch(server.entry(), how, Bar("face.pt", 0, quiet=True)), time.monotonic() - began


SOON_S = 15.0
"""Less than any of these servers would hold whoever waits for it, and much more than it takes."""


def dripping(handler: Handler, file: File) -> None:
    """A byte now and then: never silent for long."""
    for byte in handler.begin(file):
        handler.wfile.write(bytes([byte]))
        handler.wfile.flush()
        time.sleep(0.02)


def dripping_head(handler: Handler, file: File) -> None:
    """A head without an end."""
    handler.wfile.write(b"HTTP/1.1 200 OK\r\n")
    for number in range(400):
        handler.wfile.write(b"X-%d: x\r\n" % number)
        handler.wfile.flush()
        time.sleep(0.05)


def test_whoever_sends_too_slowly_is_not_waited_for(server: Server) -> None:
    server.behave(dripping)
    row, took = patient(server, attempts=2, least=5000, window=0.3)
    assert_failed(server, row, "kB/s, less than 5")
    assert took < SOON_S


@pytest.mark.parametrize("act", [dripping, dripping_head])
def test_a_file_has_so_long_in_all_whatever_the_server_does(server: Server, act: Any) -> None:
    server.behave(act)
    row, took = patient(server, attempts=50, least=0, whole=1.0)
    assert_failed(server, row)
    assert took < SOON_S


@pytest.mark.parametrize("encoding", ["gzip", "br", "identity, gzip"])
def test_what_comes_encoded_is_refused(server: Server, encoding: str) -> None:
    def encoded(handler: Handler, file: File) -> None:
        handler.send_response(200)
        handler.send_header("Content-Encoding", encoding)
        handler.send_header("Content-Length", str(len(CONTENT)))
        handler.end_headers()
        handler.wfile.write(CONTENT)

    server.behave(encoded)
    row, _ = patient(server)
    assert_failed(server, row, "encoded")


def test_an_ordinary_server_is_let_be(server: Server) -> None:
    server.behave(whole)
    row, _ = patient(server)
    assert_fetched(server, row)


def test_no_start_is_held_for_long(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capfd: pytest.CaptureFixture[str]
) -> None:
    (tmp_path / "fetch.py").write_text("import time\nprint('began', flush=True)\ntime.sleep(60)\n")
    monkeypatch.setattr(at_start, "LIMIT_S", 1.0)
    began = time.monotonic()
    at_start._in_a_process(tmp_path, ["a.pt"], tmp_path / "models", {"PATH": sys.exec_prefix})
    assert time.monotonic() - began < 10
    assert "not all weights came within 1 s" in capfd.readouterr().err
