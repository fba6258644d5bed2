"""A pass in which a LoRA went on without itself for want of memory is made again, without our ring."""

from __future__ import annotations

import logging
import sys
from types import ModuleType, SimpleNamespace
from typing import Any

import pytest
import torch

from flux_speedup.hosts.comfy import refused
from flux_speedup.hosts.neo import streaming
from flux_speedup.hosts.neo.webui import MANAGER, Neo
from flux_speedup.patching.change import apply_all

CARD = torch.device("cuda", 0)


@pytest.mark.parametrize("level", [logging.WARNING, logging.CRITICAL])
@pytest.mark.parametrize(("own", "expected"), [(False, "with the LoRA"), (True, "without it")])
def test_what_a_lora_was_refused_counts_where_one_is_computed(
    monkeypatch: pytest.MonkeyPatch, own: bool, expected: str, level: int
) -> None:
    monkeypatch.setattr(refused, "by_allocators", lambda: len(short))
    manager: Any = ModuleType(MANAGER)
    manager.current_loaded_models, manager.soft_empty_cache = [], lambda: None
    monkeypatch.setitem(sys.modules, MANAGER, manager)
    short: list[bool] = []
    closed: list[bool] = []
    nothing: Any = None
    models = streaming.Streaming(Neo.taken_over, nothing, nothing)
    model: Any = torch.nn.Linear(1, 1)
    split: Any = SimpleNamespace(own=own, device=CARD, ring=1 << 20, close=lambda: closed.append(True))
    models._splits[model] = split

    def one_pass() -> str:
        if not closed:
            short.append(True)
            logging.error("ERROR loha layers.1.weight CUDA out of memory. Tried to allocate 2.00 GiB")
            return "without it"
        return "with the LoRA"

    undo, before = apply_all(refused.changes()), logging.getLogger().level
    logging.getLogger().setLevel(level)
    try:
        assert models.around_pass(one_pass)() == expected
    finally:
        logging.getLogger().setLevel(before)
        undo()
    assert len(short) == 1
    assert closed == ([] if own else [True])
