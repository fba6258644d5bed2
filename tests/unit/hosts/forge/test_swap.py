"""Swapping that starts at -1 GB, on a memory manager with the host's arithmetic."""

from __future__ import annotations

import sys
from types import ModuleType

import pytest

from flux_speedup.hosts.forge.swap import Margin
from flux_speedup.memory import GIB, SwapRule

INFERENCE = 20 * GIB


class Manager:
    """The three functions as Forge connects them: what is freed, and what a model is given when it is swapped."""

    def __init__(self, free: int, model: int) -> None:
        self.free, self.model = free, model
        self.freed: float | None = None
        self.budget: int | None = None
        margin = Margin(GIB)
        self.minimum = margin.wrap_minimum_inference_memory(lambda: INFERENCE)
        self.compute = margin.wrap_budget(SwapRule(1.15, 2 * GIB))(lambda _free, _inference: 0)
        self.load = margin.wrap_load_models_gpu(self._load)

    def _load(self, models: object, memory_required: float = 0, hard: float = 0) -> None:
        self.freed = max(self.minimum(), memory_required) + hard
        kept = self.minimum() + hard
        if self.free - self.model - kept < 0:
            self.budget = self.compute(self.free, kept)


@pytest.fixture
def manager(monkeypatch: pytest.MonkeyPatch):
    def make(free: float, model: float) -> Manager:
        made = Manager(int(free * GIB), int(model * GIB))
        backend = ModuleType("backend")
        backend.memory_management = ModuleType("backend.memory_management")  # type: ignore[attr-defined]
        backend.memory_management.minimum_inference_memory = made.minimum  # type: ignore[attr-defined]
        monkeypatch.setitem(sys.modules, "backend", backend)
        monkeypatch.setitem(sys.modules, "backend.memory_management", backend.memory_management)  # type: ignore[attr-defined]
        return made

    return make


@pytest.mark.parametrize(
    ("model", "swapped"), [(59, False), (60, False), (60.9, False), (61, False), (61.1, True)]
)
def test_a_model_may_take_one_gib_of_what_inference_keeps(manager, model: float, swapped: bool) -> None:
    made = manager(80, model)
    made.load([object()])
    assert (made.budget is not None) is swapped


def test_a_swapped_model_gets_the_budget_of_what_is_really_free(manager) -> None:
    made = manager(80, 70)
    made.load([object()])
    assert made.budget == 58 * GIB


@pytest.mark.parametrize(("required", "hard"), [(0, 0), (30 * GIB, 0), (GIB, 2 * GIB)])
def test_what_is_freed_is_what_the_host_would_free(manager, required: int, hard: int) -> None:
    made = manager(80, 10)
    made.load([object()], required, hard)
    assert made.freed == max(INFERENCE, required) + hard


def test_outside_of_a_load_the_number_is_untouched(manager) -> None:
    made = manager(80, 10)
    assert made.minimum() == INFERENCE
    with pytest.raises(TypeError):
        made.load([object()], "not a number")
    assert made.minimum() == INFERENCE
