"""The device the weights' tests run on is one that PyTorch tells apart, and it counts what it hands out."""

from __future__ import annotations

import pytest
import torch

from tests.second_device import CARD, built, counted, full, used
from tests.second_device.marks import needs_card

pytestmark = needs_card


def test_moving_there_and_back_copies_and_staying_does_not() -> None:
    before = used()
    module = torch.nn.Linear(100, 10, bias=False)
    home = module.weight.data_ptr()
    values = module.weight.detach().clone()
    parameter = module.weight
    module.to(CARD)
    assert module.weight is parameter
    assert (parameter.device, parameter.data_ptr() != home, used() - before) == (CARD, True, 4000)
    there = parameter.data_ptr()
    module.to(CARD)
    assert parameter.data_ptr() == there
    module.to("cpu")
    assert torch.equal(parameter, values)
    assert used() == before


def test_both_devices_in_one_operation_are_refused_as_on_a_card() -> None:
    with pytest.raises(RuntimeError, match="same device"):
        torch.ones(3) + torch.ones(3).to(CARD)


def test_memory_has_an_end_and_is_counted() -> None:
    some = torch.ones(1000, device=CARD)
    with full(400):
        allocations = counted()
        with pytest.raises(torch.OutOfMemoryError):
            torch.empty(101, device=CARD)
        fits = torch.empty(100, device=CARD)
        assert allocations.count == 1
    assert (some + 1).sum().item() == 2000
    assert fits.numel() == 100


def test_what_was_never_written_shows() -> None:
    assert torch.empty(16, dtype=torch.uint8, device=CARD).cpu().tolist() == [0x5A] * 16


def test_without_a_compiler_one_line_says_so(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(built.shutil, "which", lambda _name: None)
    monkeypatch.setattr(built, "CACHE", built.SOURCE / "nowhere")
    with pytest.raises(built.NotBuilt, match=r"there is no g\+\+"):
        built.library()
