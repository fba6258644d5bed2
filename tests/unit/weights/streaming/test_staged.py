"""Bytes that threads read ahead: the right ones, whatever is brought in between, and no thread is left."""

from __future__ import annotations

import gc
import threading
import weakref
from pathlib import Path
from typing import Any

import pytest
import torch
from safetensors.torch import save_file

from flux_speedup.weights.errors import ReadError
from flux_speedup.weights.files.mapping import Registry
from flux_speedup.weights.streaming import staged as staging_room
from flux_speedup.weights.streaming.staged import Staged
from flux_speedup.weights.streaming.stream import Stream
from flux_speedup.weights.streaming.supply import Load, Straight
from flux_speedup.weights.streaming.timeline import PlainTimeline
from flux_speedup.weights.streaming.unit import Unit
from flux_speedup.weights.transfer.reader import MemorySource
from flux_speedup.weights.transfer.staging import Arena, SpareArena
from tests.unit.weights.streaming.simulated import Device, Memory
from tests.waiting import PATIENCE_S

TIMELINE = PlainTimeline(torch.device("cpu"))
NAME = "flux-speedup-stream"


def staged(registry: Registry | None = None, threads: int = 3) -> Staged:
    return Staged(
        TIMELINE, registry or Registry(), "page cache", threads, arena=Arena(limit=1 << 15, chunk=1 << 12)
    )


def threads() -> list[str]:
    return [thread.name for thread in threading.enumerate() if thread.name.startswith(NAME)]


def model(folder: Path, registry: Registry, layers: int = 6) -> torch.nn.Sequential:
    """Layers whose weights are views of a file; every other bias is in RAM."""
    torch.manual_seed(3)
    made = torch.nn.Sequential(*[torch.nn.Linear(65, 65) for _ in range(layers)]).requires_grad_(False)
    path = folder / "weights.safetensors"
    save_file(made.state_dict(), path)
    for name, view in registry.open(path).views().items():
        place, _, leaf = name.partition(".")
        if leaf == "weight" or int(place) % 2:
            made[int(place)]._parameters[leaf] = torch.nn.Parameter(view, requires_grad=False)
    return made


@pytest.mark.parametrize("run", [torch.no_grad, torch.inference_mode])
def test_a_model_computes_the_same_from_its_file(tmp_path: Path, run: type) -> None:
    registry = Registry()
    layers = model(tmp_path, registry)
    x = torch.randn(3, 65)
    expected = layers(x)
    units = {layer: Unit(number, str(number)) for number, layer in enumerate(layers)}
    stream = Stream(units, TIMELINE, staged(registry), 50_000)
    stream.set_streamed(units)
    with run():
        for _ in range(4):
            assert torch.equal(layers(x), expected)
    assert stream.figures.units > len(layers)
    assert threads()
    stream.rest()
    assert torch.equal(layers(x), expected)
    stream.close()
    assert not threads()
    assert torch.equal(layers(x), expected)


def test_casts_follow_the_last_byte() -> None:
    supply = staged()
    source = torch.randn(5000)
    raw, target = torch.zeros(5000), torch.zeros(5000, dtype=torch.float16)
    copies = [(raw.view(torch.uint8), source.view(torch.uint8))]
    arrivals = [supply.bring(Load(copies, [(target, raw)]), ()) for _ in range(5)]
    for arrival in arrivals:
        arrival()
    assert torch.equal(target, source.half())
    supply.close()


def test_nothing_to_copy_has_arrived() -> None:
    supply = staged()
    assert supply.bring(Load([]), ())() is None
    supply.close()
    supply.close()


def test_a_file_that_was_changed_is_not_read_and_the_host_computes(tmp_path: Path) -> None:
    registry = Registry()
    layers = model(tmp_path, registry)
    x = torch.randn(3, 65)
    expected = layers(x)
    units = {layer: Unit(number, str(number)) for number, layer in enumerate(layers)}
    stream = Stream(units, TIMELINE, staged(registry), 50_000)
    stream.set_streamed(units)
    assert torch.equal(layers(x), expected)
    path = tmp_path / "weights.safetensors"
    path.touch()
    for _ in range(2):
        assert torch.equal(layers(x), expected)
    stream.close()
    assert not threads()


class Refusing(PlainTimeline):
    refuses = True

    def copied(self) -> object:
        if self.refuses:
            raise RuntimeError("not now")
        return None


@pytest.mark.parametrize("through_slots", [False, True])
def test_what_the_host_has_computed_goes_with_it_where_a_weight_did_not_come(through_slots: bool) -> None:
    timeline = Refusing(torch.device("cpu"))
    arena = Arena(limit=1 << 15, chunk=1 << 12)
    slots = Staged(timeline, Registry(), "page cache", 2, arena=arena)
    leaf, held = torch.nn.Linear(8, 8).requires_grad_(False), []
    units = {leaf: Unit(0, "0")}
    stream = Stream(units, timeline, slots if through_slots else Straight(timeline, ""), 8192)
    stream.set_streamed(units)

    def host() -> None:
        x = torch.randn(3, 8)
        held.append(weakref.ref(x))
        assert torch.equal(leaf(x), torch.nn.functional.linear(x, leaf.weight, leaf.bias))

    gc.disable()
    try:
        host()
        assert held[0]() is None
    finally:
        gc.enable()
    assert stream._said
    stream.close()


def test_errors_go_to_whoever_needs_the_bytes_and_the_next_load_works() -> None:
    timeline = Refusing(torch.device("cpu"))
    supply = Staged(timeline, Registry(), "page cache", 2, arena=Arena(limit=1 << 15, chunk=1 << 12))
    target, ones = torch.zeros(9000, dtype=torch.uint8), torch.ones(9000, dtype=torch.uint8)
    with pytest.raises(RuntimeError, match="not now"):
        supply.bring(Load([(target, ones)]), ())()
    timeline.refuses = False
    supply.bring(Load([(target, ones)]), ())()
    assert target.sum() == 9000
    supply.close()
    with pytest.raises(ValueError, match="do not go"):
        supply.bring(Load([(target, ones[:5])]), ())
    supply.close()


@pytest.mark.parametrize("seed", range(10))
def test_memory_of_what_cannot_be_read_to_its_end_may_be_let_go_at_once(seed: int) -> None:
    device = Device(seed)
    begun = threading.Event()

    class Ends(MemorySource):
        def read_into(self, offset: int, target: memoryview) -> None:
            if offset:
                assert begun.wait(PATIENCE_S)
                raise ReadError(None, "the file ended here", offset=offset)
            super().read_into(offset, target)

    class Begins(Memory):
        def copy_(self, source: torch.Tensor | Memory, *, non_blocking: bool = False) -> None:
            super().copy_(source, non_blocking=non_blocking)
            begun.set()

        def __getitem__(self, part: slice) -> Memory:
            return Begins(self.device, self.data[part])

    supply = Staged(
        device, Registry(), "page cache", 2, arena=Arena(limit=1 << 15, chunk=1 << 12), in_ram=Ends
    )
    target, ones = torch.zeros(9000, dtype=torch.uint8), torch.ones(9000, dtype=torch.uint8)
    copies: Any = [(Begins(device, target), ones)]
    with pytest.raises(ReadError):
        supply.bring(Load(copies), ())()
    then = target.clone()
    device.run_all()
    assert torch.equal(target, then)
    supply.close()


def test_the_next_one_stages_in_the_same_memory(monkeypatch: pytest.MonkeyPatch) -> None:
    made: list[Arena] = []

    def make() -> Arena:
        made.append(Arena(limit=2 * staging_room.CHUNK, chunk=staging_room.CHUNK))
        return made[-1]

    monkeypatch.setattr(staging_room, "SPARE_ARENA", SpareArena(make, lambda: False))
    for number in range(3):
        supply = Staged(TIMELINE, Registry(), "page cache", 2)
        target, source = torch.zeros(5000, dtype=torch.uint8), torch.full((5000,), number, dtype=torch.uint8)
        supply.bring(Load([(target, source)]), ())()
        supply.close()
        assert target.equal(source)
    assert len(made) == 1
    assert made[0].bytes == 2 * staging_room.CHUNK
