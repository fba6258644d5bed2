"""Pinned blocks: made beside whoever computes, within the RAM rule, unregistered before they are unmapped."""

from __future__ import annotations

import threading
from collections.abc import Iterator
from typing import Any

import pytest
import torch

from flux_speedup.ram import Free, Held
from flux_speedup.weights.transfer.blocks import Blocks
from flux_speedup.weights.transfer.registration import Registrar
from flux_speedup.weights.transfer.spare import Spare


class System:
    """Registers, or refuses to."""

    def __init__(self, error: int = 0) -> None:
        self.registered: dict[int, int] = {}
        self.error = error

    def registrar(self) -> Registrar:
        return Registrar(self._register, lambda address: self.registered.pop(address) and 0)

    def _register(self, address: int, size: int) -> int:
        if not self.error:
            self.registered[address] = size
        return self.error


def ledger(room: int) -> Held:
    held: list[Held] = []

    def free(_: int) -> Free:
        return Free(2 * room - held[0].bytes, 2 * room)  # half of it may be held

    held.append(Held(free))
    return held[0]


def ask(blocks: Blocks, size: int) -> torch.Tensor | None:
    """A block, waited for; None where there is none to be had."""
    got: list[torch.Tensor] = []
    there = threading.Event()

    def ready(block: torch.Tensor) -> None:
        got.append(block)
        there.set()

    blocks.ask(size, ready)
    for _ in range(2000):
        if there.wait(0.01) or blocks.full:
            return got[0] if got else None
    raise AssertionError("nobody answered")


def test_blocks_are_made_until_the_rule_says_no_and_again_when_some_are_let_go() -> None:
    system, held = System(), ledger(10_000)
    spare = Spare(held, quiet_s=60.0)
    blocks = Blocks(registrar=system.registrar(), held=held, rest=0.0, spare=spare)
    first, second = ask(blocks, 4096), ask(blocks, 4096)
    assert first is not None
    assert second is not None
    assert sorted(system.registered.values()) == [4096, 4096] == [len(first), len(second)]
    assert ask(blocks, 4096) is None
    assert not blocks.ask(1, lambda _: None)
    assert held.bytes == 8192
    gone = [first]
    blocks.let_go(gone)
    assert not gone
    assert ask(blocks, 4096) is first  # who wants as much gets it as it is
    assert ask(blocks, 4096) is None
    blocks.let_go([first])
    first = None
    smaller = ask(blocks, 2048)  # there is room once what is spare has gone
    assert smaller is not None
    assert sorted(system.registered.values()) == [2048, 4096]
    blocks.close()
    assert [thread for thread in threading.enumerate() if "pinning" in thread.name] == []
    del second, smaller
    assert not system.registered
    assert held.bytes == 0


def test_what_is_spare_goes_once_nobody_computes_and_at_once_where_ram_is_short() -> None:
    free = Free(1 << 30, 1 << 30)
    held = Held(lambda _: free)
    spare = Spare(held, quiet_s=0.01)
    spare.busy = lambda: busy
    busy = True
    spare.put([torch.zeros(5), torch.zeros(5), torch.zeros(7)])
    assert not spare._idle.wait(0.2)
    assert spare.take(6) is None
    assert spare.take(7) is not None
    assert spare._relieve()
    free = Free(1 << 20, 1 << 30)
    assert not spare._relieve()
    assert spare.take(5) is None
    spare.put([torch.zeros(5)])
    busy = False
    assert spare._idle.wait(30.0)
    assert spare.take(5) is None
    assert not spare.drop()


def test_what_comes_while_one_goes_stops_nothing() -> None:
    spare = Spare(Held(lambda _: Free(1 << 30, 1 << 30)), quiet_s=60.0)

    class Sizes(dict[int, list[torch.Tensor]]):
        """Another thread puts one there as soon as somebody looks."""

        def __iter__(self) -> Iterator[int]:
            found = super().__iter__()
            another = threading.Thread(target=spare.put, args=([torch.zeros(7)],), daemon=True)
            another.start()
            another.join(0.1)
            return found

    spare._blocks = Sizes({5: [torch.zeros(5)]})
    assert not spare._drop_one()


@pytest.mark.parametrize("room", [10_000, 5000])
def test_where_memory_cannot_be_registered_it_is_pinned_by_pytorch_in_its_sizes(room: int) -> None:
    asked: list[int] = []

    def allocate(size: int) -> torch.Tensor:
        asked.append(size)
        return torch.zeros(size, dtype=torch.uint8)

    held = ledger(room)
    blocks = Blocks(registrar=System(error=801).registrar(), allocate=allocate, held=held, rest=0.0)
    found = ask(blocks, 4100)
    assert (found is not None) == (room == 10_000)
    assert asked == [4100][: room > 8192]
    assert held.bytes == (8192 if room == 10_000 else 0)
    blocks.close()
    del found
    assert held.bytes == 0


def test_ordinary_memory_is_made_at_once_and_errors_end_it() -> None:
    held = ledger(1 << 20)
    blocks = Blocks(pinned=False, registrar=System(error=1).registrar(), held=held)
    got: list[Any] = []
    assert blocks.ask(100, got.append)
    assert got[0].numel() == 100
    assert not blocks.ask(2 << 20, got.append)
    blocks.close()
