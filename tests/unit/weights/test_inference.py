"""Which tensor objects were made in inference mode, whatever they show."""

from __future__ import annotations

import pytest
import torch

from flux_speedup.weights.inference import made_in_inference
from flux_speedup.weights.streaming.two_kinds import TwoKinds


@pytest.mark.parametrize("made", [True, False])
@pytest.mark.parametrize("shows", [True, False])
def test_what_it_was_made_in_counts_and_not_what_it_shows(made: bool, shows: bool) -> None:
    with torch.inference_mode(made):
        tensor = torch.nn.Parameter(torch.zeros(4), requires_grad=False)
    with torch.inference_mode(shows):
        other = torch.ones(4)
    if made or not shows:  # an ordinary one that shows such data is one of it from then on
        tensor.data = other
    assert made_in_inference(tensor) is made
    assert TwoKinds(torch.zeros(16, dtype=torch.uint8)).like(tensor).is_inference() is made
