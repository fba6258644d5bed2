"""A file on a device, whole: what safetensors' own loader makes, or nothing where there is no room."""

from __future__ import annotations

from pathlib import Path

import pytest
import torch
from safetensors.torch import load_file, save_file

from flux_speedup.weights import whole_file
from flux_speedup.weights.errors import WeightsError
from flux_speedup.weights.files.mapping import Registry
from flux_speedup.weights.transfer.lane import PlainLane
from tests import second_device


@pytest.fixture
def card() -> torch.device:
    if second_device.why_not():
        pytest.skip(second_device.why_not())
    return second_device.CARD


@pytest.fixture
def file(tmp_path: Path) -> Path:
    random = torch.Generator().manual_seed(1)
    tensors = {
        "large": torch.randn(700, 700, generator=random).half(),
        "scalar": torch.tensor(3.5),
        "empty": torch.empty(0, 4),
        "numbers": torch.arange(77),
    }
    save_file(tensors, tmp_path / "a.safetensors")
    return tmp_path / "a.safetensors"


def test_it_is_what_safetensors_makes_in_memory_of_its_own(card: torch.device, file: Path) -> None:
    registry, before = Registry(leases=False), second_device.used()
    found = whole_file.load(file, card, registry, PlainLane)
    wanted = load_file(file)
    assert found.keys() == wanted.keys()
    for name, tensor in wanted.items():
        assert found[name].device == card
        assert not found[name].is_inference()
        assert (found[name].dtype, found[name].shape) == (tensor.dtype, tensor.shape)
        assert torch.equal(found[name].cpu(), tensor)
    assert registry.live() == []
    found.clear()
    assert second_device.used() == before


def test_where_the_card_is_full_nothing_stays_on_it(card: torch.device, file: Path) -> None:
    before = second_device.used()
    with second_device.full(100_000), pytest.raises(WeightsError):
        whole_file.load(file, card, Registry(leases=False), PlainLane)
    assert second_device.used() == before
