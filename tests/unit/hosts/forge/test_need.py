"""How much of a card must stay free, as the host alone would leave it."""

from __future__ import annotations

import pytest

from flux_speedup.hosts.forge.need import OURS, Loading, with_host_alone

MB = 1 << 20


def forges(free: int, inference: int) -> int:
    """Forge's own budget of a model that is swapped."""
    return int(max(0, (free - inference) / 1.3, free - inference - 1280 * MB))


@pytest.mark.parametrize(
    ("need", "whole"),
    [
        (1024, 1024 * MB - OURS),  # nothing beyond what the host keeps
        (1311, 1024 * MB - OURS),  # Flux at 1024 x 1024: the host keeps the model whole, and so do we
        (2950, 2950 * MB),  # hires fix: what is missing is not a little
    ],
)
def test_a_model_stays_whole_where_the_host_alone_would_leave_it_so(need: int, whole: int) -> None:
    assert Loading((), need * MB, 1024 * MB).whole == whole


@pytest.mark.parametrize(
    ("space", "size", "free"),
    [
        (23777, 22700, 1077),  # fits with 53 MB to spare
        (23723, 22700, 2304),  # a megabyte short: 1.25 GB more are free than are kept
        (11000, 22700, 2304),
        (4000, 22700, 4000 - int((4000 - 1024) / 1.3)),
        (800, 22700, 800),
    ],
)
def test_what_would_be_free_with_the_host_alone(space: int, size: int, free: int) -> None:
    found = with_host_alone(space * MB, size * MB, 1024 * MB, forges)
    assert abs(found - free * MB) <= MB
