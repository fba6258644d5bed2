"""What is free before a step, on Forge Neo: as the host alone would have it, for the one question of the batch."""

from __future__ import annotations

import sys
from collections.abc import Callable
from types import ModuleType, SimpleNamespace
from typing import Any

import pytest
import torch

from flux_speedup.hosts.forge.sampling_memory import SAMPLING, Asking
from flux_speedup.hosts.neo.split import Split
from flux_speedup.hosts.neo.webui import MANAGER
from flux_speedup.patching.change import apply_all

CARD, OTHER = torch.device("cuda", 0), torch.device("cuda", 1)
FREE = 1000


def split(**figures: Any) -> Any:
    return SimpleNamespace(**{"own": True, "one_pass": False, "device": CARD, **figures})


def besides(of: Any) -> int:
    found: int = Split.besides.fget(of)  # type: ignore[attr-defined]
    return found


def test_what_the_host_alone_would_leave_free_counts_as_free() -> None:
    # It gives the weights 500 and would stay 80 below; ours have 460 there, and a ring that holds 30.
    assert besides(split(given=500, short=80, resident=460, held=30)) == 70
    # Nothing is held in a ring before the first step: the answer is the same as later, as free has more then.
    assert FREE + besides(split(given=500, short=80, resident=460, held=0)) == FREE - 30 + 70
    # With a LoRA what stays is the host's own choice.
    assert besides(split(own=False, given=0, short=0, resident=460, held=30)) == 30
    # So it is where nothing left for what is run once: nobody knows what the host would have left of it by then.
    assert besides(split(one_pass=True, given=0, short=0, resident=460, held=30)) == 30


@pytest.fixture
def asked(monkeypatch: pytest.MonkeyPatch) -> Callable[[], list[int]]:
    """What a batch is told is free: before each of two passes, and while one runs."""
    manager, sampling, told = ModuleType(MANAGER), ModuleType(SAMPLING), []
    manager.get_torch_device = lambda: CARD  # type: ignore[attr-defined]
    manager.get_free_memory = lambda dev=None, torch_free_too=False: FREE  # type: ignore[attr-defined]

    def free(device: torch.device | None) -> None:
        told.append(manager.get_free_memory(device))

    passes: list[Callable[[], None]] = [lambda: free(CARD)]

    def calc_cond_uncond_batch() -> None:
        for _ in range(2):
            free(CARD)
            passes[0]()

    sampling.calc_cond_uncond_batch = calc_cond_uncond_batch  # type: ignore[attr-defined]
    monkeypatch.setitem(sys.modules, MANAGER, manager)
    monkeypatch.setitem(sys.modules, SAMPLING, sampling)
    asking = Asking(lambda device, free: free + (70 if device == CARD else 0))
    passes[0] = asking.around_pass(passes[0])
    apply_all(asking.changes())

    def ask() -> list[int]:
        told.clear()
        free(CARD)
        sampling.calc_cond_uncond_batch()
        return list(told)

    return ask


def test_only_the_question_before_each_pass_is_answered_so(asked: Callable[[], list[int]]) -> None:
    assert asked() == [FREE, FREE + 70, FREE, FREE + 70, FREE]
