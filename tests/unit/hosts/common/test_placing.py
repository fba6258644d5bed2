"""Files are held for the first load once they are in RAM and the card has its context, whichever comes last."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from contextlib import nullcontext
from pathlib import Path

import pytest
import torch

from flux_speedup.hosts.common.placing import Placing
from flux_speedup.weights import warming

CARD = torch.device("cuda", 0)
FILES = [Path("a.safetensors")]


@pytest.mark.parametrize("first", ["the context", "the files"])
def test_both_are_waited_for(first: str, monkeypatch: pytest.MonkeyPatch) -> None:
    told: list[tuple[Sequence[Path], torch.device]] = []
    ready: list[Callable[[], object]] = []
    monkeypatch.setattr(warming, "warm_up_soon", lambda _device, then: ready.append(then))
    placing = Placing(nullcontext, lambda: False, lambda: CARD)
    placing.direct.prepare = lambda files, device, still: told.append((files, device))  # type: ignore[method-assign]
    placing._warm_up()
    steps = [lambda: placing.prepare(FILES, lambda: True), ready[0]]
    for step in reversed(steps) if first == "the context" else steps:
        assert told == []
        step()
    assert told == [(FILES, CARD)]
