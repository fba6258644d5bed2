"""GPUs that have no memory of their own, by their flag, or by name where PyTorch does not tell."""

from __future__ import annotations

import sys
from types import SimpleNamespace
from typing import Any

import pytest
import torch

from flux_speedup.hosts.common.card import is_known, shares_ram
from tests.unit.weights.weight_files import CARD


@pytest.mark.parametrize(
    "name",
    [
        "NVIDIA GB10",
        "NVIDIA Thor",
        "Orin",
        "Xavier",
        "AMD Radeon Graphics",
        "AMD Radeon(TM) Graphics",
        "AMD Radeon 8060S Graphics",
        "AMD Radeon 890M Graphics",
        "Radeon 780M Graphics",
        "AMD Radeon Vega 8 Graphics",
        "AMD Instinct MI300A",
        "Intel(R) Arc(TM) Graphics",
        "Intel(R) Iris(R) Xe Graphics",
        "Intel(R) UHD Graphics 770",
    ],
)
def test_known_by_name(name: str) -> None:
    assert is_known(name)


@pytest.mark.parametrize(
    "name",
    [
        "NVIDIA H100 80GB HBM3",
        "NVIDIA RTX PRO 6000 Blackwell Workstation Edition",
        "NVIDIA GH200 480GB",
        "NVIDIA GB200",
        "NVIDIA GeForce RTX 4090",
        "NVIDIA Graphics Device",
        "AMD Radeon RX 7900 XTX",
        "AMD Radeon PRO W7900",
        "AMD Instinct MI300X",
        "Intel(R) Arc(TM) A770 Graphics",
        "Intel(R) Arc(TM) B580 Graphics",
        "",
    ],
)
def test_cards_with_memory_of_their_own(name: str) -> None:
    assert not is_known(name)


def properties(**more: Any) -> Any:
    def get_device_properties(_: object) -> Any:
        if "error" in more:
            raise more["error"]
        return SimpleNamespace(**more)

    return SimpleNamespace(get_device_properties=get_device_properties)


@pytest.mark.parametrize(
    ("found", "shares"),
    [
        ({"name": "A new one", "is_integrated": 1}, True),
        ({"name": "A new one", "is_integrated_gpu": True}, True),
        ({"name": "NVIDIA H100 80GB HBM3", "is_integrated": 0}, False),
        ({"name": "AMD Radeon 8060S Graphics"}, True),
        ({"name": "AMD Radeon 8060S Graphics", "is_integrated": 0}, True),
        ({"error": RuntimeError("no driver")}, False),
        ({"error": AssertionError("not compiled with CUDA")}, False),
        ({}, False),
    ],
)
def test_what_a_device_says_of_itself(
    found: dict[str, Any], shares: bool, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setitem(sys.modules, "torch", SimpleNamespace(cuda=properties(**found)))  # type: ignore[arg-type]
    assert shares_ram(SimpleNamespace(type="cuda")) is shares


def test_the_cpu_is_no_gpu() -> None:
    assert not shares_ram(torch.device("cpu"))
    assert not shares_ram(CARD)
    assert not shares_ram(None)
