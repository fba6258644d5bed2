"""Without bitsandbytes, which most Forges lack, nothing is known of packed weights, and nothing else stops."""

from __future__ import annotations

import sys
from types import ModuleType
from typing import Any

import pytest
import torch

from flux_speedup.hosts.forge import four_bit
from flux_speedup.patching.change import apply_all
from flux_speedup.weights.files.mapping import Registry
from flux_speedup.weights.residency.forms import KINDS


@pytest.mark.parametrize("there", [False, True])
def test_the_class_is_known_where_it_is_and_missed_nowhere(
    monkeypatch: pytest.MonkeyPatch, there: bool
) -> None:
    monkeypatch.setitem(sys.modules, four_bit.OPERATIONS, ModuleType(four_bit.OPERATIONS))
    monkeypatch.delitem(sys.modules, four_bit.PARAMETERS, raising=False)
    host: Any = ModuleType(four_bit.PARAMETERS)

    class ForgeParams4bit(torch.nn.Parameter):
        pass

    ForgeParams4bit.__module__ = four_bit.PARAMETERS
    host.ForgeParams4bit = ForgeParams4bit
    if there:
        monkeypatch.setitem(sys.modules, "backend", ModuleType("backend"))
        monkeypatch.setitem(sys.modules, four_bit.PARAMETERS, host)
    undo = apply_all(four_bit.changes(Registry()))
    assert (ForgeParams4bit in KINDS) is there
    undo()
    assert ForgeParams4bit not in KINDS
