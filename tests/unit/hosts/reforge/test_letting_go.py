"""A checkpoint that reForge lets go: off the card first, and one collection where it asks for many."""

from __future__ import annotations

import gc
import sys
from collections.abc import Iterator
from types import ModuleType, SimpleNamespace
from typing import Any

import pytest
import torch

from flux_speedup.hosts.reforge import letting_go
from flux_speedup.patching.change import apply_all
from flux_speedup.weights.residency.placement import Placement

CARD = torch.device("cpu", 0)


@pytest.fixture
def collected(monkeypatch: pytest.MonkeyPatch) -> list[str]:
    found: list[str] = []
    monkeypatch.setattr(gc, "collect", lambda *_: found.append("collected") or 0)
    return found


@pytest.fixture
def placement(monkeypatch: pytest.MonkeyPatch, collected: list[str]) -> Iterator[Placement]:
    """In force, over functions with the host's steps."""
    models: Any = ModuleType("modules.sd_models")

    def teardown(model: Any) -> None:
        model.resident = placement.of(model.forge_objects_original.unet.model).resident
        for _ in range(3):
            gc.collect()

    def unload(model: Any) -> None:
        models.complete_model_teardown(model)
        gc.collect()
        gc.collect()

    def deallocate() -> int:
        gc.collect()
        gc.collect()
        return len(gc.get_objects())

    models.complete_model_teardown, models.unload_first_loaded_model = teardown, unload
    models.force_memory_deallocation = deallocate
    monkeypatch.setitem(sys.modules, "modules.sd_models", models)
    placement = Placement()
    undo = apply_all(letting_go.changes(placement))
    yield placement
    undo()


def test_weights_are_off_the_card_before_it_is_taken_to_pieces(
    placement: Placement, collected: list[str]
) -> None:
    layer = torch.nn.Linear(4, 4)
    placement.load(layer, CARD)
    objects = SimpleNamespace(unet=SimpleNamespace(model=layer), clip=None)
    model: Any = SimpleNamespace(forge_objects_original=objects)
    models: Any = sys.modules["modules.sd_models"]
    models.unload_first_loaded_model(model)
    assert model.resident == ()
    assert collected == ["collected"], "the last, when nobody holds the model any more"
    models.complete_model_teardown(SimpleNamespace(forge_objects_original=objects))
    assert len(collected) == 2


def test_nothing_is_looked_through_and_others_collect_as_often_as_they_like(
    placement: Placement, collected: list[str]
) -> None:
    models: Any = sys.modules["modules.sd_models"]
    assert models.force_memory_deallocation() == 0
    assert collected == ["collected"]
    gc.collect()
    gc.collect()
    assert len(collected) == 3
    assert len(gc.get_objects()) > 1000
