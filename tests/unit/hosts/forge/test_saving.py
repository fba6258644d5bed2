"""A save over the checkpoint in use: whole or not at all, through links, and never into the mapped file."""

from __future__ import annotations

import sys
from pathlib import Path
from types import ModuleType, SimpleNamespace
from typing import Any

import pytest
import torch
from safetensors.torch import save_file

from flux_speedup.hosts.common import saving
from flux_speedup.hosts.forge.merged import DROPPED
from flux_speedup.hosts.forge.saving import wrap_save
from flux_speedup.patching.change import apply_all
from flux_speedup.weights.files.mapping import Registry
from tests.unit.weights.weight_files import raw_bytes, write_weights


@pytest.fixture
def loaded(monkeypatch: pytest.MonkeyPatch) -> list[Any]:
    """What the host was asked to load."""
    asked: list[Any] = []
    package, manager = ModuleType("backend"), ModuleType("backend.memory_management")
    package.memory_management = manager  # type: ignore[attr-defined]
    manager.load_model_gpu = asked.append  # type: ignore[attr-defined]
    monkeypatch.setitem(sys.modules, "backend", package)
    monkeypatch.setitem(sys.modules, "backend.memory_management", manager)
    return asked


def engine(loaded_hash: str = "[]") -> Any:
    loader = SimpleNamespace(loaded_hash=loaded_hash)
    unet = SimpleNamespace(lora_loader=loader, lora_patches={"lora": 1})
    clip = SimpleNamespace(patcher=SimpleNamespace(lora_loader=loader, lora_patches={}))
    return SimpleNamespace(forge_objects=SimpleNamespace(unet=unet, clip=clip))


def test_a_save_over_a_linked_checkpoint_goes_to_what_the_link_leads_to(
    tmp_path: Path, loaded: list[Any]
) -> None:
    (tmp_path / "disk").mkdir()
    target = write_weights(tmp_path / "disk" / "real.safetensors", {"a": torch.ones(5)})
    link = tmp_path / "model.safetensors"
    link.symlink_to(target)
    registry = Registry()
    in_use = registry.open(link).views()["a"]

    def original(_engine: Any, filename: str) -> str:
        Path(filename).write_bytes(b"new")
        return filename

    assert wrap_save(original)(engine(), str(link)) == str(link)
    assert link.is_symlink()
    assert target.read_bytes() == link.read_bytes() == b"new"
    assert raw_bytes(in_use) == raw_bytes(torch.ones(5))
    assert [path.name for path in target.parent.iterdir()] == ["real.safetensors"]


def test_whoever_saves_a_file_that_is_mapped_writes_a_new_one(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Through a link, and by a `save_file` that was imported before us."""
    (tmp_path / "disk").mkdir()
    target = write_weights(tmp_path / "disk" / "real.safetensors", {"a": torch.ones(5)})
    link = tmp_path / "model.safetensors"
    link.symlink_to(target)
    registry = Registry()
    in_use = registry.open(link).views()["a"]
    there: list[bool] = []

    def as_before_0_8(_tensors: Any, filename: str, metadata: Any = None) -> None:
        there.append(target.exists())  # opened for writing now, it would be cut short under our views
        Path(filename).write_bytes(b"new")

    monkeypatch.setattr("safetensors.torch.serialize_file", as_before_0_8)
    undo = apply_all(saving.changes(registry))
    save_file({"a": torch.zeros(3)}, str(link))
    undo()
    assert there == [False]
    assert link.is_symlink()
    assert target.read_bytes() == b"new"
    assert raw_bytes(in_use) == raw_bytes(torch.ones(5))
    save_file({"a": torch.zeros(3)}, str(link))
    assert there == [False, True]


def test_a_save_that_fails_leaves_the_checkpoint_as_it_was(tmp_path: Path, loaded: list[Any]) -> None:
    target = write_weights(tmp_path / "a.safetensors", {"a": torch.ones(5)})
    before = target.read_bytes()

    def original(_engine: Any, filename: str) -> str:
        Path(filename).write_bytes(b"half")
        raise OSError(28, "No space left on device")

    with pytest.raises(OSError, match="No space"):
        wrap_save(original)(engine(), str(target))
    assert target.read_bytes() == before
    assert list(tmp_path.iterdir()) == [target]


def test_what_was_dropped_merged_is_merged_again_first(tmp_path: Path, loaded: list[Any]) -> None:
    dropped = engine(DROPPED)
    name = "\N{SNOWMAN}" * 85  # as long as a name can be
    wrap_save(lambda _engine, filename: Path(filename).touch())(dropped, str(tmp_path / name))
    assert [path.name for path in tmp_path.iterdir()] == [name]
    assert loaded == [dropped.forge_objects.unet]
