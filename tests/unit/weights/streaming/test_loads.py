"""A load is made once for each place that a unit comes to, and holds nothing that is not its own any more."""

from __future__ import annotations

import gc
import weakref

import pytest
import torch

from flux_speedup.weights.streaming.kept import Copy, Made
from flux_speedup.weights.streaming.loads import Loads
from flux_speedup.weights.streaming.unit import Slot, Unit, home_bytes


class Sources:
    """Where slots lie: the same answer until somebody moves them."""

    def __init__(self) -> None:
        self.found: dict[str, tuple[torch.Tensor, ...]] = {}

    def __call__(self, slot: Slot) -> tuple[torch.Tensor, ...]:
        return self.found.setdefault(slot.name, tuple(home_bytes(slot)))


@pytest.fixture
def unit() -> Unit:
    unit, module = Unit(3, "layer"), torch.nn.Linear(4, 2).requires_grad_(False)
    assert unit.look(module, lambda tensor: tensor.dtype)
    return unit


def arrived(loads: Loads, unit: Unit, start: int, copy: Copy | None = None) -> list[torch.Tensor]:
    """What its slots show once it has been copied to a place."""
    load, views = loads.into(unit, start, copy)
    for target, source in load.copies:
        target.copy_(source)
    return views


def test_a_load_is_made_once_for_each_place(unit: Unit) -> None:
    loads = Loads(torch.zeros(4096, dtype=torch.uint8), Sources())
    first = loads.into(unit, 0, None)
    other = loads.into(unit, 1024, None)
    assert all(one is two for one, two in zip(first, loads.into(unit, 0, None), strict=True))
    assert other[0] is not first[0]
    for start in (0, 1024):
        views = arrived(loads, unit, start)
        assert all(torch.equal(view, slot.home) for view, slot in zip(views, unit.slots, strict=True))


def test_it_is_made_anew_once_anything_of_it_is_another(unit: Unit) -> None:
    sources = Sources()
    loads = Loads(torch.zeros(4096, dtype=torch.uint8), sources)
    arrived(loads, unit, 0)
    # Registered meanwhile, or let go: the bytes lie elsewhere.
    moved = torch.full_like(unit.slots[0].home, 7.0)
    sources.found[unit.slots[0].name] = (moved.reshape(-1).view(torch.uint8),)
    assert torch.equal(arrived(loads, unit, 0)[0], moved)
    copy = Copy(
        Made(unit.slots, {}), [(torch.zeros(slot.bytes, dtype=torch.uint8),) for slot in unit.slots], None
    )
    assert not arrived(loads, unit, 0, copy)[0].any()
    assert torch.equal(arrived(loads, unit, 0)[0], moved)
    # The host has replaced the weight.
    sources.found.clear()
    module = torch.nn.Linear(4, 2).requires_grad_(False)
    assert unit.look(module, lambda tensor: tensor.dtype)
    assert torch.equal(arrived(loads, unit, 0)[0], module.weight)


def test_what_it_was_made_of_may_go(unit: Unit) -> None:
    sources = Sources()
    loads = Loads(torch.zeros(4096, dtype=torch.uint8), sources)
    loads.into(unit, 0, None)
    held = [weakref.ref(piece) for found in sources.found.values() for piece in found]
    sources.found.clear()
    loads.forget([2])
    gc.collect()
    assert all(one() is not None for one in held)
    loads.forget([3])
    gc.collect()
    assert all(one() is None for one in held)
