"""Models come to the device and leave it by us, whole or the modules the host chose; the rest moves as it would."""

from __future__ import annotations

import logging
import sys
from collections.abc import Iterator
from pathlib import Path
from types import ModuleType, SimpleNamespace
from typing import Any

import pytest
import torch
from safetensors.torch import save_file

from flux_speedup.hosts.comfy import moves
from flux_speedup.hosts.comfy.moves import Moves
from flux_speedup.hosts.comfy.weights import Attachment
from flux_speedup.hosts.common.written_over import PROCESSING
from flux_speedup.patching.change import Call, Function, apply_all
from flux_speedup.weights.errors import TransferError, WeightsError
from flux_speedup.weights.files.mapping import Registry
from flux_speedup.weights.files.span import find
from flux_speedup.weights.residency.placement import Placement
from tests.unit.hosts.comfy.test_files import NAMES

CARD, HOME = torch.device("cpu", 0), torch.device("cpu")
LAYERS = 4


class Model(torch.nn.Module):
    """Layers of a file, one of RAM, and a buffer."""

    def __init__(self, tensors: dict[str, torch.Tensor]) -> None:
        super().__init__()
        self.layers = torch.nn.ModuleList(torch.nn.Linear(8, 8, bias=False) for _ in range(LAYERS))
        self.own = torch.nn.Linear(8, 8)
        self.register_buffer("steps", torch.arange(8.0))
        for number, layer in enumerate(self.layers):
            layer.weight = torch.nn.Parameter(tensors[f"{number}"], requires_grad=False)


class ModelPatcher:
    """What a patcher of Comfy's lineage does, and no more: books, patches, `Module.to`."""

    def __init__(self, model: Model) -> None:
        self.model = model
        self.patches: dict[str, float] = {}
        self.backup: dict[str, Any] = {}
        self.weight_inplace_update = False
        self.merged_into: dict[str, torch.Tensor] = {}
        self.moved: list[torch.device] = []

    def load(self, device_to: Any = None, lowvram_model_memory: int = 0, full_load: bool = False) -> None:
        chosen = list(self.model.layers)[: lowvram_model_memory or None]
        for name in self.patches:
            self.patch_weight_to_device(name, device_to=device_to)
        for layer in chosen:
            layer.to(device_to)
        if full_load:
            self.model.to(device_to)

    def patch_weight_to_device(self, key: str, device_to: Any = None, inplace_update: bool = False) -> None:
        weight = self.model.get_parameter(key)
        if key not in self.backup:
            self.backup[key] = SimpleNamespace(weight=weight.to(HOME), inplace_update=inplace_update)
        self.merged_into[key] = weight.data
        self._set(key, weight.to(device_to, copy=True) + self.patches[key])

    def _set(self, key: str, weight: torch.Tensor) -> None:
        owner, _, leaf = key.rpartition(".")
        setattr(self.model.get_submodule(owner), leaf, torch.nn.Parameter(weight, requires_grad=False))

    def unpatch_model(self, device_to: Any = None, unpatch_weights: bool = True) -> None:
        if not unpatch_weights:
            return
        for key, kept in self.backup.items():
            self._set(key, kept.weight)
        self.backup.clear()
        if device_to is not None:
            self.model.to(device_to)

    def partially_unload(self, device_to: Any, memory_to_free: int = 0) -> int:
        for layer in list(self.model.layers)[:memory_to_free]:
            layer.to(device_to)
        return memory_to_free


class Setting:
    def __init__(self, registry: Registry, file: Path) -> None:
        save_file({f"{number}": torch.randn(8, 8) for number in range(LAYERS)}, file)
        self.registry = registry
        self.placement = Placement(registry)
        self.model = Model(registry.open(file).views())
        self.patcher: Any = sys.modules["host.patcher"].ModelPatcher(self.model)
        self.bytes = {name: each.clone() for name, each in self.model.state_dict().items()}

    def resident(self) -> set[str]:
        return set(self.placement.of(self.model).resident)

    def is_as_built(self) -> bool:
        state = self.model.state_dict()
        views = all(find(layer.weight, self.registry) is not None for layer in self.model.layers)
        return views and all(torch.equal(each, self.bytes[name]) for name, each in state.items())


@pytest.fixture
def setting(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> Iterator[Setting]:
    module: Any = ModuleType("host.patcher")
    module.ModelPatcher = type("ModelPatcher", (ModelPatcher,), {})
    monkeypatch.setitem(sys.modules, "host.patcher", module)
    manager: Any = ModuleType("host.manager")
    manager.get_free_memory = lambda dev=None, torch_free_too=False: (7, 5) if torch_free_too else 7
    monkeypatch.setitem(sys.modules, "host.manager", manager)
    found = Setting(Registry(), tmp_path / "a.safetensors")
    undo = apply_all(Moves(NAMES, found.placement).changes())
    yield found
    undo()
    assert torch.nn.Module.to.__code__.co_filename.endswith("module.py")


def layers(*numbers: int) -> set[str]:
    return {f"layers.{number}.weight" for number in numbers}


EVERYTHING = layers(*range(LAYERS)) | {"own.weight", "own.bias", "steps"}


def test_a_whole_model_comes_and_goes_without_a_copy(setting: Setting) -> None:
    patcher = setting.patcher
    patcher.load(CARD, full_load=True)
    assert setting.resident() == EVERYTHING
    assert all(find(layer.weight, setting.registry) is None for layer in setting.model.layers)
    patcher.unpatch_model(HOME)
    assert setting.resident() == set()
    assert setting.is_as_built()


def test_only_what_the_host_chose_comes_and_goes(setting: Setting) -> None:
    patcher = setting.patcher
    patcher.load(CARD, 3)
    assert setting.resident() == layers(0, 1, 2)
    assert patcher.partially_unload(HOME, 2) == 2
    assert setting.resident() == layers(2)
    patcher.load(CARD, 3)
    assert setting.resident() == layers(0, 1, 2)
    patcher.unpatch_model(HOME)
    assert setting.is_as_built()


def test_merged_weights_stay_the_hosts_and_the_files_come_back(setting: Setting) -> None:
    patcher = setting.patcher
    patcher.patches = {"layers.1.weight": 1.0}
    patcher.load(CARD, full_load=True)
    kept = patcher.backup["layers.1.weight"]
    assert find(kept.weight, setting.registry) is not None
    assert kept.inplace_update is False
    assert find(patcher.merged_into["layers.1.weight"], setting.registry) is None, "merged before it had come"
    assert torch.equal(setting.model.layers[1].weight, setting.bytes["layers.1.weight"] + 1)
    patcher.unpatch_model(HOME)
    assert setting.is_as_built()
    patcher.patches = {}
    patcher.load(CARD, full_load=True)
    patcher.unpatch_model(HOME)
    assert setting.is_as_built()


@pytest.mark.parametrize("told", [True, False])
@pytest.mark.parametrize("short", [1, 2])
def test_merging_that_runs_out_of_memory_is_made_again_of_what_is_at_home(
    setting: Setting, monkeypatch: pytest.MonkeyPatch, short: int, told: bool
) -> None:
    """`short`: how often there is no memory. `told`: it is raised; else the host's LoRA does without."""
    patcher, refused, emptied = setting.patcher, [], []
    merge = type(patcher)._set

    def runs_out(self: Any, key: str, weight: torch.Tensor) -> None:
        if key == "layers.1.weight" or len(refused) >= short:
            return merge(self, key, weight)
        refused.append(key)
        if told:
            raise torch.OutOfMemoryError("full")
        logging.error("ERROR loha %s CUDA error: CUBLAS_STATUS_ALLOC_FAILED", key)
        return merge(self, key, self.model.get_parameter(key).data.clone())

    monkeypatch.setattr(type(patcher), "_set", runs_out)
    sys.modules["host.manager"].soft_empty_cache = lambda: emptied.append(1)  # type: ignore[attr-defined]
    at_home = {name: setting.model.get_parameter(name).data_ptr() for name in layers(1, 2, 3)}
    patcher.patches = {"layers.1.weight": 1.0, "layers.2.weight": 2.0, "layers.3.weight": 3.0}
    if short > 1 and told:
        with pytest.raises(torch.OutOfMemoryError):
            patcher.load(CARD, full_load=True)
    else:
        patcher.load(CARD, full_load=True)
        assert {
            name for name, weight in patcher.merged_into.items() if weight.data_ptr() == at_home[name]
        } == (layers(2, 3))
        for number in (1, 3) if short > 1 else (1, 2, 3):
            weight = setting.model.layers[number].weight
            assert torch.equal(weight, setting.bytes[f"layers.{number}.weight"] + number)
    assert emptied == [1]
    patcher.unpatch_model(HOME)
    assert setting.is_as_built()


def test_where_the_host_merges_into_copies_or_at_home_it_does_so_by_itself(setting: Setting) -> None:
    patcher = setting.patcher
    patcher.patches = {"layers.1.weight": 1.0}
    patcher.weight_inplace_update = True
    patcher.load(CARD, full_load=True)
    assert patcher.backup["layers.1.weight"].weight is not None
    assert find(patcher.merged_into["layers.1.weight"], setting.registry) is not None
    patcher.unpatch_model(HOME)
    patcher.weight_inplace_update = False
    patcher.patch_weight_to_device("layers.1.weight", HOME)
    assert torch.equal(setting.model.layers[1].weight, setting.bytes["layers.1.weight"] + 1)
    patcher.unpatch_model(HOME)
    assert setting.is_as_built()


def test_where_the_host_names_the_device_as_home_what_is_ours_goes_home(setting: Setting) -> None:
    """As it does in HIGH_VRAM: nothing would leave."""
    patcher = setting.patcher
    patcher.load(CARD, full_load=True)
    assert patcher.partially_unload(CARD, 2) == 2
    assert setting.resident() == EVERYTHING - layers(0, 1)
    patcher.unpatch_model(CARD)
    assert setting.is_as_built()


def test_unpatching_without_weights_moves_nothing(setting: Setting) -> None:
    setting.patcher.load(CARD, full_load=True)
    setting.patcher.unpatch_model(HOME, unpatch_weights=False)
    assert setting.resident() == EVERYTHING
    setting.patcher.unpatch_model()
    assert setting.resident() == EVERYTHING


@pytest.mark.parametrize("device", [None, HOME, torch.device("meta")])
def test_loads_to_anywhere_else_are_the_hosts(setting: Setting, device: Any) -> None:
    setting.patcher.load(device, full_load=device is not None)
    assert setting.resident() == set()
    expected = "meta" if device is not None and device.type == "meta" else "cpu"
    assert setting.model.own.weight.device.type == expected


def test_where_ours_fails_the_host_moves(
    setting: Setting, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    def fail(*_: Any, **__: Any) -> Any:
        raise TransferError(None, "the driver is gone")

    monkeypatch.setattr(setting.placement, "load", fail)
    with caplog.at_level(logging.WARNING, logger="flux_speedup"):
        setting.patcher.load(CARD, full_load=True)
    assert "the driver is gone" in caplog.text
    assert setting.resident() == set()
    assert all(find(layer.weight, setting.registry) is None for layer in setting.model.layers)
    setting.patcher.unpatch_model(HOME)
    assert torch.equal(setting.model.layers[0].weight, setting.bytes["layers.0.weight"])


def test_moves_outside_of_the_hosts_functions_are_nobodys_business(setting: Setting) -> None:
    other = torch.nn.Linear(2, 2)
    assert other.to(torch.float16) is other
    assert other.weight.dtype is torch.float16
    setting.patcher.load(CARD, full_load=True)
    assert other.to(torch.device("meta")).weight.is_meta


def test_a_load_that_raises_leaves_the_thread_as_it_was(setting: Setting) -> None:
    def fail(*_: Any) -> Any:
        raise RuntimeError("no such module")

    setting.model.get_submodule = fail  # type: ignore[method-assign]
    setting.patcher.patches = {"layers.0.weight": 1.0}
    with pytest.raises(RuntimeError, match="no such module"):
        setting.patcher.load(CARD, full_load=True)
    assert torch.nn.Linear(2, 2).to(torch.device("meta")).weight.is_meta


def test_free_memory_is_what_it_would_be_without_our_checksums(
    setting: Setting, monkeypatch: pytest.MonkeyPatch
) -> None:
    manager: Any = sys.modules["host.manager"]
    card = torch.device("cuda", 0)
    monkeypatch.setattr(moves, "taken", lambda device: 3 if device == card else 9)
    assert manager.get_free_memory(card) == 10
    assert manager.get_free_memory(card, torch_free_too=True) == (10, 8)
    assert manager.get_free_memory() == manager.get_free_memory(HOME) == manager.get_free_memory(CARD) == 7


@pytest.mark.skipif(sys.platform == "win32", reason="there a mapped file cannot be written over")
def test_what_is_left_of_a_file_that_was_written_over_comes_to_no_card(
    setting: Setting, tmp_path: Path
) -> None:
    """It is zeros by then, and the host would copy those."""
    setting.registry.writers._leases = False
    other = Setting(setting.registry, file := tmp_path / "b.safetensors")
    other.placement = setting.placement
    with file.open("r+b") as written:
        written.truncate(100)
    for kind in ({"full_load": True}, {"lowvram_model_memory": 2}):
        with pytest.raises(WeightsError, match=r"b\.safetensors: it was written over while"):
            other.patcher.load(CARD, **kind)
        assert other.patcher.moved == []
    assert not other.resident()
    setting.patcher.load(CARD, full_load=True)
    assert setting.resident() == EVERYTHING


def test_a_host_of_this_lineage_looks_after_files_that_are_written_over_or_not_to_be_renamed(
    setting: Setting,
) -> None:
    made = Attachment(NAMES, setting.placement).changes()
    assert any(isinstance(each, Call) and each.module == PROCESSING for each in made)
    replaced = {(each.module, each.path) for each in made if isinstance(each, Function)}
    assert {("torch", "load"), ("safetensors.torch", "load_file")} <= replaced
