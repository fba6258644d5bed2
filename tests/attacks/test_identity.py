"""The wrong file's bytes: times put back, no inode numbers, inode numbers that change, clocks that are coarse."""

from __future__ import annotations

import itertools
import os
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import torch

from flux_speedup.local_models.digests import Digests
from flux_speedup.storage.sidecar import Sidecar, Stamp
from flux_speedup.weights.checkpoints import Key
from flux_speedup.weights.files import identity as identities
from flux_speedup.weights.files.file_digests import FileDigests
from flux_speedup.weights.files.identity import FileIdentity, identity
from flux_speedup.weights.files.mapping import Registry
from tests.unit.weights.weight_files import CARD, module_of, raw_bytes, residency_of, write_weights

BIG = 200_000


def rewrite_in_place(path: Path, content: bytes) -> None:
    """Other bytes in the same file, its size and its old time."""
    stat = path.stat()
    with path.open("r+b") as file:
        file.write(content)
    os.utime(path, ns=(stat.st_atime_ns, stat.st_mtime_ns))
    assert (path.stat().st_size, path.stat().st_mtime_ns) == (stat.st_size, stat.st_mtime_ns)


@pytest.fixture(params=["system", "no ctime"])
def clock(request: pytest.FixtureRequest, monkeypatch: pytest.MonkeyPatch) -> None:
    """This system's, and that of Windows."""
    if request.param == "no ctime":
        monkeypatch.setattr(identities, "HAS_CTIME", False)
        monkeypatch.setattr("sys.platform", "win32")


def look_at(monkeypatch: pytest.MonkeyPatch, inode: Callable[[], int]) -> None:
    """A file system with such inode numbers."""

    def seen(real: Callable[..., os.stat_result]) -> Callable[..., os.stat_result]:
        def stat(*args: Any, **kwargs: Any) -> os.stat_result:
            fields = list(real(*args, **kwargs).__reduce__()[1][0])
            names = real(*args, **kwargs).__reduce__()[1][1]
            fields[1] = inode()
            return os.stat_result(fields, names)

        return stat

    for name in ("stat", "fstat"):
        monkeypatch.setattr(os, name, seen(getattr(os, name)))


@pytest.mark.usefixtures("clock")
def test_a_file_rewritten_in_place_with_its_old_time_is_another_file(tmp_path: Path) -> None:
    path = tmp_path / "a.safetensors"
    path.write_bytes(os.urandom(BIG))
    key = Key.of([path], [])
    sidecar, digests = FileDigests(Sidecar(None)), Digests(None)
    sidecar.of(path, lambda: "a" * 64)
    with path.open("rb") as file:
        before = digests.of(path, file.fileno())
    assert key.is_current()
    assert sidecar.known(path) == "a" * 64
    rewrite_in_place(path, os.urandom(BIG))
    assert not key.is_current()
    assert sidecar.known(path) is None
    with path.open("rb") as file:
        assert digests.of(path, file.fileno()) != before


@pytest.mark.usefixtures("clock")
def test_an_open_file_rewritten_in_place_with_its_old_time_is_another_file(tmp_path: Path) -> None:
    path = tmp_path / "a.safetensors"
    path.write_bytes(os.urandom(BIG))
    with path.open("rb") as file:
        known = FileIdentity.of(file.fileno(), path)
        assert known.is_still(file.fileno())
        rewrite_in_place(path, os.urandom(BIG))
        assert not known.is_still(file.fileno())


def test_another_name_or_mode_does_not_make_an_open_file_another_one(tmp_path: Path) -> None:
    path = tmp_path / "a.safetensors"
    path.write_bytes(os.urandom(BIG))
    with path.open("rb") as file:
        known = FileIdentity.of(file.fileno(), path)
        os.link(path, tmp_path / "b")
        assert known.is_still(file.fileno())
        path.chmod(0o600)
        assert known.is_still(file.fileno())
        path.rename(tmp_path / "c")
        assert known.is_still(file.fileno())
        (tmp_path / "c").unlink()
        assert known.is_still(file.fileno())
        rewrite_in_place(tmp_path / "b", os.urandom(BIG))
        assert not known.is_still(file.fileno())


def test_hard_links_are_one_file(tmp_path: Path) -> None:
    path = tmp_path / "a.safetensors"
    path.write_bytes(b"x" * BIG)
    os.link(path, tmp_path / "b")
    assert identity(path) == identity(tmp_path / "b")


@pytest.mark.parametrize("same", [True, False])
def test_without_inode_numbers_no_file_gives_another_ones_tensors(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, same: bool
) -> None:
    look_at(monkeypatch, lambda: 0)
    registry = Registry()
    one, two = torch.ones(BIG), torch.ones(BIG) if same else torch.zeros(BIG)
    a, b = (
        write_weights(tmp_path / name, {"a": t})
        for name, t in (("a.safetensors", one), ("b.safetensors", two))
    )
    for path in (a, b):
        os.utime(path, ns=(1, 1))
    assert identity(a) != identity(b)
    first, second = (module_of(registry.open(path).views()) for path in (a, b))
    for module, tensor in ((first, one), (second, two)):
        residency = residency_of(module, registry)
        assert residency.load(CARD).bytes == tensor.nbytes
        assert raw_bytes(module.a) == raw_bytes(tensor)
        residency.unload()


def test_with_inode_numbers_that_change_from_look_to_look_a_file_is_loaded(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    numbers = itertools.count(1000)
    look_at(monkeypatch, lambda: next(numbers))
    for leases in (True, False):
        registry = Registry(leases=leases)
        tensor = torch.arange(5000.0)
        path = write_weights(tmp_path / f"{leases}.safetensors", {"a": tensor})
        key = Key.of([path], [])
        module = module_of(registry.open(path).views())
        residency = residency_of(module, registry)
        residency.load(CARD)
        residency.unload()
        residency.load(CARD)
        assert raw_bytes(module.a) == raw_bytes(tensor)
        assert key.is_current()
        path.write_bytes(path.read_bytes()[::-1])
        assert not key.is_current()


def test_a_clock_that_does_not_tick_between_two_writes(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    path = tmp_path / "a.safetensors"
    path.write_bytes(os.urandom(BIG))
    real = os.stat
    frozen = real(path)
    for name in ("stat", "fstat"):
        monkeypatch.setattr(os, name, lambda *_, **__: frozen)
    known, stamp = identity(path), Stamp.of(path)
    path.write_bytes(os.urandom(BIG))
    assert identity(path) != known
    assert Stamp.of(path) != stamp
