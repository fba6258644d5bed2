"""A model that somebody compiles while it streams computes the same."""

from __future__ import annotations

from collections.abc import Callable

import pytest
import torch

from flux_speedup.weights.streaming.stream import Stream
from flux_speedup.weights.streaming.supply import Straight
from flux_speedup.weights.streaming.timeline import PlainTimeline
from flux_speedup.weights.streaming.unit import Unit


def whole(model: torch.nn.Sequential) -> Callable[..., torch.Tensor]:
    found: Callable[..., torch.Tensor] = torch.compile(model, backend="eager")
    return found


def one(model: torch.nn.Sequential) -> Callable[..., torch.Tensor]:
    model[1].compile(backend="eager")
    return model


@pytest.mark.parametrize("compiled", [whole, one])
def test_what_is_compiled_meanwhile_computes_the_same(
    compiled: Callable[[torch.nn.Sequential], Callable[..., torch.Tensor]],
) -> None:
    model = torch.nn.Sequential(*[torch.nn.Linear(8, 8) for _ in range(4)]).requires_grad_(False)
    x = torch.randn(2, 8)
    expected = model(x)
    timeline = PlainTimeline(torch.device("cpu"))
    units = {module: Unit(number, str(number)) for number, module in enumerate(model)}
    stream = Stream(units, timeline, Straight(timeline, "plain"), 1024)
    stream.set_streamed(units)
    model(x)
    computes = compiled(model)
    with torch.inference_mode():
        for _ in range(3):
            assert torch.equal(computes(x), expected)
    stream.close()
    assert torch.equal(computes(x), expected)


def test_nothing_of_ours_is_compiled_with_it() -> None:
    from torch._dynamo.utils import counters

    torch.compiler.reset()
    counters.clear()
    test_what_is_compiled_meanwhile_computes_the_same(whole)
    assert 0 < counters["frames"]["total"] < 20, "some a layer, of what brings its weights"
