"""The catalog: what is shipped, a user's own entries, and a sentence for everything that does not fit."""

from __future__ import annotations

import json
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from flux_speedup.configuration.config import Source
from flux_speedup.configuration.config import load as load_config
from flux_speedup.local_models.catalog import Catalog, load

SHIPPED = Path(__file__).resolve().parents[3] / "extensions" / "flux-speedup" / "config.json"


def shipped() -> Source:
    return Source("config.json", json.loads(SHIPPED.read_text(encoding="utf-8")))


def own(*rows: object, **more: object) -> Source:
    return Source("own.json", {"catalog": {"weights": list(rows), **more}})


def test_the_shipped_catalog_has_the_nine_weights_and_says_nothing() -> None:
    found = load([shipped()])
    assert found.problems == ()
    assert [entry.file for entry in found.of_kind("adetailer")] == [
        "face_yolov8n.pt", "face_yolov8s.pt", "hand_yolov8n.pt",
        "person_yolov8n-seg.pt", "person_yolov8s-seg.pt", "yolov8x-worldv2.pt",
    ]  # fmt: skip
    assert [entry.file for entry in found.entries[6:]] == [
        "ESRGAN_4x.pth", "4x-UltraSharp.pth", "RealESRGAN_x4plus.pth",
    ]  # fmt: skip
    assert [entry.folder for entry in found.entries] == ["adetailer"] * 6 + ["ESRGAN", "ESRGAN", "RealESRGAN"]
    assert [entry.file for entry in found.entries if not entry.confirmed] == ["person_yolov8s-seg.pt"]
    assert all(entry.repo or entry.url for entry in found.entries)


def test_the_configuration_leaves_the_catalog_to_this_room() -> None:
    assert load_config([shipped()]).problems == ()


def test_a_users_entry_is_added_and_one_with_the_same_file_replaces() -> None:
    new = {"file": "mine.safetensors", "kind": "hats", "url": "https://example.org/m.safetensors"}
    known = {
        "file": "ESRGAN_4x.pth",
        "kind": "esrgan",
        "url": "http://nas/e.pth",
        "bytes": 5,
        "sha256": "A" * 64,
    }
    found = load([own(new, known), shipped()])
    assert found.problems == ()
    assert len(found.entries) == 10
    assert (found.entries[-1].file, found.entries[-1].folder) == ("mine.safetensors", "hats")
    assert (found.entries[6].url, found.entries[6].bytes, found.entries[6].sha256) == (
        "http://nas/e.pth",
        5,
        "a" * 64,
    )


def test_entries_are_found_by_repository_address_and_name() -> None:
    found = load([shipped()])
    by_hub = found.by_hub("Bingsu/adetailer", "face_yolov8n.pt")
    assert by_hub is not None
    assert by_hub.sha256 is not None
    assert by_hub.sha256.startswith("70b640f8")
    assert found.by_hub("somebody/else", "face_yolov8n.pt") is None
    by_name = found.by_url("https://else/where.pth", "4x-UltraSharp.pth")
    assert by_name is not None
    assert found.by_url("https://else/where.pth", "unknown.pth") is None


BAD = [
    ({"kind": "esrgan"}, "file"),
    ({"file": "a.exe", "kind": "esrgan"}, ".safetensors"),
    ({"file": "a.pt"}, "kind"),
    ({"file": "a.pt", "kind": "E S"}, "kind"),
    ({"file": "a.pt", "kind": "x", "folder": "../up"}, "folder"),
    ({"file": "a.pt", "kind": "x", "folder": "/etc"}, "folder"),
    ({"file": "a.pt", "kind": "x", "repo": "one"}, "repo"),
    ({"file": "a.pt", "kind": "x", "repo": "../.."}, "repo"),
    ({"file": "a.pt", "kind": "x", "repo": "a/b", "repo_file": "../c.pt"}, "repo_file"),
    ({"file": "a.pt", "kind": "x", "url": "file:///etc/passwd"}, "url"),
    ({"file": "a.pt", "kind": "x", "url": "ftp://host/a.pt"}, "url"),
    ({"file": "a.pt", "kind": "x", "url": "http://host/a b"}, "url"),
    ({"file": "a.pt", "kind": "x", "bytes": -1}, "bytes"),
    ({"file": "a.pt", "kind": "x", "bytes": True}, "bytes"),
    ({"file": "a.pt", "kind": "x", "sha256": "abc"}, "sha256"),
    ({"file": "a.pt", "kind": "x", "confirmed": "no"}, "confirmed"),
    ({"file": "a.pt", "kind": "x", "color": 1}, "color"),
    ("a.pt", "not an object"),
]


@pytest.mark.parametrize(("row", "named"), BAD)
def test_a_bad_entry_is_one_sentence_and_the_others_stay(row: object, named: str) -> None:
    good = {"file": "good.pt", "kind": "adetailer"}
    found = load([own(row, good)])
    assert [entry.file for entry in found.entries] == ["good.pt"]
    (problem,) = found.problems
    assert problem.startswith("own.json: catalog.weights[0]")
    assert named in problem


@pytest.mark.parametrize("section", [[], "all", 3, {"weights": "all"}, {"weights": [{}] * 1001}])
def test_a_bad_section_is_one_sentence(section: object) -> None:
    found = load([Source("own.json", {"catalog": section}), shipped()])
    assert len(found.entries) == 9
    assert len(found.problems) == 1
    assert "own.json: catalog" in found.problems[0]


def test_the_folder_is_absolute_and_local(tmp_path: Path) -> None:
    assert load([own(folder=str(tmp_path))]).folder == tmp_path
    assert load([own(folder=None)]).folder is None
    for bad in ("relative", "\\\\server\\share", "//server/share", "/a\nb", 3):
        found = load([own(folder=bad)])
        assert found.folder is None
        assert "catalog.folder" in found.problems[0]


@pytest.mark.parametrize("name", ["command line", "environment", "settings"])
def test_only_files_count(name: str) -> None:
    row = {"file": "a.pt", "kind": "adetailer"}
    assert load([Source(name, {"catalog": {"folder": "/tmp", "weights": [row]}})]) == Catalog()


@given(
    st.recursive(
        st.none() | st.booleans() | st.integers() | st.text(),
        lambda x: (
            st.lists(x) | st.dictionaries(st.sampled_from(["file", "kind", "weights", "folder", "url"]), x)
        ),
    )
)
def test_nothing_whatever_raises(value: object) -> None:
    for section in (value, {"weights": value}, {"weights": [value]}, {"folder": value}):
        assert isinstance(load([Source("own.json", {"catalog": section})]), Catalog)


def test_what_is_wrong_with_a_catalog_fills_no_log() -> None:
    rows = [{"file": "x" * 5000, "kind": "adetailer", f"k{number}" * 1000: 1} for number in range(900)]
    found = load([Source("some.json", {"catalog": {"weights": rows, "y" * 5000: 1}})])
    assert len(found.problems) <= 21
    assert max(map(len, found.problems)) < 4000
