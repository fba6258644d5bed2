"""Which files are used and which are refused: paths that lead elsewhere, things that are no files, bad content."""

from __future__ import annotations

import os
import sys
import threading
from pathlib import Path

import pytest

from flux_speedup.local_models.digests import Digests
from flux_speedup.local_models.examine import Refused, Usable, Verdict, examine
from tests.unit.local_models.files import CONTENT, OTHER, entry, put, sha256
from tests.waiting import PATIENCE_S

posix = pytest.mark.skipif(sys.platform == "win32", reason="POSIX files")


def look(root: Path, name: str = "face.pt", **fields: object) -> Verdict:
    return examine(root, name, entry(**fields), Digests(None))


def refused(verdict: Verdict) -> str:
    assert isinstance(verdict, Refused), verdict
    return verdict.why


def test_the_right_file_is_used(tmp_path: Path) -> None:
    path = put(tmp_path)
    assert look(tmp_path) == Usable(path, len(CONTENT), sure=True)


def test_nothing_there_is_no_refusal(tmp_path: Path) -> None:
    assert look(tmp_path) is None
    assert look(tmp_path / "no folder") is None


@pytest.mark.parametrize(
    "name",
    [
        "../face.pt",
        "a/../../face.pt",
        "..",
        ".",
        "",
        "/etc/passwd",
        "/face.pt",
        "//server/share/face.pt",
        "\\\\server\\share\\face.pt",
        "..\\face.pt",
        "C:\\face.pt",
        "C:face.pt",
        "face.pt:stream",
        "file:///etc/passwd",
        "file:face.pt",
        "http://host/face.pt",
        "https://host/face.pt",
        "face\0.pt",
        "face.pt\0.png",
        'fa"ce.pt',
        "fa'ce.pt",
        "face\n.pt",
        "face.pt\n",
        "face\r.pt",
        "face.pt ",
        " face.pt",
        "face.pt.",
        "nul.pt",
        "CON",
        "com1.pt",
        "a" * 300 + ".pt",
        "fa*ce.pt",
        "face?.pt",
        "$HOME.pt",
        "~",
        "`id`.pt",
    ],
)
def test_names_that_are_no_plain_names_are_refused_before_anything_is_opened(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, name: str
) -> None:
    root = tmp_path / "root"
    put(root)
    put(tmp_path)

    def touched(*_: object, **__: object) -> None:
        raise AssertionError("the file system was asked")

    digests = Digests(None)
    for function in ("open", "stat"):
        monkeypatch.setattr(os, function, touched)
    monkeypatch.setattr(os.path, "realpath", touched)
    assert refused(examine(root, name, entry(), digests))


@pytest.mark.parametrize("name", ["sub/face.pt", "my faces (2)/face v1.5 [a].pt", "\u4eba\u8138/\u00e9.pt"])
def test_plain_names_of_any_script_are_fine(tmp_path: Path, name: str) -> None:
    path = put(tmp_path, name)
    assert look(tmp_path, name) == Usable(path, len(CONTENT), sure=True)


def test_another_suffix_is_refused(tmp_path: Path) -> None:
    put(tmp_path, "face.exe")
    assert ".safetensors" in refused(look(tmp_path, "face.exe"))


@posix
def test_a_link_inside_is_followed_and_one_that_leads_out_is_refused(tmp_path: Path) -> None:
    root, outside = tmp_path / "root", tmp_path / "outside"
    put(root / "blobs", "abc")
    put(outside)
    (root / "face.pt").symlink_to(root / "blobs" / "abc")
    assert isinstance(look(root), Usable)
    (root / "face.pt").unlink()
    (root / "face.pt").symlink_to(outside / "face.pt")
    assert "leads out" in refused(look(root, sha256=None))
    assert "leads out" in refused(look(root, bytes=None))
    (root / "sub").symlink_to(outside)
    assert "leads out" in refused(look(root, "sub/face.pt", sha256=None))
    # A root that has the other's name at its beginning is another folder.
    put(tmp_path / "root2")
    (root / "near.pt").symlink_to(tmp_path / "root2" / "face.pt")
    assert "leads out" in refused(look(root, "near.pt", sha256=None))


@posix
def test_a_link_to_another_disk_is_used_where_size_and_sha256_prove_it(tmp_path: Path) -> None:
    root, disk = tmp_path / "root", tmp_path / "disk"
    put(disk)
    root.mkdir()
    (root / "face.pt").symlink_to(disk / "face.pt")
    assert look(root) == Usable(root / "face.pt", len(CONTENT), sure=True)
    put(disk, content=OTHER)
    assert "sha256" in refused(look(root))
    assert "sha256" in refused(look(root, confirmed=False))
    put(disk, content=CONTENT + b"x")
    assert "bytes" in refused(look(root, confirmed=False))


@posix
def test_a_root_that_is_a_link_is_the_folder_it_names(tmp_path: Path) -> None:
    put(tmp_path / "real")
    (tmp_path / "root").symlink_to(tmp_path / "real")
    assert isinstance(look(tmp_path / "root"), Usable)


@posix
def test_links_in_a_circle_or_into_nothing(tmp_path: Path) -> None:
    (tmp_path / "a.pt").symlink_to(tmp_path / "b.pt")
    (tmp_path / "b.pt").symlink_to(tmp_path / "a.pt")
    assert "cannot be read" in refused(look(tmp_path, "a.pt"))
    (tmp_path / "face.pt").symlink_to(tmp_path / "nothing.pt")
    assert look(tmp_path) is None


@posix
def test_a_fifo_a_device_and_a_folder_are_refused_without_waiting(tmp_path: Path) -> None:
    os.mkfifo(tmp_path / "face.pt")
    found: list[Verdict] = []
    thread = threading.Thread(target=lambda: found.append(look(tmp_path)), daemon=True)
    thread.start()
    thread.join(PATIENCE_S)
    assert found, "looking at a FIFO waits for whoever writes into it"
    assert "regular file" in refused(found[0])
    (tmp_path / "folder.pt").mkdir()
    assert "regular file" in refused(look(tmp_path, "folder.pt"))
    (tmp_path / "zero.pt").symlink_to("/dev/zero")
    assert "regular file" in refused(look(tmp_path, "zero.pt"))
    assert "regular file" in refused(examine(Path("/dev"), "fd", entry(), Digests(None), suffix=False))


@posix
def test_a_file_that_becomes_a_fifo_meanwhile_is_refused_without_waiting(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    from flux_speedup.local_models import examine as module

    monkeypatch.setattr(module, "_why_not_there", lambda *_: None)
    os.mkfifo(tmp_path / "face.pt")
    found: list[Verdict] = []
    thread = threading.Thread(target=lambda: found.append(look(tmp_path)), daemon=True)
    thread.start()
    thread.join(PATIENCE_S)
    assert found, "opening a FIFO waits for whoever writes into it"
    assert "regular file" in refused(found[0])


@posix
@pytest.mark.skipif(os.name != "posix" or os.geteuid() == 0, reason="root may read everything")
def test_a_file_that_may_not_be_read_is_refused(tmp_path: Path) -> None:
    put(tmp_path).chmod(0)
    assert "cannot be read" in refused(look(tmp_path))


@pytest.mark.parametrize(
    ("content", "named"),
    [
        (b"", "empty"),
        (b"version https://git-lfs.github.com/spec/v1\noid sha256:aa\nsize 6\n", "LFS"),
        (b"<!DOCTYPE html><html>", "web page"),
        (b"\xef\xbb\xbf\n <HTML>", "web page"),
        (b'<?xml version="1.0"?><Error>', "web page"),
        (b"Entry not found", "text"),
        (b'{"error": "gone"}\n', "text"),
    ],
)
def test_what_is_no_weights_is_refused_also_where_nothing_is_known(
    tmp_path: Path, content: bytes, named: str
) -> None:
    put(tmp_path, content=content)
    assert named in refused(look(tmp_path, bytes=None, sha256=None))


def test_where_nothing_is_known_any_plausible_file_is_used(tmp_path: Path) -> None:
    put(tmp_path, content=OTHER)
    assert look(tmp_path, bytes=None, sha256=None) == Usable(tmp_path / "face.pt", len(OTHER), sure=True)


def test_another_size_or_sha256_is_refused_with_both(tmp_path: Path) -> None:
    put(tmp_path, content=CONTENT + b"\0")
    assert f"{len(CONTENT) + 1} bytes, not {len(CONTENT)}" in refused(look(tmp_path))
    put(tmp_path, content=OTHER)
    why = refused(look(tmp_path))
    assert sha256(OTHER) in why
    assert sha256(CONTENT) in why


def test_a_sha256_that_one_source_states_is_a_warning(tmp_path: Path) -> None:
    path = put(tmp_path, content=OTHER)
    found = look(tmp_path, confirmed=False)
    assert isinstance(found, Usable)
    assert (found.path, found.sure) == (path, False)
    assert "only one source" in found.why


def test_without_hashing_the_answer_is_not_sure(tmp_path: Path) -> None:
    put(tmp_path)
    digests = Digests(None)
    found = examine(tmp_path, "face.pt", entry(), digests, hashing=False)
    assert isinstance(found, Usable)
    assert not found.sure
    examine(tmp_path, "face.pt", entry(), digests)
    again = examine(tmp_path, "face.pt", entry(), digests, hashing=False)
    assert isinstance(again, Usable)
    assert again.sure


def test_a_digest_is_computed_once_until_the_file_changes(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    path, kept = put(tmp_path / "models"), tmp_path / "cache" / "digests.json"
    examine(path.parent, "face.pt", entry(), Digests(kept))
    from flux_speedup.local_models import digests as module

    computed: list[int] = []
    original = module._sha256
    monkeypatch.setattr(module, "_sha256", lambda fd: computed.append(fd) or original(fd))
    # In another process's place: only the file knows.
    assert isinstance(examine(path.parent, "face.pt", entry(), Digests(kept)), Usable)
    assert computed == []
    path.write_bytes(OTHER)
    os.utime(path, ns=(1, 1))
    assert isinstance(examine(path.parent, "face.pt", entry(), Digests(kept)), Refused)
    assert len(computed) == 1
