"""Packed files made while nobody makes an image, and ahead of time."""

from __future__ import annotations

from pathlib import Path

import pytest
import torch

from flux_speedup.stats.machine import Machine
from flux_speedup.storage.file_lock import is_locked
from flux_speedup.weights.packed import packing
from flux_speedup.weights.packed.background import Background
from flux_speedup.weights.packed.command import main
from flux_speedup.weights.packed.progress import PackedNow
from flux_speedup.weights.packed.worth import worth
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
from tests.unit.weights.weight_files import CARD, raw_bytes, write_weights
from tests.waiting import eventually

EXTENSION = Path(__file__).parents[4] / "extensions" / "flux-speedup"


def background(loading: Loading, busy: list[bool]) -> Background:
    made = Background(
        loading.folder, lambda: busy[0], lambda: CARD, limit=1 << 40, registry=loading.registry,
        store=loading.store, quiet_s=0.001,
    )  # fmt: skip
    made.room = room_in(loading.folder, let_go=loading.store.look_again)
    return made


def test_what_is_used_is_packed_once_nobody_computes(tmp_path: Path) -> None:
    loading, busy = Loading.of(tmp_path), [True]
    views = loading.registry.open(loading.path).views()
    made = background(loading, busy)
    end = made.begin()
    try:
        made._look()
        assert not list(loading.folder.glob("*"))
        busy[0] = False
        eventually(loading.places.index.exists)
        assert made.idle.wait(60)
        found, read = loading.load()
        assert found == {name.replace(".", "_"): raw_bytes(each) for name, each in checkpoint().items()}
        assert any(path.suffix == ".packed" for path in read)
    finally:
        end()
    assert loading.store.folder is None
    del views


def test_what_cannot_be_packed_is_left_alone(tmp_path: Path) -> None:
    loading = Loading.of(tmp_path)
    views = loading.registry.open(loading.path).views()
    made = background(loading, [False])
    other = begun(loading.path, made.room)  # another process is at it
    end = made.begin()
    try:
        made._look()
        assert made.idle.wait(60)
        assert loading.places.entries() == 1
    finally:
        end()
        other.close()
    del views


def states(made: Background) -> list[tuple[str, str, int]]:
    return [(file.state, file.why, file.done) for file in made.now().files]


def test_what_is_told_while_it_is_made_stopped_and_gone_on_with(tmp_path: Path) -> None:
    loading, busy = Loading.of(tmp_path), [True]
    views = loading.registry.open(loading.path).views()
    made = background(loading, busy)
    assert not made.now().on
    end = made.begin()
    made._look()
    assert states(made) == [("waiting", "until no image is made", 0)]
    for _ in range(2):
        assert not made._step(loading.path)
    done = sum(sorted(each.nbytes for each in checkpoint().values())[:2])
    assert states(made)[0][:2] == ("waiting", "until no image is made")
    made.stop()
    told = made.now()
    assert told.stopped
    assert states(made) == [("stopped", "", made._files[loading.path].done)]
    assert states(made)[0][2] > done > 0
    assert told.taken > 0
    busy[0] = False
    assert loading.places.packed.exists()
    assert not is_locked(loading.places.lock)
    assert made._step(loading.path), "it is stopped"
    made.stop(False)
    assert made.idle.wait(60)
    whole = loading.path.stat().st_size
    assert states(made) == [("packed", "", whole)]
    assert made.now().taken == loading.places.packed.stat().st_size
    end()
    assert made.now() == PackedNow()
    del views


def test_a_step_that_comes_late_mixes_no_files(tmp_path: Path) -> None:
    loading = Loading.of(tmp_path)
    other = write_weights(tmp_path / "other.safetensors", {"w": weights(100_000, 4)})
    made = background(loading, [True])
    end = made.begin()
    assert not made._step(loading.path)
    while not made._step(other):
        pass
    told = {path.name: (file.state, file.bytes) for path, file in made._files.items()}
    assert told["other.safetensors"] == ("packed", other.stat().st_size)
    assert told["flux.safetensors"] == ("packing", loading.path.stat().st_size)
    assert not is_locked(loading.places.lock)
    end()


def test_what_was_moved_meanwhile_is_compared_at_the_next_start(tmp_path: Path) -> None:
    loading = Loading.of(tmp_path)
    pack(loading.path, room_in(loading.folder))
    loading.path = loading.path.rename(tmp_path / "moved.safetensors")
    made = background(loading, [True])
    end = made.begin()
    made._sweep()
    made._step(loading.path)
    assert made._files[loading.path].state == "comparing"
    while not made._step(loading.path):
        pass
    assert made._files[loading.path].state == "packed"
    end()


def test_what_another_process_packs_is_left_to_it_and_found(tmp_path: Path) -> None:
    loading, busy = Loading.of(tmp_path), [False]
    views = loading.registry.open(loading.path).views()
    made = background(loading, busy)
    other = begun(loading.path, made.room)
    end = made.begin()
    assert eventually(lambda: made._look() and states(made)[0][1] == "another process packs it")
    finish(other)
    other.close()
    made._look()
    assert made.idle.wait(60)
    assert states(made)[0][0] == "packed"
    assert loading.places.packed in loading.load()[1]
    end()
    del views


def test_why_it_is_not_packed(tmp_path: Path) -> None:
    loading = Loading.of(tmp_path)
    views = loading.registry.open(loading.path).views()
    made = background(loading, [False])
    made.room.limit = 5
    end = made.begin()
    made._look()
    assert made.idle.wait(60)
    ((state, why, _),) = states(made)
    assert state == "not packed"
    assert "of 5 bytes allowed" in why
    end()
    del views


def test_without_memory_for_a_tensor_the_others_have_their_turn(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def no_memory(size: int) -> None:
        raise MemoryError

    loading = Loading.of(tmp_path)
    made = background(loading, [True])
    end = made.begin()
    monkeypatch.setattr(packing, "_memory", no_memory)
    assert made._step(loading.path)
    assert states(made) == [("not packed", "no memory is left", 0)]
    assert not is_locked(loading.places.lock)
    end()


def test_the_command(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    path = write_weights(tmp_path / "flux.safetensors", checkpoint())
    folder = tmp_path / "packed"
    given = [str(path), "--folder", str(folder), "--limit", "1"]
    assert main([str(tmp_path / "none.safetensors"), *given], EXTENSION, {}) == 1
    assert places_of(path, folder).packed.exists()
    said = capsys.readouterr()
    assert "the same bit for bit" in said.out
    assert "none.safetensors" in said.err
    made = places_of(path, folder).index.stat()
    assert main(given, EXTENSION, {}) == 0
    assert "the same bit for bit" in capsys.readouterr().out
    assert places_of(path, folder).index.stat().st_ino == made.st_ino, "it was made before"
    assert main([str(path), "--folder", str(folder / "b"), "--limit", "0.0001"], EXTENSION, {}) == 1
    assert "it needs" in capsys.readouterr().err
    if not any(parent.name == "extensions" for parent in tmp_path.parents):
        assert main([str(path)], tmp_path, {}) == 2


def test_what_it_would_bring(tmp_path: Path) -> None:
    path = write_weights(tmp_path / "flux.safetensors", checkpoint())
    machine = Machine(0.0, "a card", disk=0.001, bus=0.01)
    assert "from the disk in 1.66 s, not 1.85 s, from registered pages in " in worth(path, machine, False)
    assert "are on" in worth(path, machine, True)
    assert "disk in" not in worth(path, None, False)
    write_weights(tmp_path / "t5.safetensors", {"a": weights(99).to(torch.float16)})
    assert worth(tmp_path / "t5.safetensors", None, False) == worth(tmp_path / "none", None, False) == ""
