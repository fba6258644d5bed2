"""What is told of how a model's weights came to the device."""

from __future__ import annotations

from pathlib import Path

import torch

from flux_speedup.weights.files.mapping import Registry
from flux_speedup.weights.residency.backing import Backing
from flux_speedup.weights.residency.placement import Arrival, Placement
from flux_speedup.weights.transfer.lane import PlainLane
from tests.second_device import CARD
from tests.second_device.marks import needs_card
from tests.unit.weights.weight_files import module_of, write_weights

pytestmark = needs_card


def test_an_arrival_is_of_the_last_load(tmp_path: Path) -> None:
    registry = Registry()
    file = write_weights(tmp_path / "a.safetensors", {"weight": torch.rand(64, 64)})
    module = module_of(registry.open(file).views())
    placement = Placement(registry, lanes=PlainLane)
    placement.load(module, CARD)
    found = placement.arrival(module)
    assert found is not None
    assert found.by_backing[Backing.SPAN] == 64 * 64 * 4
    placement.load(module, CARD)
    assert placement.arrival(module) == Arrival("", {})  # by us, but not now
    placement.unload(module)
    assert placement.arrival(module) is None
    module.to(CARD)  # somebody moves it
    placement.load(module, CARD)
    assert placement.arrival(module) is None
