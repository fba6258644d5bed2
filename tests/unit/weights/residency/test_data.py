"""Exchanging what tensor objects show."""

from __future__ import annotations

import pytest
import torch

from flux_speedup.weights.residency.data import set_data


@pytest.mark.parametrize("made", [True, False])
@pytest.mark.parametrize("shown", [True, False])
@pytest.mark.parametrize("converted", [True, False])
def test_a_parameter_can_be_computed_with_whichever_mode_it_and_its_data_were_made_in(
    made: bool, shown: bool, converted: bool
) -> None:
    """`converted`: by somebody, in the ordinary mode, to another dtype, as `Module.float` does it."""
    with torch.inference_mode(made):
        parameter = torch.nn.Parameter(
            torch.zeros(4, 4, dtype=torch.half if converted else torch.float), requires_grad=False
        )
    if converted:
        parameter.data = parameter.data.float()
    with torch.inference_mode(shown):
        data = torch.arange(32.0).view(8, 4)[2:6]
    set_data([(parameter, data)])
    for computing in (True, False):
        with torch.inference_mode(computing):
            assert torch.equal(torch.nn.functional.linear(torch.eye(4), parameter), data.t())
    assert parameter.data_ptr() == data.data_ptr()
