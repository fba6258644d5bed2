"""Which of several files is taken: the Hugging Face cache first, unless only another one is surely right."""

from __future__ import annotations

from pathlib import Path

import pytest

from flux_speedup.local_models.catalog import Catalog, Entry
from flux_speedup.local_models.digests import Digests
from flux_speedup.local_models.hub import cached
from flux_speedup.local_models.resolve import Found, Resolver
from tests.unit.local_models.files import CONTENT, OTHER, entry, put


class Places:
    """A Hugging Face cache, the catalog's folder, the WebUI's folder: all empty."""

    def __init__(self, tmp_path: Path) -> None:
        self.hub, self.own, self.webui = tmp_path / "hub", tmp_path / "own", tmp_path / "webui"

    def find(self, wanted: Entry, *extra: Path) -> Found:
        def hub(repo: str, file: str) -> tuple[Path, str] | None:
            return (self.hub, file) if (self.hub / file).exists() else None

        resolver = Resolver(Catalog((wanted,), self.own), lambda _: [self.webui], Digests(None), hub)
        return resolver.find(wanted, extra)


@pytest.fixture
def places(tmp_path: Path) -> Places:
    return Places(tmp_path)


def used(found: Found) -> Path:
    assert found.usable is not None, found
    return found.usable.path


def test_the_order_is_the_callers_folder_cache_own_folder_webuis(places: Places, tmp_path: Path) -> None:
    expected = [
        put(tmp_path / "given"),
        put(places.hub),
        put(places.own / "adetailer"),
        put(places.own),
        put(places.webui),
        put(places.webui / "deep" / "er"),
    ]
    for path in expected:
        assert used(places.find(entry(), tmp_path / "given")) == path
        path.unlink()
    assert places.find(entry()) == Found(None, ())


def test_the_folders_file_wins_where_only_it_has_the_sha256(places: Places) -> None:
    stale, right = put(places.hub, content=OTHER), put(places.webui)
    found = places.find(entry())
    assert used(found) == right
    assert [refused.path for refused in found.refused] == [stale]
    assert used(places.find(entry(confirmed=False))) == right


def test_the_caches_file_wins_where_nothing_is_known(places: Places) -> None:
    stale = put(places.hub, content=OTHER)
    put(places.webui)
    assert used(places.find(entry(sha256=None, bytes=None))) == stale


def test_a_warning_is_better_than_nothing(places: Places) -> None:
    first = put(places.hub, content=OTHER)
    put(places.webui, content=OTHER)
    found = places.find(entry(confirmed=False))
    assert used(found) == first
    assert found.usable is not None
    assert "only one source" in found.usable.why


def test_where_all_are_wrong_each_is_named(places: Places) -> None:
    paths = {put(places.hub, content=OTHER), put(places.webui, content=b"<html>")}
    found = places.find(entry())
    assert found.usable is None
    assert {refused.path for refused in found.refused} == paths


def test_an_entry_without_repository_asks_no_cache(places: Places) -> None:
    put(places.hub)
    assert places.find(entry(repo=None, repo_file=None)).usable is None


def test_the_real_librarys_cache_is_understood(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    constants = pytest.importorskip("huggingface_hub.constants")
    monkeypatch.setattr(constants, "HF_HUB_CACHE", str(tmp_path))
    import huggingface_hub.file_download as library

    monkeypatch.setattr(library, "HF_HUB_CACHE", str(tmp_path), raising=False)
    repo = tmp_path / "models--Bingsu--adetailer"
    revision = "a" * 40
    blob = put(repo / "blobs", "b" * 64)
    snapshot = repo / "snapshots" / revision
    snapshot.mkdir(parents=True)
    (snapshot / "face.pt").symlink_to(Path("..") / ".." / "blobs" / blob.name)
    put(repo / "refs", "main", revision.encode())
    found = cached("Bingsu/adetailer", "face.pt")
    assert found is not None
    assert found[0] == tmp_path
    assert (found[0] / found[1]).read_bytes() == CONTENT
    resolver = Resolver(Catalog(), lambda _: [], Digests(None), cached)
    assert used(resolver.find(entry())) == snapshot / "face.pt"
    assert cached("Bingsu/adetailer", "other.pt") is None


@pytest.mark.parametrize("repo", ["a/b--c", "a/b-", f"{'a' * 60}/{'b' * 60}"])
def test_a_name_that_the_real_library_refuses_is_not_in_its_cache(repo: str) -> None:
    pytest.importorskip("huggingface_hub")
    found = Resolver(Catalog(), lambda _: [], Digests(None), cached).find(entry(repo=repo))
    assert (found.usable, found.refused) == (None, ())
