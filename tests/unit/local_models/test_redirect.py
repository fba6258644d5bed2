"""What ADetailer and the WebUI are answered, from many threads at once, and what is told about it."""

from __future__ import annotations

import logging
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any

import pytest

from flux_speedup.local_models.catalog import Catalog, Entry
from flux_speedup.local_models.digests import Digests
from flux_speedup.local_models.redirect import LocalModels
from flux_speedup.local_models.report import LocalWeight, WeightState, summary
from flux_speedup.local_models.resolve import Resolver
from tests.unit.local_models.files import CONTENT, OTHER, entry, put, sha256

URL = "https://github.com/cszn/KAIR/releases/download/v1.0/ESRGAN.pth"


class Network:
    """Stands where the host's functions are; remembers what it was asked, and brings files where it may."""

    def __init__(self, folder: Path | None = None) -> None:
        self.asked: list[tuple[tuple[Any, ...], dict[str, Any]]] = []
        self._folder = folder

    def __call__(self, *args: Any, **named: Any) -> str:
        self.asked.append((args, named))
        return "INVALID" if self._folder is None else str(put(self._folder, "downloaded.pt"))


@pytest.fixture
def make(tmp_path: Path) -> Callable[..., LocalModels]:
    def models(*entries: Entry) -> LocalModels:
        catalog = Catalog(entries or (entry(),))
        resolver = Resolver(catalog, lambda _: [tmp_path / "webui"], Digests(None), lambda *_: None)
        return LocalModels(catalog, resolver)

    return models


Make = Callable[..., LocalModels]


def esrgan() -> Entry:
    return entry("ESRGAN_4x.pth", kind="esrgan", folder="ESRGAN", repo=None, repo_file=None, url=URL)


def test_a_local_file_answers_and_nobody_else_is_asked(make: Make, tmp_path: Path) -> None:
    path, network = put(tmp_path / "webui"), Network()
    models = make()
    for call in (
        lambda: models.hf_download(network, "face.pt"),
        lambda: models.hf_download(network, "face.pt", "Bingsu/adetailer", True),
        lambda: models.hf_download(network, file="face.pt", repo_id="Bingsu/adetailer", check_remote=True),
    ):
        assert call() == str(path)
    assert network.asked == []
    assert models.report() == (
        LocalWeight("face.pt", "adetailer", WeightState.REDIRECTED, str(path), len(CONTENT)),
    )


@pytest.mark.parametrize(
    ("args", "named"),
    [
        (("face.pt",), {"check_remote": False}),
        (("face.pt", "Bingsu/adetailer", False), {}),
        (("face.pt", "somebody/else"), {}),
        (("other.pt",), {}),
        ((), {"file": None}),
        ((["face.pt"],), {"more": 1}),
        ((), {}),
    ],
)
def test_what_is_not_the_catalogs_goes_through_as_it_came(
    make: Make, tmp_path: Path, args: tuple[Any, ...], named: dict[str, Any]
) -> None:
    put(tmp_path / "webui")
    network = Network()
    assert make().hf_download(network, *args, **named) == "INVALID"
    assert network.asked == [(args, named)]


def test_what_is_missing_is_asked_for_as_it_was_and_told(make: Make, tmp_path: Path) -> None:
    models, nobody, somebody = make(), Network(), Network(tmp_path / "net")
    assert models.hf_download(nobody, "face.pt", check_remote=True) == "INVALID"
    assert nobody.asked == [(("face.pt",), {"check_remote": True})]
    assert models.report()[0].state is WeightState.MISSING
    brought = models.hf_download(somebody, "face.pt")
    assert models.report()[0] == LocalWeight(
        "face.pt", "adetailer", WeightState.DOWNLOADED, brought, len(CONTENT)
    )


def test_a_refused_file_is_named_once_and_the_original_is_asked(
    make: Make, tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    path, network = put(tmp_path / "webui", content=OTHER), Network()
    models = make()
    with caplog.at_level(logging.WARNING, "flux_speedup"):
        for _ in range(3):
            assert models.hf_download(network, "face.pt") == "INVALID"
    assert len(network.asked) == 3
    (record,) = caplog.records
    assert str(path) in record.getMessage()
    assert sha256(OTHER) in record.getMessage()
    (row,) = models.report()
    assert row.state is WeightState.REFUSED
    assert sha256(OTHER) in row.why


def test_an_error_of_the_original_is_the_callers(make: Make) -> None:
    def broken(*_: Any, **__: Any) -> str:
        raise OSError("no network")

    with pytest.raises(OSError, match="no network"):
        make().hf_download(broken, "face.pt")


def test_an_error_of_ours_is_told_and_the_original_is_asked(
    tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    def broken(_: str) -> list[Path]:
        raise RuntimeError("the WebUI's folders are odd")

    catalog, network = Catalog((entry(),)), Network()
    models = LocalModels(catalog, Resolver(catalog, broken, Digests(None), lambda *_: None))
    with caplog.at_level(logging.WARNING, "flux_speedup"):
        assert models.hf_download(network, "face.pt") == "INVALID"
    assert len(network.asked) == 1
    assert "downloaded as before" in caplog.text


def test_many_threads_get_the_right_files(make: Make, tmp_path: Path) -> None:
    names = [f"weight-{number}.pt" for number in range(24)]
    contents = {name: CONTENT + name.encode() for name in names}
    entries = [entry(n, bytes=len(contents[n]), sha256=sha256(contents[n])) for n in names]
    for name in names[::2]:
        put(tmp_path / "webui", name, contents[name])
    models, network = make(*entries), Network()
    with ThreadPoolExecutor(12) as pool:
        found = list(pool.map(lambda name: models.hf_download(network, name), names * 3))
    expected = [str(tmp_path / "webui" / n) if n in names[::2] else "INVALID" for n in names]
    assert found == expected * 3
    assert sorted(args[0] for args, _ in network.asked) == sorted(names[1::2] * 3)
    assert [row.name for row in models.report()] == names


def test_load_file_from_url_knows_addresses_and_names(make: Make, tmp_path: Path) -> None:
    path, network = put(tmp_path / "webui", "ESRGAN_4x.pth"), Network()
    models, folder = make(esrgan()), str(tmp_path / "download")
    for call in (
        lambda: models.load_file_from_url(network, URL, model_dir=folder, file_name="ESRGAN_4x.pth"),
        lambda: models.load_file_from_url(network, url=URL, model_dir=folder),
        lambda: models.load_file_from_url(network, "https://else/ESRGAN_4x.pth?download=1", model_dir=folder),
        lambda: models.load_file_from_url(
            network, URL, model_dir=folder, hash_prefix=sha256(CONTENT)[:10].upper(), progress=False
        ),
    ):
        assert call() == str(path)
    assert network.asked == []
    assert not (tmp_path / "download").exists()


@pytest.mark.parametrize(
    ("args", "named"),
    [
        ((URL,), {"re_download": True}),
        ((URL,), {"hash_prefix": "0000"}),
        (("https://else/where.pth",), {}),
        ((URL, "positional"), {}),
        ((None,), {}),
    ],
)
def test_calls_that_want_something_of_their_own_go_through(
    make: Make, tmp_path: Path, args: tuple[Any, ...], named: dict[str, Any]
) -> None:
    put(tmp_path / "webui", "ESRGAN_4x.pth")
    network = Network()
    models = make(esrgan())
    assert models.load_file_from_url(network, *args, model_dir=str(tmp_path), **named) == "INVALID"
    assert network.asked == [(args, {"model_dir": str(tmp_path), **named})]


def test_the_callers_own_folder_comes_first_unless_its_file_is_bad(make: Make, tmp_path: Path) -> None:
    ours, theirs = put(tmp_path / "webui", "ESRGAN_4x.pth"), put(tmp_path / "theirs", "ESRGAN_4x.pth")
    models, network = make(esrgan()), Network()
    asked = {"model_dir": str(theirs.parent), "file_name": "ESRGAN_4x.pth"}
    assert models.load_file_from_url(network, URL, **asked) == str(theirs)
    theirs.write_bytes(b"<!doctype html>")
    assert models.load_file_from_url(network, URL, **asked) == str(ours)
    assert network.asked == []


def test_the_report_computes_no_digest(make: Make, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    from flux_speedup.local_models import digests

    path = put(tmp_path / "webui")
    monkeypatch.setattr(digests, "_sha256", lambda _: pytest.fail("a digest was computed"))
    (row,) = make().report()
    assert (row.state, row.path) == (WeightState.FOUND, str(path))
    assert "when it is used" in row.why


def test_the_summary_names_every_weight_by_what_became_of_it() -> None:
    rows = [
        LocalWeight("a.pt", "adetailer", WeightState.REDIRECTED),
        LocalWeight("b.pt", "adetailer", WeightState.MISSING),
        LocalWeight("c.pt", "adetailer", WeightState.REDIRECTED),
    ]
    assert summary(rows) == "redirected: a.pt, c.pt; missing: b.pt"
    assert summary(rows[1:2] * 2) == "none of 2 is here; whoever needs one downloads it, or fetch.py does"
    assert summary([]) == "the catalog is empty"
