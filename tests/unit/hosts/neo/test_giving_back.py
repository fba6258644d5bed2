"""What garbage collection frees of the card in an unload is given back with the rest."""

from __future__ import annotations

import gc
import sys
from types import ModuleType
from typing import Any

import pytest

from flux_speedup.hosts.neo import giving_back
from flux_speedup.hosts.neo.webui import MANAGER, Neo
from flux_speedup.patching.change import apply_all


class Card:
    """Bytes that PyTorch has taken: those in use, and those in its cache until that is emptied."""

    def __init__(self) -> None:
        self.cached = 0

    def empty(self) -> None:
        self.cached = 0


class InACycle:
    """A tensor on the card that only garbage collection finds."""

    def __init__(self, card: Card) -> None:
        self.card, self.itself = card, self

    def __del__(self) -> None:
        self.card.cached += 148


@pytest.fixture
def card(monkeypatch: pytest.MonkeyPatch) -> Card:
    """The host unloads in its own order, for the API and by the manager's function."""
    found, manager, models = Card(), ModuleType(MANAGER), ModuleType(giving_back.MODELS)

    def unload_model_weights() -> str:
        manager.unload_all_models()
        manager.soft_empty_cache()
        gc.collect()
        return "unloaded"

    parts: dict[str, Any] = {"current_loaded_models": [], "soft_empty_cache": found.empty}
    vars(manager).update(parts, unload_all_models=lambda: None)
    vars(models).update(unload_model_weights=unload_model_weights)
    monkeypatch.setitem(sys.modules, MANAGER, manager)
    monkeypatch.setitem(sys.modules, giving_back.MODELS, models)
    gc.collect()
    InACycle(found)
    return found


def test_by_the_hosts_own_unload(card: Card) -> None:
    undo = apply_all(giving_back.changes(MANAGER))
    assert sys.modules[giving_back.MODELS].unload_model_weights() == "unloaded"
    assert card.cached == 0
    undo()


def test_by_free_vram(card: Card) -> None:
    Neo(sys.modules[MANAGER]).inside().free_vram()
    gc.collect()
    assert card.cached == 0
