"""VRAM that Forge Neo keeps for inference: more for the tier, and nothing else is decided by it."""

from __future__ import annotations

import sys
from collections.abc import Iterator
from types import ModuleType, SimpleNamespace
from typing import Any

import pytest

from flux_speedup.hosts.neo.reserve import SAMPLERS
from flux_speedup.hosts.neo.webui import MANAGER, Neo
from flux_speedup.memory import MemoryPlan, Tier
from flux_speedup.patching.change import apply_all

CARD, TOTAL, OWN, FIXED = "the card", 80_000, 400, 800
WANTED = 20_000
PLAN = MemoryPlan(Tier.LARGE, "why", high_vram=True, inference_bytes=WANTED)


@pytest.fixture
def manager(monkeypatch: pytest.MonkeyPatch) -> Any:
    """What a manager of Comfy's lineage computes with; a load answers with what it would keep free."""
    found: Any = ModuleType(MANAGER)
    found.reserved, found.current_loaded_models = OWN, []
    found.extra_reserved_memory = lambda: found.reserved
    found.minimum_inference_memory = lambda: FIXED + found.extra_reserved_memory()
    found.maximum_vram_for_weights = lambda device=None: TOTAL - found.minimum_inference_memory()
    found.get_torch_device = lambda: CARD
    there = found.current_loaded_models
    found.get_free_memory = lambda device: TOTAL - sum(each.model_loaded_memory() for each in there)
    found.load_models_gpu = lambda models, memory_required=0, *_, **__: max(
        found.minimum_inference_memory(), memory_required + found.extra_reserved_memory()
    )
    monkeypatch.setitem(sys.modules, MANAGER, found)
    samplers: Any = ModuleType(SAMPLERS)
    samplers.Sampler = type("Sampler", (), {"launch_sampling": lambda self, steps, func: func()})
    monkeypatch.setitem(sys.modules, SAMPLERS, samplers)
    return found


@pytest.fixture
def tier(manager: Any) -> Iterator[None]:
    (item,) = Neo(manager).memory_changes(PLAN)
    undo = apply_all(item.changes)
    yield
    undo()
    assert manager.minimum_inference_memory() == FIXED + manager.reserved


class Patcher:
    load_device = CARD

    def __init__(self, size: int) -> None:
        self.model_size = lambda: size


def loaded(size: int) -> Any:
    return SimpleNamespace(device=CARD, model=object(), model_loaded_memory=lambda: size)


@pytest.mark.usefixtures("tier")
def test_more_is_kept_unless_the_user_keeps_even_more(manager: Any) -> None:
    assert manager.minimum_inference_memory() == WANTED
    assert manager.load_models_gpu([Patcher(24_000)]) == WANTED
    manager.reserved = 30_000
    assert manager.minimum_inference_memory() == FIXED + 30_000
    assert manager.load_models_gpu([Patcher(24_000)]) == FIXED + 30_000


@pytest.mark.usefixtures("tier")
@pytest.mark.parametrize(("size", "needed"), [(60_000, 0), (60_000, 9_000), (70_000, 1_000)])
def test_what_fits_whole_stays_whole(manager: Any, size: int, needed: int) -> None:
    manager.current_loaded_models += [loaded(50_000)]  # others, which can leave
    kept = manager.load_models_gpu([Patcher(size)], needed)
    assert FIXED + OWN < kept < WANTED
    assert TOTAL - kept > size


@pytest.mark.usefixtures("tier")
def test_of_what_does_not_fit_the_same_part_is_loaded_and_in_the_same_dtype(manager: Any) -> None:
    assert manager.load_models_gpu([Patcher(79_000)], 5_000) == 5_000 + OWN
    assert manager.maximum_vram_for_weights() == TOTAL - FIXED - OWN


def test_on_other_cards_the_hosts_own_number_stays(manager: Any) -> None:
    assert Neo(manager).memory_changes(MemoryPlan(Tier.STANDARD, "why")) == []


@pytest.mark.usefixtures("tier")
def test_what_is_loaded_between_steps_pushes_out_no_model_that_runs(manager: Any) -> None:
    """A decoder for the preview, say: on its way out that would end the image, or compute its LoRA differently."""
    manager.current_loaded_models += [loaded(55_000)]
    sampler = sys.modules[SAMPLERS].Sampler()

    def step() -> Any:
        kept = manager.load_models_gpu([Patcher(500)], 1_000)
        with pytest.raises(ZeroDivisionError):
            sampler.launch_sampling(1, lambda: 1 / 0)  # of another thread
        assert manager.minimum_inference_memory() == FIXED + OWN
        return kept

    assert sampler.launch_sampling(4, step) == 1_000 + OWN
    assert manager.load_models_gpu([Patcher(500)]) == WANTED
