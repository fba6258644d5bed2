"""The card of a WebUI that has no memory manager, as PyTorch tells it."""

from __future__ import annotations

import sys
from types import SimpleNamespace
from typing import Any

import pytest

from flux_speedup.hosts.common.card import UNKNOWN, torch_card
from flux_speedup.memory import Card, TierRules, plan

GIB = 2**30


def torch_with(**cuda: Any) -> SimpleNamespace:
    found = {
        "is_available": lambda: True,
        "current_device": lambda: 1,
        "get_device_name": lambda index: f"card {index}",
        "mem_get_info": lambda index: (20 * GIB, 24 * GIB),
        **cuda,
    }
    return SimpleNamespace(cuda=SimpleNamespace(**found), backends=SimpleNamespace())


def refuse(*_: object) -> Any:
    raise RuntimeError("no driver")


def test_without_torch_nothing_is_known(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.delitem(sys.modules, "torch", raising=False)
    assert torch_card(None) == UNKNOWN
    assert plan(UNKNOWN, TierRules()).why == "it is not known what this WebUI computes on"


@pytest.mark.parametrize(
    ("torch", "flags", "card"),
    [
        (torch_with(), None, Card("card 1", True, 24 * GIB, 20 * GIB)),
        (torch_with(), SimpleNamespace(device_id="0", use_cpu=[]), Card("card 0", True, 24 * GIB, 20 * GIB)),
        (torch_with(), SimpleNamespace(use_cpu=["all"]), Card("cpu", False, None)),
        # Only the VAE is computed on the CPU.
        (torch_with(), SimpleNamespace(use_cpu=["vae"]), Card("card 1", True, 24 * GIB, 20 * GIB)),
        (torch_with(mem_get_info=refuse), None, Card("card 1", True, None)),
        (torch_with(get_device_name=refuse), None, Card("unknown", True, None)),
        (torch_with(), SimpleNamespace(device_id="none"), Card("unknown", True, None)),
        (torch_with(is_available=lambda: False), None, Card("cpu", False, None)),
    ],
)
def test_what_pytorch_says(
    monkeypatch: pytest.MonkeyPatch, torch: SimpleNamespace, flags: Any, card: Card
) -> None:
    monkeypatch.setitem(sys.modules, "torch", torch)
    assert torch_card(flags) == card


def test_memory_that_is_the_machines_is_told(monkeypatch: pytest.MonkeyPatch) -> None:
    properties = SimpleNamespace(name="NVIDIA GB10", is_integrated=1)
    torch = torch_with(get_device_properties=lambda index: properties)
    monkeypatch.setitem(sys.modules, "torch", torch)
    assert torch_card(None) == Card("card 1", True, 24 * GIB, 20 * GIB, shares_ram=True)


@pytest.mark.parametrize("place", ["torch", "torch.backends"])
def test_another_kind_of_device_is_a_gpu_of_unknown_size(monkeypatch: pytest.MonkeyPatch, place: str) -> None:
    torch = torch_with(is_available=lambda: False)
    owner, name = (torch, "xpu") if place == "torch" else (torch.backends, "mps")
    setattr(owner, name, SimpleNamespace(is_available=lambda: True))
    monkeypatch.setitem(sys.modules, "torch", torch)
    assert torch_card(None) == Card(name, True, None)
    assert plan(torch_card(None), TierRules()).why == "the card's memory is unknown"
