"""What streaming tells the host's own machinery, and what it leaves after a load that failed."""

from __future__ import annotations

import gc
import sys
import threading
import types
import weakref
from typing import Any

import pytest
import torch

from flux_speedup.hosts.forge.streamed import Means, Streamed, streamable
from flux_speedup.hosts.forge.streaming import Streaming
from flux_speedup.weights.residency.placement import Placement
from flux_speedup.weights.streaming import split
from flux_speedup.weights.streaming.timeline import PlainTimeline
from tests.unit.weights.weight_files import CARD
from tests.waiting import eventually


def streaming(monkeypatch: pytest.MonkeyPatch) -> Streaming:
    manager = types.SimpleNamespace(PIN_SHARED_MEMORY=False)
    monkeypatch.setitem(sys.modules, "backend.memory_management", manager)
    direct: Any = None
    return Streaming(Placement(), direct)


def loaded(model: torch.nn.Module, unloads: list[str]) -> Any:
    patcher = types.SimpleNamespace(model=model, offload_device=torch.device("cpu"))
    return types.SimpleNamespace(
        model=patcher, device=torch.device("cpu"), model_unload=lambda: unloads.append("unloaded")
    )


def test_the_hosts_stream_is_for_what_the_host_swaps_by_itself(monkeypatch: pytest.MonkeyPatch) -> None:
    ours, model = streaming(monkeypatch), torch.nn.Linear(2, 2)
    asked = ours._wrap_should_use_stream(lambda: True)
    profile = ours._wrap_profile(lambda model, memory: "the host's")
    assert asked() is False, "all is on the card: what it casts ahead would only stay there"
    assert profile(model, 0) == "the host's"
    assert asked() is True
    assert ours._wrap_should_use_stream(lambda: False)() is False
    ours._wrap_model_load(lambda *_: None)(loaded(model, []), -1)
    assert asked() is False, "loaded anew, as a whole"
    assert profile(model, 0) == "the host's"
    unpatch = ours._wrap_unpatch(lambda *_: None)
    unpatch(loaded(model, []).model)
    assert asked() is True
    unpatch(loaded(model, []).model, torch.device("cpu"))
    assert asked() is False, "not on the card at all"


def test_what_a_failed_load_has_put_on_the_card_leaves_it(monkeypatch: pytest.MonkeyPatch) -> None:
    def out_of_memory(*_: Any) -> None:
        raise torch.OutOfMemoryError("full")

    unloads: list[str] = []
    one = loaded(torch.nn.Linear(2, 2), unloads)
    with pytest.raises(torch.OutOfMemoryError):
        streaming(monkeypatch)._wrap_model_load(out_of_memory)(one, -1)
    assert unloads == ["unloaded"]


class Layer(torch.nn.Linear):
    """As the host's own layers say it."""

    parameters_manual_cast = False


def test_of_a_model_that_everybody_forgets_nothing_is_left(monkeypatch: pytest.MonkeyPatch) -> None:
    """Such as one of an extension that keeps a few, whose patcher is gone: the host tells nobody."""
    monkeypatch.setattr(split, "LEAST", 1)
    timeline = PlainTimeline(CARD)
    timeline.pinned = True  # what is not registered is read ahead, by threads
    model: Any = torch.nn.Sequential(Layer(64, 64), Layer(64, 64)).requires_grad_(False)
    found = Streamed(model, streamable(model), CARD, Means(Placement(), timeline, None), 1 << 20, None)
    found.split.give_way(0)
    gone, x = weakref.ref(found), torch.ones(1, 64)
    with torch.no_grad():
        model(x)
    assert reading()
    del model, found
    gc.collect()
    assert eventually(lambda: not reading() and (gc.collect(), gone())[1] is None)


def reading() -> list[str]:
    return [each.name for each in threading.enumerate() if each.name.startswith("flux-speedup-stream")]
