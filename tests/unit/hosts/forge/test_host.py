"""What Forge's side of the extension finds out about its device, and does once in the life of a process."""

from __future__ import annotations

import sys
from types import ModuleType, SimpleNamespace
from typing import Any

import pytest

from flux_speedup.hosts.forge.webui import Forge
from flux_speedup.patching.change import Call
from flux_speedup.ram import NOTHING
from flux_speedup.weights import warming
from tests.unit.weights.weight_files import CARD

GIB = 1 << 30


def manager(**more: Any) -> Any:
    made = ModuleType("backend.memory_management")
    made.vram_state = SimpleNamespace(name="NORMAL_VRAM")  # type: ignore[attr-defined]
    made.total_vram = 96 * 1024  # type: ignore[attr-defined]
    made.torch_device_name = "a device"  # type: ignore[attr-defined]
    made.get_torch_device = lambda: SimpleNamespace(type="cuda")  # type: ignore[attr-defined]
    made.get_free_memory = lambda _: 90 * GIB  # type: ignore[attr-defined]
    vars(made).update(more)
    return made


@pytest.mark.parametrize("integrated", [0, 1])
def test_the_card_says_whether_its_memory_is_the_machines(
    integrated: int, monkeypatch: pytest.MonkeyPatch
) -> None:
    properties = SimpleNamespace(name="NVIDIA something", is_integrated=integrated)
    cuda = SimpleNamespace(get_device_properties=lambda _: properties)
    monkeypatch.setitem(sys.modules, "torch", SimpleNamespace(cuda=cuda))  # type: ignore[arg-type]
    card = Forge(manager()).card()
    assert (card.total, card.free, card.shares_ram) == (96 * GIB, 90 * GIB, bool(integrated))


def test_the_first_load_is_prepared_once_whatever_is_reloaded(monkeypatch: pytest.MonkeyPatch) -> None:
    seen: list[object] = []
    monkeypatch.setattr(warming, "warm_up_soon", lambda device, then: seen.append(device))
    host = Forge(manager(get_torch_device=lambda: CARD))
    for _ in range(2):
        for change in host.weight_changes(NOTHING):
            if isinstance(change, Call) and getattr(change.apply, "__name__", "") == "_warm_up":
                change.apply()()
    assert seen == [CARD]
