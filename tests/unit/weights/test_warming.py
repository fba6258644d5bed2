"""What the first load pays for is paid before: in the background, once, leaving nothing and stopping nobody."""

from __future__ import annotations

import gc
import logging
from types import SimpleNamespace

import pytest
import torch

from flux_speedup.weights import warming
from flux_speedup.weights.first_kernels import ROOM, Shapes, has_room, use_once
from flux_speedup.weights.residency.residency import Residency
from flux_speedup.weights.transfer.staging import Arena
from flux_speedup.weights.warming import warm_up, warm_up_soon
from tests.unit.weights.weight_files import CARD, CountingLane, module_of
from tests.waiting import PATIENCE_S

CPU = frozenset({"cpu"})


def test_afterwards_a_load_makes_no_arena_and_finds_nothing_on_the_card() -> None:
    made: list[int] = []

    def allocate(size: int, pinned: bool) -> torch.Tensor:
        made.append(size)
        return torch.empty(size, dtype=torch.uint8)

    arena, before, lane = Arena(allocate=allocate), Arena(allocate=allocate), CountingLane()
    warm_up(CARD, arena, before, lambda _: lane)
    assert (len(made), lane.aborted) == (2, 0)
    assert lane.copies  # the check before unloading had something to look at
    lane.made.clear()
    gc.collect()
    module = module_of({"weight": torch.ones(1 << 20)})
    Residency(module, arena=arena, lanes=lambda _: lane).load(CARD)
    for each in (arena, before):  # for a load, and for what comes ahead of one
        with each.slots(pinned=False):
            assert len(made) == 2


def test_kernels_are_used_once_whatever_the_shapes() -> None:
    use_once(torch.device("cpu"), Shapes(16, 8, 48, 2, 64, 96, (32, 16), 4))


@pytest.mark.parametrize(("free", "room"), [(ROOM, True), (ROOM - 1, False)])
def test_a_small_card_is_left_alone(free: int, room: bool) -> None:
    card = SimpleNamespace(mem_get_info=lambda _device: (free, 2 * free))
    assert has_room(card, CARD) is room
    assert not has_room(SimpleNamespace(), CARD)


def test_it_has_a_thread_of_its_own(monkeypatch: pytest.MonkeyPatch) -> None:
    seen: list[torch.device] = []
    thread = warm_up_soon(CARD, seen.append, CPU)
    assert thread is not None
    assert thread.daemon
    thread.join(PATIENCE_S)
    assert seen == [CARD]


def test_without_a_gpu_nothing_is_done() -> None:
    assert warm_up_soon(torch.device("cpu")) is None
    assert warm_up_soon(torch.device("meta")) is None


@pytest.mark.parametrize(
    "error", [RuntimeError("CUDA error: busy\nmore"), MemoryError("none"), OSError("disk")]
)
def test_whatever_fails_there_stops_nothing(error: Exception, caplog: pytest.LogCaptureFixture) -> None:
    def fails(_: torch.device) -> None:
        raise error

    with caplog.at_level(logging.INFO, "flux_speedup"):
        thread = warm_up_soon(CARD, fails, CPU)
        assert thread is not None
        thread.join(PATIENCE_S)
    (line,) = caplog.messages
    assert line == f"the first load is not prepared ({str(error).splitlines()[0]})"


def test_where_no_thread_can_be_started_the_start_goes_on(monkeypatch: pytest.MonkeyPatch) -> None:
    def refuses(_: object) -> None:
        raise RuntimeError("can't start new thread")

    monkeypatch.setattr(warming.threading.Thread, "start", refuses)
    assert warm_up_soon(CARD, lambda _: None, CPU) is None


@pytest.mark.parametrize("fails", [False, True])
def test_what_needs_the_devices_context_comes_after_it(fails: bool) -> None:
    seen: list[str] = []

    def warm(_device: torch.device) -> None:
        seen.append("warm")
        if fails:
            raise RuntimeError("no card")

    thread = warm_up_soon(CARD, warm, CPU, lambda: seen.append("then"))
    assert thread is not None
    thread.join(PATIENCE_S)
    assert seen == ["warm", "then"][: 1 if fails else 2]
