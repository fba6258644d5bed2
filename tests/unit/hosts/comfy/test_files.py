"""A layer takes the file's tensors as they are, where they are what it would have copied them into."""

from __future__ import annotations

import sys
from collections.abc import Iterator
from pathlib import Path
from types import ModuleType
from typing import Any

import pytest
import torch
from safetensors.torch import save_file

from flux_speedup.hosts.comfy.files import Files
from flux_speedup.hosts.comfy.names import Names
from flux_speedup.patching.change import Undo, apply_all
from flux_speedup.weights.files.mapping import Registry
from flux_speedup.weights.files.span import find

CARD = torch.device("cpu", 0)
NAMES = Names(
    manager="host.manager",
    patcher="host.patcher",
    build=("host.models", "build"),
    reading="host.loader",
    operations="host.operations",
    layers=("Layers.Linear", "Layers.Missing"),
    initial_device="initial_device",
)


class Host:
    """A host of Comfy's lineage: it reads a file, decides where to build, and fills its layers."""

    def __init__(self, monkeypatch: pytest.MonkeyPatch) -> None:
        class Linear(torch.nn.Linear):
            pass

        self.pinned: list[Any] = []
        self.manager = self._module(monkeypatch, "host.manager", initial_device=lambda parameters: CARD)
        self.manager.pin_memory = lambda tensor: self.pinned.append(tensor) or True
        self.loader = self._module(monkeypatch, "host.loader", load_torch_file=self._read)
        self.models = self._module(monkeypatch, "host.models", build=self._build)
        self._module(monkeypatch, "host.operations", Layers=type("Layers", (), {"Linear": Linear}))
        self._linear = Linear
        self.seen: dict[str, Any] = {}

    def _module(self, monkeypatch: pytest.MonkeyPatch, name: str, **has: Any) -> Any:
        module = ModuleType(name)
        vars(module).update(has)
        monkeypatch.setitem(sys.modules, name, module)
        return module

    def _read(
        self, ckpt: str, *, safe_load: bool = True, device: Any = None, return_metadata: bool = False
    ) -> Any:
        found = {"weight": torch.ones(4, 8), "bias": torch.ones(4)}
        return (found, {"read": "by the host"}) if return_metadata else found

    def _build(self, file: str, dtype: torch.dtype = torch.float32, **wanted: Any) -> Any:
        read = self.loader.load_torch_file(file, return_metadata=True, **wanted)
        state, self.seen["metadata"] = read
        self.seen["device"] = self.manager.initial_device(100)
        layer = self._linear(8, 4, dtype=dtype)
        self.seen["report"] = layer.load_state_dict(state, strict=False)
        return layer


@pytest.fixture
def host(monkeypatch: pytest.MonkeyPatch) -> Host:
    return Host(monkeypatch)


@pytest.fixture
def registry() -> Registry:
    return Registry()


@pytest.fixture
def attached(host: Host, registry: Registry) -> Iterator[Undo]:
    """Its undo, for those who want to see what is left without."""
    undo = apply_all(Files(NAMES, registry).changes())
    yield undo
    undo()


def write(path: Path, metadata: dict[str, str] | None = None, **tensors: torch.Tensor) -> str:
    save_file(tensors or {"weight": torch.randn(4, 8), "bias": torch.randn(4)}, path, metadata)
    return str(path)


@pytest.mark.parametrize("name", ["a.safetensors", "a.SFT"])
def test_a_model_is_built_of_views_and_at_home(
    host: Host, registry: Registry, tmp_path: Path, attached: Undo, name: str
) -> None:
    file = write(tmp_path / name, {"quantization": "none"})
    layer = host.models.build(file)
    assert find(layer.weight, registry) is not None
    assert find(layer.bias, registry) is not None
    assert host.seen["device"] == torch.device("cpu")
    assert host.seen["metadata"] == {"quantization": "none"}
    assert host.seen["report"] == ([], [])
    # Only what is built of our views has to stay at home.
    assert host.manager.initial_device(100) is CARD
    attached()
    assert host.models.build(file).weight.sum() == 32
    assert host.seen["device"] is CARD


def test_a_file_without_metadata_has_none(
    host: Host, registry: Registry, tmp_path: Path, attached: Undo
) -> None:
    host.models.build(write(tmp_path / "a.safetensors"))
    assert host.seen["metadata"] is None


def test_what_is_cast_is_copied_as_the_host_does(
    host: Host, registry: Registry, tmp_path: Path, attached: Undo
) -> None:
    weight = torch.randn(4, 8).to(torch.float16)
    file = write(tmp_path / "a.safetensors", weight=weight, bias=torch.zeros(4).to(torch.float16))
    layer = host.models.build(file)
    assert layer.weight.dtype is torch.float32
    assert find(layer.weight, registry) is None
    assert torch.equal(layer.weight, weight.float())


def test_a_layer_of_which_only_some_fits_is_copied_whole(
    host: Host, registry: Registry, tmp_path: Path, attached: Undo
) -> None:
    file = write(tmp_path / "a.safetensors", weight=torch.randn(4, 8), bias=torch.zeros(4).to(torch.float16))
    layer = host.models.build(file)
    assert find(layer.weight, registry) is None
    assert layer.bias.dtype is torch.float32


def test_a_weight_of_another_shape_is_the_hosts_error(
    host: Host, registry: Registry, tmp_path: Path, attached: Undo
) -> None:
    file = write(tmp_path / "a.safetensors", weight=torch.randn(8, 4).t().contiguous()[:3])
    with pytest.raises(RuntimeError, match="size mismatch"):
        host.models.build(file)


@pytest.mark.parametrize("wanted", [{"device": CARD}, {"device": torch.device("meta")}])
def test_what_is_read_to_a_device_is_read_by_the_host(
    host: Host, registry: Registry, tmp_path: Path, attached: Undo, wanted: Any
) -> None:
    host.models.build(write(tmp_path / "a.safetensors"), **wanted)
    assert host.seen["metadata"] == {"read": "by the host"}
    assert host.seen["device"] is CARD


@pytest.mark.parametrize("name", ["a.gguf", "a.ckpt", "broken.safetensors"])
def test_what_is_no_safetensors_is_read_by_the_host(
    host: Host, registry: Registry, tmp_path: Path, attached: Undo, name: str
) -> None:
    (tmp_path / name).write_bytes(b"no safetensors")
    host.models.build(str(tmp_path / name))
    assert host.seen["metadata"] == {"read": "by the host"}
    assert host.seen["device"] is CARD


def test_our_mapping_is_never_registered(
    host: Host, registry: Registry, tmp_path: Path, attached: Undo
) -> None:
    file = write(tmp_path / "a.safetensors")
    layer = host.models.build(file)
    own = torch.ones(4)
    assert host.manager.pin_memory(layer.weight) is False
    assert host.manager.pin_memory(registry.open(file).bytes_at(0, 8)) is False, "what is no tensor's"
    assert host.manager.pin_memory(own) is True
    assert host.pinned == [own]


def test_a_file_that_is_mapped_may_be_saved_over(
    host: Host, registry: Registry, tmp_path: Path, attached: Undo
) -> None:
    file = write(tmp_path / "a.safetensors")
    layer = host.models.build(file)
    before = layer.weight.clone()
    save_file({"weight": torch.zeros(2, 2)}, file)  # imported before us, as by many an extension
    assert torch.equal(layer.weight, before)
    assert [each.name for each in tmp_path.iterdir()] == ["a.safetensors"]
