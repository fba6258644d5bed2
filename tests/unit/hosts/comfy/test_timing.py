"""What a memory manager of Comfy's lineage moves and unloads, whole or in part, and Free VRAM there."""

from __future__ import annotations

import logging
import sys
from types import ModuleType, SimpleNamespace
from typing import Any

import pytest

from flux_speedup.hosts.common.timing import name_of
from flux_speedup.hosts.neo.webui import MANAGER, Neo
from flux_speedup.patching.table import PatchTable
from flux_speedup.stats.events import Event


class KModel:
    """Four weights of 100 bytes; `there` of them are on the card."""

    def __init__(self) -> None:
        self.there = 0
        self._buffers: dict[str, Any] = {}
        self._modules: dict[str, Any] = {}

    @property
    def _parameters(self) -> dict[str, Any]:
        return {
            str(index): SimpleNamespace(
                nelement=lambda: 100, element_size=lambda: 1, device=CARD if index < self.there else HOME
            )
            for index in range(4)
        }


CARD, HOME = SimpleNamespace(type="cuda"), SimpleNamespace(type="cpu")


@pytest.fixture
def manager(monkeypatch: pytest.MonkeyPatch) -> Any:
    found: Any = ModuleType(MANAGER)

    class LoadedModel:
        def __init__(self) -> None:
            self.model = SimpleNamespace(model=KModel())
            self.device = CARD

        def model_memory(self) -> int:
            return 400

        def model_loaded_memory(self) -> int:
            return 100 * self.model.model.there

        def model_load(self, lowvram_model_memory: float = 0, force_patch_weights: bool = False) -> Any:
            self.model.model.there = int(lowvram_model_memory or 4)
            return self.model.model

        def model_unload(self, memory_to_free: float | None = None, unpatch_weights: bool = True) -> bool:
            self.model.model.there -= int(memory_to_free or self.model.model.there)
            return self.model.model.there == 0

    def unload_all_models() -> None:
        for loaded in found.current_loaded_models:
            loaded.model_unload()
        found.current_loaded_models.clear()

    vars(found).update(
        LoadedModel=LoadedModel,
        current_loaded_models=[],
        unload_all_models=unload_all_models,
        soft_empty_cache=lambda: None,
    )
    monkeypatch.setitem(sys.modules, MANAGER, found)
    return found


def test_moves_and_unloads_are_told_with_what_they_moved(
    manager: Any, monkeypatch: pytest.MonkeyPatch
) -> None:
    models: Any = ModuleType("modules.sd_models")
    models.forge_loader = lambda file: file
    monkeypatch.setitem(sys.modules, "modules.sd_models", models)
    seen: list[Event] = []
    table = PatchTable(logging.getLogger("flux_speedup.test"))
    table.add("statistics", "Load times", "", Neo(manager).timing_changes(seen.append))
    loaded = manager.LoadedModel()
    loaded.model_load(3)
    loaded.model_load()
    loaded.model_load()
    assert loaded.model_unload(1) is False
    assert loaded.model_unload() is True
    models.forge_loader("flux.safetensors")
    assert [(event.kind, event.what, event.bytes) for event in seen] == [
        ("move", "transformer", 300),
        ("move", "transformer", 100),
        ("unload", "transformer", 100),
        ("unload", "transformer", 300),
        ("checkpoint", "flux.safetensors", 0),
    ]
    # A patcher that nobody holds any longer: the host pops it, and there is nothing to tell.
    table.put_back()


def test_free_vram_by_the_managers_own_function(manager: Any) -> None:
    inside = Neo(manager).inside()
    assert inside.free_vram() == "no model was on the device"
    loaded, dead = manager.LoadedModel(), manager.LoadedModel()
    loaded.model_load()
    dead.model = None
    manager.current_loaded_models += [loaded, dead]
    assert inside.vram_by_model() == (("transformer", 400),)
    manager.current_loaded_models.remove(dead)
    assert "400" in inside.free_vram()
    assert loaded.model.model.there == 0


@pytest.mark.parametrize(
    ("kind", "name"),
    [
        ("KModel", "transformer"),
        ("SD1ClipModel", "text encoders"),
        ("SDXLRefinerClipModel", "text encoders"),
        ("ControlNet", "ControlNet"),
    ],
)
def test_what_moves_is_called_as_people_call_it(kind: str, name: str) -> None:
    assert name_of(type(kind, (), {})()) == name
