"""Weights that somebody else brings to the device: ours from then on, as if we had loaded them."""

from __future__ import annotations

from pathlib import Path

import pytest
import torch

from flux_speedup.weights.errors import TransferError, WeightsError
from tests.second_device import CARD, used
from tests.second_device.marks import needs_card
from tests.unit.weights.residency.test_residency import Case

pytestmark = needs_card
NAMES = ("a", "ram")


def brought(case: Case) -> list[tuple[torch.Tensor, torch.Tensor]]:
    pairs = [(case.parameters[name], case.parameters[name].to(CARD)) for name in NAMES]
    case.residency.expect(CARD, NAMES).arrived(pairs)
    return pairs


@pytest.mark.parametrize("written", [False, True])
def test_they_go_home_as_what_was_loaded_does(tmp_path: Path, written: bool) -> None:
    before = used()
    case = Case(tmp_path)
    pairs = brought(case)
    assert set(case.residency.resident) == set(NAMES)
    assert all(parameter.data_ptr() == data.data_ptr() for parameter, data in pairs)
    case.expect()
    changed = {}
    if written:
        changed["a"] = case.parameters["a"].detach().cpu()
        changed["a"][3, 5] = 7.0
        pairs[0][1][3, 5] = 7.0
    pairs.clear()
    report = case.residency.unload()
    assert report.copied_back == tuple(changed)
    case.expect(**changed)
    assert used() == before


def test_what_has_moved_or_was_not_expected_is_not_taken(tmp_path: Path) -> None:
    case = Case(tmp_path)
    arriving = case.residency.expect(CARD, NAMES)
    for name in ("b", "ram"):
        if name == "ram":
            case.parameters["ram"].data = case.parameters["ram"].data.clone()
        data = case.parameters[name].to(CARD)
        with pytest.raises(WeightsError):
            arriving.arrived([(case.parameters[name], data)])
        assert case.parameters[name].device.type == "cpu"
    case.residency.load(CARD, ("a",))
    with pytest.raises(TransferError):
        case.residency.expect(CARD, NAMES)
