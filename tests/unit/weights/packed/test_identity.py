"""Which weight file a packed one counts for: another name or mode costs a comparison, other bytes all of it."""

from __future__ import annotations

import os
import sys
from collections.abc import Callable
from pathlib import Path

import pytest

from flux_speedup.weights.files.identity import HAS_CTIME
from flux_speedup.weights.packed.index import Index
from flux_speedup.weights.packed.packing import NotPacked
from tests.unit.weights.packed.packing_of import Loading, begun, checkpoint, finish, pack, places_of, room_in
from tests.unit.weights.weight_files import raw_bytes

UNSEEN = 300_000
"""A byte that no sample looks at."""


def renamed(path: Path) -> Path:
    return path.rename(path.with_name("better-name.safetensors"))


def moved_down(path: Path) -> Path:
    (path.parent / "flux").mkdir()
    return path.rename(path.parent / "flux" / path.name)


def moved_aside(path: Path) -> Path:
    (path.parent.parent / "unet").mkdir()
    return path.rename(path.parent.parent / "unet" / path.name)


def another_mode(path: Path) -> Path:
    path.chmod(0o600)
    return path


def another_inode(path: Path) -> Path:
    """As from a backup, or moved to another disk and back."""
    stat, raw = path.stat(), path.read_bytes()
    path.unlink()
    path.write_bytes(raw)
    os.utime(path, ns=(stat.st_atime_ns, stat.st_mtime_ns))
    return path


CHANGES = (renamed, moved_down, moved_aside, another_mode, another_inode)


def packed(folder: Path) -> tuple[Loading, dict[str, bytes]]:
    (folder / "models").mkdir()
    loading = Loading.of(folder / "models")
    pack(loading.path, room_in(loading.folder))
    return loading, loading.load()[0]


def written_in_secret(path: Path) -> None:
    """Other bytes, the same size and time, where no sample looks."""
    before = path.stat()
    with path.open("r+b") as file:
        file.seek(UNSEEN)
        byte = file.read(1)[0]
        file.seek(UNSEEN)
        file.write(bytes([byte ^ 1]))
    os.utime(path, ns=(before.st_atime_ns, before.st_mtime_ns))


def replaced_in_secret(path: Path) -> None:
    """The same, by another file that takes its name."""
    before, other = path.stat(), path.with_suffix(".new")
    other.write_bytes(path.read_bytes())
    written_in_secret(other)
    os.utime(other, ns=(before.st_atime_ns, before.st_mtime_ns))
    other.replace(path)


@pytest.mark.parametrize("change", CHANGES)
def test_a_file_with_another_name_or_mode_is_compared_and_nothing_made_anew(
    tmp_path: Path, change: Callable[[Path], Path]
) -> None:
    loading, right = packed(tmp_path)
    whole = loading.places.packed
    made = whole.stat()
    loading.path = change(loading.path)
    room = room_in(loading.folder)
    again = room.sweep()
    if HAS_CTIME or change in (renamed, moved_down, moved_aside, another_inode):
        assert list(again) == [loading.path]
    for path in again:
        assert pack(path, room) == ["comparing"] * len(checkpoint()) + ["packed"]
    assert room.sweep() == {}
    loading.store.look_again()
    found, read = loading.load()
    assert found == right
    assert whole in read
    assert (whole.stat().st_ino, whole.stat().st_mtime_ns) == (made.st_ino, made.st_mtime_ns)
    assert {file.suffix for file in loading.folder.iterdir()} == {".packed", ".index"}


@pytest.mark.skipif(not HAS_CTIME, reason="without a ctime a sample is all there is")
@pytest.mark.parametrize("change", [None, *CHANGES])
@pytest.mark.parametrize("written", [written_in_secret, replaced_in_secret])
def test_other_bytes_are_never_served(
    tmp_path: Path, written: Callable[[Path], None], change: Callable[[Path], Path] | None
) -> None:
    loading, right = packed(tmp_path)
    places = loading.places
    written(loading.path)
    if change is not None:
        loading.path = change(loading.path)
    assert loading.places == places, "size, time and sample are to be the same"
    found, read = loading.load()
    assert found != right
    assert set(read) == {loading.path}
    with pytest.raises(NotPacked, match="other bytes"):
        pack(loading.path, room_in(loading.folder))
    assert not places.packed.exists()
    pack(loading.path, room_in(loading.folder))
    loading.store.look_again()
    now, read = loading.load()
    assert now == found
    assert places.packed in read


@pytest.mark.skipif(not HAS_CTIME, reason="without a ctime a sample is all there is")
def test_another_mode_while_it_is_compared(tmp_path: Path) -> None:
    """What was compared before may have been written to since: it begins anew, and finds it."""
    loading, _ = packed(tmp_path)
    loading.path.chmod(0o600)
    making = begun(loading.path, room_in(loading.folder), len(checkpoint()))
    written_in_secret(loading.path)
    loading.path.chmod(0o640)
    with pytest.raises(NotPacked, match="other bytes"):
        finish(making)


def test_another_mode_while_it_is_packed(tmp_path: Path) -> None:
    loading = Loading.of(tmp_path)
    room = room_in(loading.folder)
    making = begun(loading.path, room)
    loading.path.chmod(0o600)
    finish(making)
    assert Index.counting(loading.places.packed, loading.registry.open(loading.path).identity)


@pytest.mark.skipif(sys.platform == "win32", reason="an open file keeps its name there")
def test_another_name_while_it_is_packed(tmp_path: Path) -> None:
    """What was written is gone on with under the new one."""
    loading = Loading.of(tmp_path)
    room = room_in(loading.folder)
    making = begun(loading.path, room, 2)
    loading.path = renamed(loading.path)
    with pytest.raises(FileNotFoundError):
        finish(making)
    assert list(room.sweep()) == [loading.path]
    making = begun(loading.path, room)
    assert loading.places.entries() == 2, "they were there"
    finish(making)
    assert places_of(loading.path, loading.folder).packed.exists()


def test_a_packed_file_that_was_damaged_is_found_when_it_is_compared(tmp_path: Path) -> None:
    loading, right = packed(tmp_path)
    whole = loading.places.packed
    loading.path = another_inode(loading.path)
    raw = bytearray(whole.read_bytes())
    raw[100_000] ^= 8
    whole.write_bytes(raw)
    with pytest.raises(NotPacked, match="other bytes"):
        pack(loading.path, room_in(loading.folder))
    assert not whole.exists()
    pack(loading.path, room_in(loading.folder))
    loading.store.look_again()
    found, read = loading.load()
    assert whole in read
    assert found == right
    assert right["bias"] == raw_bytes(loading.registry.open(loading.path).views()["bias"])
