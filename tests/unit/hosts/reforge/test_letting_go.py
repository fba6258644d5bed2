"""A checkpoint that reForge lets go: one collection where it asks for many, and no walk through memory."""

from __future__ import annotations

import gc
import sys
from collections.abc import Iterator
from types import ModuleType
from typing import Any

import pytest

from flux_speedup.hosts.reforge import letting_go
from flux_speedup.patching.change import apply_all


@pytest.fixture
def collected(monkeypatch: pytest.MonkeyPatch) -> list[str]:
    found: list[str] = []
    monkeypatch.setattr(gc, "collect", lambda *_: found.append("collected") or 0)
    return found


class Model:
    collected_before = -1


@pytest.fixture
def in_force(monkeypatch: pytest.MonkeyPatch, collected: list[str]) -> Iterator[Any]:
    """Over functions with the host's steps."""
    models: Any = ModuleType("modules.sd_models")

    def teardown(model: Model) -> None:
        for _ in range(3):
            gc.collect()
        model.collected_before = len(collected)

    def unload(model: Model) -> None:
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
    undo = apply_all(letting_go.changes())
    yield models
    undo()


def test_the_last_collection_is_the_one_that_is_made(in_force: Any, collected: list[str]) -> None:
    model = Model()
    in_force.unload_first_loaded_model(model)
    assert collected == ["collected"]
    assert model.collected_before == 0, "while somebody still holds the model there is nothing to collect"
    in_force.complete_model_teardown(model)
    assert len(collected) == 2


def test_nothing_is_looked_through_and_others_collect_as_often_as_they_like(
    in_force: Any, collected: list[str]
) -> None:
    assert in_force.force_memory_deallocation() == 0
    assert collected == ["collected"]
    gc.collect()
    gc.collect()
    assert len(collected) == 3
    assert len(gc.get_objects()) > 1000
