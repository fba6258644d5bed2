"""Copies that are kept in RAM, with LoRAs in them or without: every kernel sees what it would without them."""

from __future__ import annotations

import contextlib
from typing import cast

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from flux_speedup.ram import Free, Held
from flux_speedup.weights.streaming.kept import Copy, Kept
from flux_speedup.weights.streaming.stream import Stream
from flux_speedup.weights.streaming.unit import Unit
from flux_speedup.weights.transfer.blocks import Blocks
from flux_speedup.weights.transfer.spare import Spare
from tests.unit.weights.streaming.simulated import Device, Leaf


class Run:
    """Leaves that stream; some of them have a LoRA, which adds a number."""

    def __init__(self, sizes: list[int], ring: int, room: int, *, clean: bool, seed: int = 0) -> None:
        self.device = Device(seed)
        self.leaves = [Leaf(self.device, size, number) for number, size in enumerate(sizes)]
        self.units = [Unit(number, f"leaf {number}") for number in range(len(sizes))]
        self.clean = [leaf.truth[0].clone() for leaf in self.leaves]
        self.added = [0.0] * len(sizes)
        self.merges = 0
        self.ledger = Held(lambda _: Free(1 << 40, 1 << 40))
        self.ledger.room = lambda rule=None: room - self.ledger.bytes  # type: ignore[method-assign]
        self.spare = Spare(self.ledger, quiet_s=60.0)
        self.keeps_clean = clean
        self.ring = max(ring, *(-(-4 * size // 256) * 256 + 256 for size in sizes))
        self.begin()

    def begin(self) -> None:
        """A stream of these leaves."""
        blocks = Blocks(pinned=False, held=self.ledger, spare=self.spare)
        self.kept = Kept(self.device, blocks, lambda _: self.keeps_clean)
        by_leaf = dict(zip(self.leaves, self.units, strict=True))
        self.stream = Stream(by_leaf, self.device, self.device, self.ring, kept=self.kept)
        self.stream.set_streamed(by_leaf)

    def again(self) -> None:
        """The model is loaded once more: another stream goes on with the memory of the copies."""
        self.stream.close()
        self.begin()

    def lora(self, number: int, added: float) -> None:
        """Another LoRA for one of them; 0: none. What was made with the old one does not count."""

        def merge(weight: torch.Tensor) -> torch.Tensor:
            self.merges += 1
            new, old = torch.zeros_like(weight.data), weight.data
            self.device.compute(lambda: new.copy_(old + added))
            return new

        self.units[number].merges = {"weight": merge} if added else {}
        self.added[number] = added
        self._expect(number)

    def write(self, number: int) -> None:
        """Somebody writes at home, and the stream is told."""
        self.device.run_all()  # nobody reads there
        self.leaves[number].weight.data.add_(1)
        self.clean[number] += 1
        self.stream.forget([number])
        self._expect(number)

    def replace(self, number: int, seed: int, size: int | None = None) -> None:
        self.leaves[number].replace(seed, size)
        self.clean[number] = self.leaves[number].truth[0].clone()
        self._expect(number)

    def round(self) -> None:
        for leaf in self.leaves:
            leaf()
            self.device.let_time_pass()

    def end(self) -> None:
        self.device.run_all()
        assert sum(leaf.wrong for leaf in self.leaves) == 0
        assert all(torch.equal(a.weight.data, b) for a, b in zip(self.leaves, self.clean, strict=True))
        self.stream.close()
        self.spare.drop()
        assert self.ledger.bytes == 0

    def _expect(self, number: int) -> None:
        self.leaves[number].truth[0] = self.clean[number] + self.added[number]


STEPS = ["round", "round", "lora", "off", "write", "replace", "trim", "raise", "fail copies", "rest", "again"]


@settings(max_examples=120, deadline=None)
@given(
    sizes=st.lists(st.integers(1, 400), min_size=1, max_size=8),
    ring=st.integers(256, 6000),
    room=st.integers(0, 9000),
    clean=st.booleans(),
    steps=st.lists(st.tuples(st.sampled_from(STEPS), st.integers(0, 9)), max_size=25),
    seed=st.integers(0, 1000),
)
def test_every_kernel_sees_its_weights_with_its_lora(
    sizes: list[int], ring: int, room: int, clean: bool, steps: list[tuple[str, int]], seed: int
) -> None:
    run = Run(sizes, ring, room, clean=clean, seed=seed)
    for at, (step, number) in enumerate(steps):
        number %= len(sizes)
        run.device.fail_copies = step == "fail copies"
        if step in ("lora", "off"):
            run.lora(number, at + 1.0 if step == "lora" else 0.0)
        elif step == "write":
            run.write(number)
        elif step == "replace":
            run.replace(number, 1000 + at)
        elif step == "trim":
            run.stream.trim([number])
        elif step == "rest":
            run.stream.rest()
        elif step == "again":
            run.again()
        else:
            run.leaves[number].fails = step == "raise"
            with contextlib.suppress(RuntimeError):
                run.round()
            run.leaves[number].fails = False
        assert run.ledger.bytes <= room
    run.device.fail_copies = False
    run.round()
    run.end()


@pytest.mark.parametrize(("room", "merges"), [(1 << 20, 4), (0, 4 * 5)])
def test_a_lora_is_merged_once_where_there_is_room_and_else_each_time(room: int, merges: int) -> None:
    run = Run([50, 60, 70, 80], 1024, room, clean=False)
    run.round()
    for number in range(4):
        run.lora(number, 2.0)
    run.stream.forget(range(4))
    for _ in range(5):
        run.round()
    # Those that had been brought when their copies were made are merged twice.
    assert merges <= run.merges <= merges + 2
    for number in range(4):
        run.lora(number, 0.0)
    assert (run.ledger.bytes > 0) == (room > 0)
    run.stream.trim(range(4))
    run.spare.drop()
    assert run.ledger.bytes == 0
    run.round()
    run.end()


def test_what_comes_from_slower_memory_is_read_once() -> None:
    run = Run([50, 60, 70, 80], 1024, 1 << 20, clean=True)
    for _ in range(3):
        run.round()
    assert all(run.kept.find(unit) is not None for unit in run.units)
    run.end()


def test_a_model_that_is_loaded_again_goes_on_with_the_memory_of_its_copies() -> None:
    run = Run([50, 60, 70, 80], 1024, 1 << 20, clean=False)
    for added in (2.0, 3.0):  # another LoRA: the copies are old, their memory is not
        for number in range(4):
            run.lora(number, added)
        run.round()
        run.round()
        taken = run.ledger.bytes
        assert taken
        run.ledger.room = lambda rule=None: 0  # type: ignore[method-assign]
        run.again()
        assert run.ledger.bytes == taken
    run.round()
    run.round()
    assert all(run.kept.find(unit) is not None for unit in run.units)
    run.end()


@pytest.mark.parametrize("seed", range(20))
@pytest.mark.parametrize("way", ["trim", "again", "another size"])
def test_memory_goes_once_nothing_is_copied_into_it_though_the_copy_counts_no_more(
    way: str, seed: int
) -> None:
    run = Run([50], 1024, 1 << 20, clean=True, seed=seed)
    run.leaves[0]()
    weight = cast("Copy", run.kept.find(run.units[0])).pieces[0][0]
    run.stream.forget([0])
    if way == "trim":
        run.keeps_clean = False
        run.stream.trim([0])
    elif way == "again":
        run.again()
    else:
        run.replace(0, seed, 100)
        run.leaves[0]()
    then = weight.clone()
    run.device.run_all()
    assert torch.equal(weight, then)
    del weight
    run.end()


def test_a_block_of_another_size_that_cannot_be_had_leaves_none() -> None:
    run = Run([50], 1024, 1 << 20, clean=True)
    run.leaves[0]()
    assert run.ledger.bytes
    run.ledger.room = lambda rule=None: 0  # type: ignore[method-assign]
    run.replace(0, 1, 100)
    run.leaves[0]()
    assert run.kept.find(run.units[0]) is None
    run.end()
