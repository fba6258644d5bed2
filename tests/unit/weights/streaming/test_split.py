"""Some units stay, others stream, and they change places: the model computes the same all the time."""

from __future__ import annotations

from collections.abc import Collection, Iterable, Mapping, Sequence

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from flux_speedup.weights.errors import TransferError
from flux_speedup.weights.streaming.split import Arrive, Owner, Split, units_of
from flux_speedup.weights.streaming.stream import Stream
from flux_speedup.weights.streaming.supply import Straight
from flux_speedup.weights.streaming.timeline import PlainTimeline
from flux_speedup.weights.streaming.unit import Merge

LAYERS, WIDTH = 6, 600  # 1.4 MB each


class Host:
    """Who moves weights to stay: here, to copies of their own. `room`: bytes on its device."""

    def __init__(self, model: torch.nn.Module, room: int = 1 << 40) -> None:
        self.model, self.room = model, room
        self.homes: dict[str, torch.Tensor] = {}
        self.away: set[torch.nn.Module] = set()
        self.merged: list[str] = []

    def has_room(self, size: int) -> None:
        held = sum(home.nbytes for home in self.homes.values())
        if held + size > self.room:
            raise TransferError(None, "no room")

    def load(self, names: Collection[str]) -> None:
        self.has_room(sum(self.model.get_parameter(name).nbytes for name in names))
        for name in names:
            parameter = self.model.get_parameter(name)
            self.homes[name] = parameter.data
            parameter.data = parameter.data.clone()

    def expect(self, names: Collection[str]) -> Arrive:
        expected = {id(self.model.get_parameter(name)): name for name in names}

        def arrive(pairs: Sequence[tuple[torch.Tensor, torch.Tensor]]) -> None:
            self.has_room(sum(data.nbytes for _, data in pairs))
            for parameter, data in pairs:
                self.homes[expected[id(parameter)]] = parameter.data
                parameter.data = data

        return arrive

    def unload(self, names: Iterable[str]) -> None:
        for name in names:
            if name in self.homes:
                self.model.get_parameter(name).data = self.homes.pop(name)

    def merge(self, merges: Mapping[str, Merge]) -> None:
        for name, merge in merges.items():
            parameter = self.model.get_parameter(name)
            parameter.data = merge(parameter)
            self.merged.append(name)

    def at_home(self, module: torch.nn.Module, is_at_home: bool) -> None:
        (self.away.discard if is_at_home else self.away.add)(module)


class Shared:
    """A small model, split."""

    def __init__(self, room: int = 1 << 40) -> None:
        torch.manual_seed(1)
        layers = [torch.nn.Linear(WIDTH, WIDTH) for _ in range(LAYERS)]
        self.model = torch.nn.Sequential(*layers, torch.nn.LayerNorm(WIDTH)).requires_grad_(False)
        self.truth = {name: tensor.clone() for name, tensor in self.model.named_parameters()}
        self.x = torch.randn(2, WIDTH)
        self.expected = self.model(self.x)
        self.host = Host(self.model, room)
        units = units_of(self.model, lambda _: True, lambda tensor: tensor.nbytes)
        timeline = PlainTimeline(torch.device("cpu"))
        self.stream = Stream(units, timeline, Straight(timeline, "plain"), 1 << 22)
        host = self.host
        owner = Owner(host.load, host.unload, host.expect, host.merge, host.at_home)
        self.split = Split(units, self.stream, owner)
        self.whole = sum(unit.bytes for unit in units.values())

    def check(self) -> None:
        assert torch.equal(self.model(self.x), self.expected)
        held = sum(home.nbytes for home in self.host.homes.values())
        assert held == self.split.staying
        assert self.split.staying + self.split.streaming == self.whole
        assert self.split.streamed_names.isdisjoint(self.host.homes)
        assert len(self.host.away) * (self.whole // LAYERS) == held


def test_small_weights_and_those_of_two_owners_never_stream() -> None:
    model = Shared().model
    assert len(units_of(model, lambda _: True, lambda tensor: tensor.nbytes)) == LAYERS
    model[1].weight = model[0].weight
    assert len(units_of(model, lambda _: True, lambda tensor: tensor.nbytes)) == LAYERS - 2
    assert not units_of(model, lambda _: False, lambda tensor: tensor.nbytes)


MOVES = st.lists(st.tuples(st.sampled_from(["fit", "come", "give way"]), st.floats(0, 1.2)), max_size=8)


@settings(max_examples=25, deadline=None)
@given(MOVES)
def test_whatever_stays_and_streams_the_model_computes_the_same(moves: list[tuple[str, float]]) -> None:
    run = Shared()
    for move, share in moves:
        size = int(share * run.whole)
        if move != "give way":
            run.split.fit(size, later=move == "come")
            run.model(run.x)
            assert run.split.staying <= size
            assert size - run.split.staying <= 2 * run.whole // LAYERS or run.split.streaming == 0
        else:
            before = run.split.staying
            gone = run.split.give_way(size)
            assert gone >= min(size, before)
            assert before - run.split.staying == gone
        run.check()
    run.split.close()
    assert torch.equal(run.model(run.x), run.expected)
    run.host.unload(list(run.host.homes))
    assert all(torch.equal(t, run.truth[name]) for name, t in run.model.named_parameters())


def test_no_hook_is_left_where_everything_stays() -> None:
    run = Shared()
    run.split.fit(run.whole)
    assert run.stream.streamed == frozenset()
    assert not any(module._forward_hooks or module._forward_pre_hooks for module in run.model.modules())


def test_without_room_they_stream_on() -> None:
    run = Shared(room=3 << 20)
    with pytest.raises(TransferError):
        run.split.fit(run.whole)
    run.check()
    run.split.fit(3 << 20)
    run.check()
    assert run.split.staying


def test_what_comes_back_has_its_lora_and_what_streams_too() -> None:
    run = Shared()
    names = ["1.weight", "4.bias"]
    expected = Shared()
    for name in names:
        expected.model.get_parameter(name).data += 1
    run.split.set_merges({name: lambda weight: weight + 1 for name in names})
    for budget in (0, run.whole, run.whole // 2, run.whole):
        run.split.fit(budget)
        assert torch.equal(run.model(run.x), expected.model(run.x))
    assert set(run.host.merged) == set(names)
    run.split.set_merges({})
    run.split.fit(0)
    run.check()
