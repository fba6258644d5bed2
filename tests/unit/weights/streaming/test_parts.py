"""A weight that is more than its bytes streams with its companions, and with what is merged into it."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping
from typing import Any

import pytest
import torch

from flux_speedup.weights.residency.forms import KINDS
from flux_speedup.weights.streaming.stream import Stream
from flux_speedup.weights.streaming.supply import Straight
from flux_speedup.weights.streaming.timeline import PlainTimeline
from flux_speedup.weights.streaming.unit import Unit
from tests.second_device import CARD
from tests.second_device.marks import needs_card
from tests.unit.weights.streaming.kinds import Kind

pytestmark = needs_card


class Scaled(torch.nn.Parameter):
    """A host's class: whole numbers, and what each row is multiplied by."""

    scales: torch.Tensor


class WithScales(Kind):
    def companions(self, tensor: Any) -> Mapping[str, torch.Tensor]:
        return {"scales": tensor.scales}

    def merged(self, tensor: Any, merge: Callable[[torch.Tensor], torch.Tensor]) -> torch.Tensor:
        return scaled(merge(tensor.data * tensor.scales))


class Layer(torch.nn.Module):
    weight: Scaled

    def __init__(self, number: int) -> None:
        super().__init__()
        self.weight = scaled(torch.full((8, 4), float(number)))

    def forward(self) -> torch.Tensor:
        assert self.weight.device == self.weight.scales.device == CARD
        return self.weight.data * self.weight.scales


def scaled(values: torch.Tensor) -> Scaled:
    made = Scaled(values * 2, requires_grad=False)
    made.scales = torch.full((8, 1), 0.5, device=values.device)
    return made


@pytest.fixture(autouse=True)
def kind() -> Iterator[None]:
    KINDS[Scaled] = WithScales()
    yield
    del KINDS[Scaled]


def test_companions_come_through_the_ring_and_merges_have_theirs() -> None:
    layers = [Layer(number) for number in range(5)]
    units = {layer: Unit(number, f"layers.{number}") for number, layer in enumerate(layers)}
    units[layers[3]].merges = {"weight": lambda weight: KINDS[Scaled].merged(weight, lambda one: one + 100)}
    homes = [(layer.weight.data_ptr(), layer.weight.scales.data_ptr()) for layer in layers]
    timeline = PlainTimeline(CARD)
    stream = Stream(units, timeline, Straight(timeline, "home"), 2048)
    stream.set_streamed(units)
    for _ in range(3):
        assert [float(layer().cpu().mean()) for layer in layers] == [0, 1, 2, 103, 4]
        assert [(layer.weight.data_ptr(), layer.weight.scales.data_ptr()) for layer in layers] == homes
    assert stream.figures.units > len(layers)
    stream.close()


def test_a_companion_that_somebody_replaced_is_seen() -> None:
    layer = Layer(3)
    unit = Unit(0, "layer")
    timeline = PlainTimeline(CARD)
    stream = Stream({layer: unit}, timeline, Straight(timeline, "home"), 2048)
    stream.set_streamed({layer: unit})
    assert float(layer().cpu().mean()) == 3
    layer.weight.scales = torch.ones(8, 1)
    assert float(layer().cpu().mean()) == 6
    stream.close()
