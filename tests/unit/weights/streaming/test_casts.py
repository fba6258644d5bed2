"""What a host casts of one of its own classes, in its place, at a layer's first call: kept while that is right."""

from __future__ import annotations

from collections.abc import Iterator

import pytest
import torch

from flux_speedup.weights.residency.forms import KINDS
from flux_speedup.weights.streaming.stream import Stream
from flux_speedup.weights.streaming.supply import Straight
from flux_speedup.weights.streaming.timeline import PlainTimeline
from flux_speedup.weights.streaming.unit import SMALL, Unit
from tests.unit.weights.streaming.kinds import Kind


class Read(torch.nn.Parameter):
    """A host's class: as it was read from a file."""


class Layer(torch.nn.Module):
    def __init__(self, size: int) -> None:
        super().__init__()
        self.bias = Read(torch.arange(size, dtype=torch.float32), requires_grad=False)
        self.casts = 0

    def forward(self) -> torch.Tensor:
        if self.bias.dtype != torch.float16:
            self.casts += 1
            self.bias = torch.nn.Parameter(self.bias.to(torch.float16), requires_grad=False)  # type: ignore[assignment]
        return self.bias.data.clone()


@pytest.fixture(autouse=True)
def kind() -> Iterator[None]:
    KINDS[Read] = Kind()
    yield
    del KINDS[Read]


class Run:
    def __init__(self, size: int = 8) -> None:
        self.layers = [Layer(size) for _ in range(4)]
        self.units = {layer: Unit(number, str(number)) for number, layer in enumerate(self.layers)}
        self.own = [layer.bias for layer in self.layers]
        timeline = PlainTimeline(torch.device("cpu"))
        self.stream = Stream(self.units, timeline, Straight(timeline, "plain"), 8 * (size + 256))
        self.stream.set_streamed(self.units)

    def casts(self, added: float = 0.0) -> int:
        """How often a layer is cast in one pass, which computes the right values."""
        before = sum(layer.casts for layer in self.layers)
        for layer, own in zip(self.layers, self.own, strict=True):
            assert torch.equal(layer(), (own.data + added).half())
            assert layer.bias is own
        return sum(layer.casts for layer in self.layers) - before


def test_it_is_cast_once() -> None:
    run = Run()
    assert [run.casts() for _ in range(3)] == [4, 0, 0]
    run.stream.close()
    assert all(layer.bias is own for layer, own in zip(run.layers, run.own, strict=True))


def test_it_is_cast_again_once_it_may_be_another() -> None:
    run = Run()
    run.casts()
    run.own[1].data += 1  # and the stream is told
    run.stream.forget([1])
    assert run.casts() == 1
    for added in (3.0, 5.0):
        for unit in run.units.values():
            unit.merges = {"bias": lambda bias, added=added: bias + added}
        assert [run.casts(added), run.casts(added)] == [4, 0]
    for unit in run.units.values():
        unit.merges = {}
    assert [run.casts(), run.casts()] == [4, 0]
    run.layers[2].bias = run.own[2] = Read(torch.full((8,), 7.0), requires_grad=False)
    assert [run.casts(), run.casts()] == [1, 0]


def test_no_memory_of_it_is_held_while_nobody_runs_the_model() -> None:
    run = Run()
    run.casts()
    run.stream.rest()
    assert [run.casts(), run.casts()] == [4, 0]


def test_what_is_large_is_cast_each_time() -> None:
    run = Run(SMALL)
    assert [run.casts(), run.casts()] == [4, 4]
