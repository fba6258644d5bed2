"""The arena: within its limit, used again, smaller or unpinned where memory is short, given back."""

from __future__ import annotations

import logging
import threading

import pytest
import torch

from flux_speedup.weights.transfer.staging import LIMIT, Arena, SpareArena
from tests.unit.weights.registering import ledger

MB = 1 << 20


def test_slots_fill_the_limit_and_are_used_again() -> None:
    arena = Arena(limit=5 * MB, chunk=2 * MB)
    with arena.slots(pinned=False) as slots:
        first = slots[0].tensor.data_ptr()
        assert [slot.tensor.numel() for slot in slots] == [2 * MB, 2 * MB]
        slots[1].view[3] = 77
        assert slots[1].tensor[3] == 77
    assert arena.bytes == 4 * MB <= LIMIT
    with arena.slots(pinned=False) as slots:
        assert slots[0].tensor.data_ptr() == first
    arena.release()
    assert arena.bytes == 0


def test_pinning_that_fails_ends_in_a_smaller_arena_then_in_ordinary_memory(
    caplog: pytest.LogCaptureFixture,
) -> None:
    tried: list[tuple[int, bool]] = []

    def room_for(most: int, *, pinned_at_all: bool) -> object:
        def allocate(size: int, pinned: bool) -> torch.Tensor:
            tried.append((size, pinned))
            if pinned and (not pinned_at_all or size > most):
                raise RuntimeError("CUDA error: out of memory")
            return torch.empty(size, dtype=torch.uint8)

        return allocate

    held = ledger()
    arena = Arena(limit=256 * MB, allocate=room_for(70 * MB, pinned_at_all=True), held=held)  # type: ignore[arg-type]
    with arena.slots(pinned=True) as slots:
        assert sum(slot.tensor.numel() for slot in slots) == 64 * MB
    assert arena.pinned
    assert held.bytes == arena.bytes > 0
    arena.release()
    assert held.bytes == 0
    arena = Arena(limit=64 * MB, allocate=room_for(0, pinned_at_all=False), held=held)  # type: ignore[arg-type]
    with caplog.at_level(logging.WARNING, "flux_speedup"), arena.slots(pinned=True) as slots:
        assert len(slots) == 4
    assert not arena.pinned
    assert held.bytes == 0
    assert "no pinned memory" in caplog.text
    assert tried[-1] == (32 * MB, False)
    count = len(tried)
    with arena.slots(pinned=True) as slots:
        assert len(slots) == 4
    assert len(tried) == count


def test_no_memory_at_all_is_an_error() -> None:
    def allocate(size: int, pinned: bool) -> torch.Tensor:
        raise MemoryError("nothing left")

    with pytest.raises(MemoryError), Arena(allocate=allocate).slots(pinned=False):
        raise AssertionError


def test_one_load_uses_it_at_a_time() -> None:
    arena = Arena(limit=MB, chunk=MB)
    order: list[str] = []
    entered = threading.Event()

    def other() -> None:
        entered.set()
        with arena.slots(pinned=False):
            order.append("second")

    with arena.slots(pinned=False):
        thread = threading.Thread(target=other)
        thread.start()
        entered.wait()
        order.append("first")
    thread.join()
    assert order == ["first", "second"]


class TestSpareArena:
    """Whoever streams again finds memory that is pinned already."""

    def test_one_waits_and_the_others_go(self) -> None:
        spare = SpareArena(lambda: Arena(limit=2 * MB, chunk=MB), lambda: False)
        one, other = spare.take(), spare.take()
        for each in (one, other):
            with each.slots(pinned=False):
                assert each.bytes
            spare.give(each)
        assert (one.bytes, other.bytes) == (2 * MB, 0)
        assert spare.take() is one
        assert spare.take() is not one

    def test_while_ram_is_short_none_waits(self) -> None:
        spare = SpareArena(lambda: Arena(limit=2 * MB, chunk=MB), lambda: True)
        one = spare.take()
        with one.slots(pinned=False):
            assert one.bytes
        spare.give(one)
        assert one.bytes == 0
        assert spare.take() is not one
