"""Readers and slots on a device that copies late: no slot and no place is overwritten before its time."""

from __future__ import annotations

import random
import threading
from collections.abc import Callable
from typing import Any

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from flux_speedup.weights.files.mapping import Registry
from flux_speedup.weights.streaming.slots import Part, packed
from flux_speedup.weights.streaming.staged import Staged
from flux_speedup.weights.streaming.supply import Load
from flux_speedup.weights.transfer.reader import MemorySource, Source
from flux_speedup.weights.transfer.staging import Arena
from tests.unit.weights.streaming.simulated import Device, Memory, Point
from tests.waiting import PATIENCE_S

CHUNK = 1 << 10
SEEDS = st.integers(0, 2**16)


class Hasty(Device):
    """Says of everything that it is over."""

    def reached(self, mark: Point | None) -> bool:
        return True


class Machine:
    """Loads into places of a device, which computing looks at later; `wrong`: that did not find its bytes."""

    def __init__(
        self,
        device: Device,
        slots: int,
        threads: int,
        in_ram: Callable[[torch.Tensor], Source] = MemorySource,
    ) -> None:
        self.device = device
        device.pinned = False  # ordinary memory stands for it
        self.arena = Arena(limit=slots * CHUNK, chunk=CHUNK)
        self.supply = Staged(device, Registry(), "page cache", threads, arena=self.arena, in_ram=in_ram)
        self.looked = self.wrong = 0
        self.computed: dict[int, list[Any]] = {}

    def load(
        self, place: int, memory: torch.Tensor, sizes: list[int], seed: int, *, used: bool = True
    ) -> None:
        generator = torch.Generator().manual_seed(seed)
        truth = torch.randint(0, 256, (sum(sizes),), dtype=torch.uint8, generator=generator)
        targets = torch.split(memory[: sum(sizes)], sizes)
        copies: Any = [
            (Memory(self.device, t), s) for t, s in zip(targets, torch.split(truth, sizes), strict=True)
        ]
        arrival = self.supply.bring(Load(copies), self.computed.pop(place, []))
        if used:
            self.device.computing_waits(self.device.computing(), arrival())
            self.device.compute(lambda: self._look(memory[: len(truth)], truth))
            self.computed[place] = [self.device.computed(self.device.computing())]

    def end(self) -> None:
        self.supply.rest()
        self.device.run_all()
        self.supply.close()

    def _look(self, found: torch.Tensor, truth: torch.Tensor) -> None:
        self.looked += 1
        self.wrong += not torch.equal(found, truth)


@given(
    seed=SEEDS,
    slots=st.integers(1, 6),
    threads=st.integers(1, 4),
    loads=st.lists(st.lists(st.integers(0, 3 * CHUNK), max_size=4), min_size=1, max_size=12),
)
@settings(deadline=None, max_examples=60)
def test_whatever_computes_finds_the_bytes_of_its_own_load(
    seed: int, slots: int, threads: int, loads: list[list[int]]
) -> None:
    chance = random.Random(seed)
    machine = Machine(Device(seed), slots, threads)
    memories = [torch.zeros(12 * CHUNK, dtype=torch.uint8) for _ in range(3)]
    used = 0
    for number, sizes in enumerate(loads):
        place = number % len(memories)
        # What is brought for nobody is still under way when its place gets other bytes.
        needed = chance.random() < 0.7 or number >= len(loads) - len(memories)
        machine.load(place, memories[place], sizes, number, used=needed)
        used += needed
        if chance.random() < 0.5:
            machine.device.let_time_pass()
    machine.end()
    assert (machine.looked, machine.wrong) == (used, 0)


@pytest.mark.parametrize(("kind", "wrong"), [(Device, 0), (Hasty, 1)])
def test_a_slot_that_is_filled_too_early_is_found_out(kind: type[Device], wrong: int) -> None:
    machine = Machine(kind(), slots=2, threads=1)
    machine.load(0, torch.zeros(8 * CHUNK, dtype=torch.uint8), [8 * CHUNK], 0)
    machine.end()
    assert (machine.looked, machine.wrong) == (1, wrong)


class Held(MemorySource):
    """The first of all is not read before the last one was."""

    made = 0

    def __init__(self, tensor: torch.Tensor) -> None:
        super().__init__(tensor)
        self.first = not Held.made
        Held.made += 1

    last_was_read = threading.Event()

    def read_into(self, offset: int, target: memoryview) -> None:
        if self.first:
            assert self.last_was_read.wait(PATIENCE_S)
        super().read_into(offset, target)
        if not self.first:
            self.last_was_read.set()


def test_a_place_keeps_what_was_brought_last_whatever_is_read_first() -> None:
    machine = Machine(Device(), slots=4, threads=2, in_ram=Held)
    memory = torch.zeros(CHUNK, dtype=torch.uint8)
    machine.load(0, memory, [CHUNK], 0, used=False)
    machine.load(0, memory, [CHUNK], 1)
    machine.end()
    assert (machine.looked, machine.wrong) == (1, 0)


def test_reading_goes_on_while_the_bus_stands_still() -> None:
    machine = Machine(Device(), slots=8, threads=2)
    blocked = Point(machine.device)  # what the first place held is being computed with
    machine.computed[0] = [blocked]
    memory = torch.zeros(8, CHUNK, dtype=torch.uint8)
    for place in range(6):
        machine.load(place, memory[place], [CHUNK - 64, 60], place, used=False)
    machine.supply.rest()  # all of it is read, and its copies are queued behind the first one's wait
    assert not memory.any()
    blocked.reached = True
    machine.end()
    assert all(row.any() for row in memory[:6])


def test_a_slot_takes_as_many_pieces_as_fit_and_no_byte_twice() -> None:
    sizes = [700, 10, 0, 2500, 64, 1]
    sources = [torch.full((size,), number, dtype=torch.uint8) for number, size in enumerate(sizes)]
    targets = [torch.zeros(size, dtype=torch.uint8) for size in sizes]
    parts = [Part(t, MemorySource(s), 0) for t, s in zip(targets, sources, strict=True)]
    lists = packed(parts, CHUNK)
    assert [sum(part.room for part in one) <= CHUNK for one in lists] == [True] * 4
    for part in (part for one in lists for part in one):
        assert not part.target.any()
        part.source.read_into(part.offset, memoryview(part.target.numpy()))  # type: ignore[arg-type]
        part.target.add_(1)
    assert torch.equal(torch.cat(targets), torch.cat(sources) + 1)
