"""What a load in Forge is told as: the bytes that came, which are not all of a model that does not fit."""

from __future__ import annotations

from types import SimpleNamespace
from typing import Any

import pytest
import torch

from flux_speedup.hosts.comfy import timing as comfy
from flux_speedup.hosts.common import timing
from flux_speedup.stats.events import Event

META = torch.device("meta")


class Model(torch.nn.Module):
    def __init__(self) -> None:
        super().__init__()
        self.first = torch.nn.Parameter(torch.zeros(100), requires_grad=False)
        self.second = torch.nn.Parameter(torch.zeros(300), requires_grad=False)


@pytest.mark.parametrize(
    ("device", "moved", "told"),
    [
        (META, ("first", "second"), 1600),
        (META, ("first",), 400),
        (META, (), 0),
        (torch.device("cpu", 0), (), 1600),
    ],
    ids=["all", "a part", "all of it streams", "unseen"],
)
def test_a_move_is_told_with_the_bytes_that_came(
    monkeypatch: pytest.MonkeyPatch, device: torch.device, moved: tuple[str, ...], told: int
) -> None:
    events: list[Event] = []
    model = Model()
    loaded: Any = SimpleNamespace(model=SimpleNamespace(model=model), exclusive_memory=1600, device=device)

    def model_load(self: Any) -> None:
        for name in moved:
            setattr(model, name, torch.nn.Parameter(getattr(model, name).to(META), requires_grad=False))

    monkeypatch.setattr(timing, "WORTH_TELLING_S", -1)
    witness = timing.Witness(lambda _: ("file", "a part of it"), lambda _: 0)
    timing._time_move(events.append, witness, model_load)(loaded)
    assert [(event.kind, event.bytes, event.detail) for event in events] == [("move", told, "a part of it")]


@pytest.mark.parametrize("time_move", [timing._time_move, comfy._time_move], ids=["Forge", "Comfy"])
def test_of_a_model_that_is_there_nobody_asks_where_it_came_from(time_move: Any) -> None:
    """The answer looks at every weight, and every image asks for its models three times and more."""
    loaded: Any = SimpleNamespace(model=SimpleNamespace(model=Model()), exclusive_memory=0, device=META)
    loaded.model_memory = loaded.model_loaded_memory = lambda: 1600
    witness = timing.Witness(lambda _: pytest.fail("asked"), lambda _: 0)
    assert time_move(pytest.fail, witness, lambda self: "there")(loaded) == "there"
