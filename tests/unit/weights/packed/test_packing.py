"""Making packed files: cut off and gone on with, in the way of each other, without room, of a file that changes."""

from __future__ import annotations

import os
import sys
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import pytest
import torch

from flux_speedup.weights.packed import index as indexes
from flux_speedup.weights.packed.index import _digest
from flux_speedup.weights.packed.packing import NotPacked, packing
from flux_speedup.weights.packed.room import RESERVE, Room
from tests.unit.weights.packed.packing_of import (
    Loading,
    begun,
    checkpoint,
    finish,
    pack,
    places_of,
    room_in,
    weights,
)
from tests.unit.weights.weight_files import raw_bytes, write_weights


def test_what_is_packed_is_read_in_the_files_place(tmp_path: Path) -> None:
    loading = Loading.of(tmp_path)
    before, read = loading.load()
    assert set(read) == {loading.path}
    pack(loading.path, room_in(loading.folder))
    loading.store.look_again()
    after, read = loading.load()
    assert after == before == {n.replace(".", "_"): raw_bytes(t) for n, t in checkpoint().items()}
    packed = loading.places.packed
    # What gains nothing and is not small is in the weight file alone.
    assert set(read) == {packed, loading.path}
    gains = sum(each.nbytes for each in checkpoint().values() if each.dtype is torch.bfloat16)
    assert packed.stat().st_size < 0.77 * gains
    assert sorted(p.suffix for p in loading.folder.iterdir()) == [".index", ".packed"]


def test_the_same_file_is_made_side_by_side_and_where_files_have_one_position(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    tensors = {**checkpoint(), "large.weight": weights(10_000_000, 5)}
    path = write_weights(tmp_path / "flux.safetensors", tensors)
    pack(path, room_in(tmp_path / "alone"))
    with ThreadPoolExecutor(4) as pool:
        assert finish(packing(path, room_in(tmp_path / "together"), pool.map))[-1] == "packed"
    monkeypatch.delattr(os, "preadv", raising=False)  # Windows has none
    pack(path, room_in(tmp_path / "windows"))
    made = {places_of(path, tmp_path / name).packed.read_bytes() for name in ("alone", "together", "windows")}
    assert len(made) == 1


def test_a_part_that_was_damaged_meanwhile_does_not_count(tmp_path: Path) -> None:
    loading, room = Loading.of(tmp_path), room_in(tmp_path / "packed")
    begun(loading.path, room, 3).close()
    with loading.places.packed.open("r+b") as packed:
        packed.seek(5000)
        packed.write(b"damage")
    with pytest.raises(NotPacked, match="other bytes"):
        pack(loading.path, room)
    assert not loading.places.packed.exists()
    pack(loading.path, room)
    assert loading.places.packed.exists()


@pytest.mark.parametrize(
    "index", [b"", b"no json\n", b'["x", {}, [], false]', b"\xff\xfe\n" * 9, b"[1]", b"[" * 100_000]
)
@pytest.mark.parametrize("right", [True, False])
def test_an_index_that_is_none(tmp_path: Path, index: bytes, right: bool) -> None:
    loading, room = Loading.of(tmp_path), room_in(tmp_path / "packed")
    places = loading.places
    loading.folder.mkdir()
    digest = _digest(index.decode(errors="replace")).encode() if right else b"0" * 64
    places.index.write_bytes(digest + b"\n" + index)
    places.packed.write_bytes(b"x" * 100)
    pack(loading.path, room)
    before = loading.load()[0]
    assert before == {name.replace(".", "_"): raw_bytes(t) for name, t in checkpoint().items()}


def test_what_another_version_made_does_not_count(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    loading, room = Loading.of(tmp_path), room_in(tmp_path / "packed")
    with monkeypatch.context() as another:
        another.setattr(indexes, "VERSION", 0)
        pack(loading.path, room)
    before, read = loading.load()
    assert set(read) == {loading.path}
    assert pack(loading.path, room)[0] == "packing"
    loading.store.look_again()
    after, read = loading.load()
    assert loading.places.packed in read
    assert after == before


def test_a_file_that_is_changed_meanwhile(tmp_path: Path) -> None:
    path = write_weights(tmp_path / "flux.safetensors", checkpoint())
    making = begun(path, room_in(tmp_path / "packed"))
    with path.open("r+b") as file:
        file.seek(-1, 2)
        file.write(b"?")
    with pytest.raises(NotPacked, match="changed"):
        next(making)
    assert not list((tmp_path / "packed").iterdir())


@pytest.mark.skipif(sys.platform == "win32", reason="an open file keeps its name there")
@pytest.mark.parametrize("there_is_another", [True, False])
def test_a_file_that_is_replaced_or_deleted_meanwhile(tmp_path: Path, there_is_another: bool) -> None:
    path = write_weights(tmp_path / "flux.safetensors", checkpoint())
    other = write_weights(tmp_path / "other.safetensors", {"layer.weight": weights(200_000, 9)})
    making = begun(path, room_in(tmp_path / "packed"))
    other.replace(path) if there_is_another else path.unlink()
    with pytest.raises((NotPacked, FileNotFoundError), match="changed" if there_is_another else "No such"):
        finish(making)
    assert room_in(tmp_path / "packed").sweep() == {}
    assert not list((tmp_path / "packed").iterdir())


def test_a_packed_file_counts_for_its_file_alone(tmp_path: Path) -> None:
    loading = Loading.of(tmp_path)
    pack(loading.path, room_in(loading.folder))
    changed = {**checkpoint(), "layer.weight": weights(5 * 65536, 7).view(320, 1024)}
    write_weights(tmp_path / "new.safetensors", changed).replace(loading.path)
    found, read = loading.load()
    assert found["layer_weight"] == raw_bytes(changed["layer.weight"])
    assert set(read) == {loading.path}


def test_another_files_packed_form_under_this_ones_name(tmp_path: Path) -> None:
    loading = Loading.of(tmp_path)
    other = write_weights(tmp_path / "other.safetensors", {**checkpoint(), "bias": weights(64, 8)})
    for path in (loading.path, other):
        pack(path, room_in(loading.folder))
    places_of(other, loading.folder).packed.replace(loading.places.packed)
    found, read = loading.load()
    assert found["bias"] == raw_bytes(checkpoint()["bias"])
    assert loading.path in read


@pytest.mark.skipif(not Path("/proc/self/fd").is_dir(), reason="nothing tells which files are open")
def test_no_file_is_open_and_no_tensor_held_between_two_tensors(tmp_path: Path) -> None:
    """Windows deletes nothing that is open, and an image may take minutes."""
    loading = Loading.of(tmp_path)
    making = begun(loading.path, room_in(loading.folder))
    opened = {Path(each).resolve() for each in Path("/proc/self/fd").iterdir()}
    assert not [name for name, each in making.gi_frame.f_locals.items() if hasattr(each, "nbytes")]
    making.close()
    assert not opened & {loading.path, loading.places.packed, loading.places.index}


def test_two_at_once(tmp_path: Path) -> None:
    path, room = write_weights(tmp_path / "flux.safetensors", checkpoint()), room_in(tmp_path / "packed")
    first = begun(path, room)
    with pytest.raises(BlockingIOError, match="another process"):
        pack(path, room)
    first.close()
    assert places_of(path, room.folder).entries() == 1
    begun(path, room).close()
    assert places_of(path, room.folder).entries() == 1, "it is gone on with"


def test_a_lock_that_somebody_left_behind_stops_nobody(tmp_path: Path) -> None:
    path, room = write_weights(tmp_path / "flux.safetensors", checkpoint()), room_in(tmp_path / "packed")
    places = places_of(path, room.folder)
    room.folder.mkdir()
    places.lock.touch()
    pack(path, room)
    assert places.packed.exists()
    assert not places.lock.exists()


def test_no_room(tmp_path: Path) -> None:
    path = write_weights(tmp_path / "flux.safetensors", checkpoint())
    for room in (room_in(tmp_path / "a", limit=100_000), room_in(tmp_path / "b", free=RESERVE + 100_000)):
        with pytest.raises(NotPacked, match="it needs"):
            pack(path, room)
        assert not list(room.folder.iterdir())


def test_the_disk_fills_up_meanwhile(tmp_path: Path) -> None:
    path = write_weights(tmp_path / "flux.safetensors", checkpoint())
    free = 1 << 50
    room = Room(tmp_path / "packed", 1 << 40, free=lambda _: free)
    making = begun(path, room)
    free = RESERVE
    with pytest.raises(NotPacked, match="it needs"):
        next(making)
    assert not list(room.folder.iterdir())


def test_older_ones_make_room(tmp_path: Path) -> None:
    let_go: list[Path] = []
    paths = [write_weights(tmp_path / f"{n}.safetensors", {"w": weights(100_000, n)}) for n in range(3)]
    room = room_in(tmp_path / "packed", limit=400_000, let_go=let_go.append)
    for number, path in enumerate(paths):
        pack(path, room)
        os.utime(places_of(path, room.folder).index, (number, number))
    there = [places_of(path, room.folder).packed.exists() for path in paths]
    assert there == [False, True, True]
    assert let_go == [places_of(paths[0], room.folder).packed]


def test_what_belongs_to_no_file_goes(tmp_path: Path) -> None:
    gone = write_weights(tmp_path / "gone.safetensors", checkpoint())
    kept = write_weights(tmp_path / "kept.safetensors", checkpoint())
    cut_off = write_weights(tmp_path / "cut-off.safetensors", checkpoint())
    (tmp_path / "drive").mkdir()
    away = write_weights(tmp_path / "drive" / "away.safetensors", checkpoint())
    room = room_in(tmp_path / "packed")
    for path in (gone, kept, away):
        pack(path, room)
    begun(cut_off, room).close()
    cut_off.unlink()
    gone.unlink()
    places = [places_of(path, room.folder) for path in (kept, away)]
    unplugged = tmp_path / "a" / "b" / "c"
    unplugged.mkdir(parents=True)
    (tmp_path / "drive").rename(unplugged / "drive")
    for kind in (
        "packed",
        "index",
        "lock",
        "json",
        "part",
        "journal",
    ):  # of today, and of what was once written
        (room.folder / f"{'0a' * 10}.{kind}").write_bytes(b"?")
    stranger = room.folder / "stranger.packed"
    stranger.write_bytes(b"not ours")
    assert room.sweep() == {}
    assert set(room.folder.iterdir()) == {
        stranger,
        *(file for each in places for file in (each.packed, each.index)),
    }


def test_what_was_used_today_does_not_go_for_another(tmp_path: Path) -> None:
    """Else two that are used by turns would be made by turns."""
    paths = [write_weights(tmp_path / f"{n}.safetensors", {"w": weights(100_000, n)}) for n in range(2)]
    room = room_in(tmp_path / "packed", limit=200_000)
    pack(paths[0], room)
    with pytest.raises(NotPacked, match="it needs"):
        pack(paths[1], room)
    assert places_of(paths[0], room.folder).packed.exists()


@pytest.mark.skipif(sys.platform == "win32" or os.geteuid() == 0, reason="may write everywhere")
def test_a_folder_that_is_read_only(tmp_path: Path) -> None:
    path = write_weights(tmp_path / "flux.safetensors", checkpoint())
    (tmp_path / "packed").mkdir(mode=0o500)
    with pytest.raises(OSError, match="denied"):
        pack(path, room_in(tmp_path / "packed"))


def test_a_folder_that_is_a_file(tmp_path: Path) -> None:
    path = write_weights(tmp_path / "flux.safetensors", checkpoint())
    (tmp_path / "packed").touch()
    with pytest.raises(OSError, match="packed"):
        pack(path, room_in(tmp_path / "packed"))


def test_what_would_hardly_gain_is_not_packed(tmp_path: Path) -> None:
    tensors = {"a": weights(100_000).to(torch.float16), "b": weights(20_000)}
    path = write_weights(tmp_path / "t5.safetensors", tensors)
    with pytest.raises(NotPacked, match="hardly"):
        pack(path, room_in(tmp_path / "packed"))


def test_the_weight_file_is_never_touched(tmp_path: Path) -> None:
    path = write_weights(tmp_path / "flux.safetensors", checkpoint())
    before = path.read_bytes(), path.stat().st_mtime_ns, path.stat().st_ctime_ns
    pack(path, room_in(tmp_path / "packed"))
    assert (path.read_bytes(), path.stat().st_mtime_ns, path.stat().st_ctime_ns) == before


def test_an_index_that_somebody_reads_just_now(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Windows: what is open cannot be replaced. It is written again for the next tensor."""
    loading, replace, tried = Loading.of(tmp_path), os.replace, []

    def refused(source: str, target: Path) -> None:
        tried.append(target)
        if len(tried) in (2, 3):
            raise PermissionError(13, "in use")
        replace(source, target)

    making = begun(loading.path, room_in(loading.folder), 0)
    monkeypatch.setattr(os, "replace", refused)
    next(making), next(making)
    assert loading.places.entries() == 0
    next(making)
    assert loading.places.entries() == 3
    assert finish(making)[-1] == "packed"
    assert {path.suffix for path in loading.folder.iterdir()} == {".packed", ".index"}


def test_a_good_one_stays_where_its_index_cannot_be_read_just_now(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Windows: somebody looks for viruses in it, say."""
    loading, room = Loading.of(tmp_path), room_in(tmp_path / "packed")
    pack(loading.path, room)

    def refused(this: Path, *_: object, **__: object) -> str:
        raise PermissionError(13, "in use", str(this))

    with monkeypatch.context() as patch:
        patch.setattr("flux_speedup.weights.packed.room.identity", lambda path: None)
        assert room.sweep() == {}  # nor the weight file
    monkeypatch.setattr(Path, "read_text", refused)
    loading.store.look_again()
    assert set(loading.load()[1]) == {loading.path}
    assert room.sweep() == {}
    assert "it needs" in room.refuses(1 << 40, loading.places.packed.with_name("0" * 20 + ".packed"))
    with pytest.raises(PermissionError):
        pack(loading.path, room)
    monkeypatch.undo()
    assert pack(loading.path, room) == ["packed"]


def cannot_be_deleted(monkeypatch: pytest.MonkeyPatch) -> None:
    """Packed files, as on Windows while somebody has them mapped."""
    unlink = Path.unlink

    def refused(this: Path, missing_ok: bool = False) -> None:
        if this.suffix == ".packed":
            raise PermissionError(13, "in use")
        unlink(this, missing_ok)

    monkeypatch.setattr(Path, "unlink", refused)


def test_where_what_is_no_use_is_open_and_cannot_be_deleted(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Windows: nothing is written into a file that somebody has mapped; it is made anew once it is gone."""
    loading, room = Loading.of(tmp_path), room_in(tmp_path / "packed")
    right = loading.load()[0]
    pack(loading.path, room)
    there = loading.places.packed.read_bytes()
    loading.places.index.unlink()
    cannot_be_deleted(monkeypatch)
    with pytest.raises(FileExistsError):
        pack(loading.path, room)
    assert loading.places.packed.read_bytes() == there
    assert set(loading.load()[1]) == {loading.path}
    monkeypatch.undo()
    assert pack(loading.path, room)[-1] == "packed"
    loading.store.look_again()
    found, read = loading.load()
    assert found == right
    assert loading.places.packed in read


def test_where_a_whole_one_is_open_and_cannot_be_deleted(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Windows: deleting what is mapped is refused. It goes the next time."""
    path, room = write_weights(tmp_path / "flux.safetensors", checkpoint()), room_in(tmp_path / "packed")
    pack(path, room)
    places = places_of(path, room.folder)
    path.unlink()
    cannot_be_deleted(monkeypatch)
    room.sweep()
    assert places.packed.exists()
    assert not places.index.exists()
    monkeypatch.undo()
    room.sweep()
    assert not places.packed.exists()
