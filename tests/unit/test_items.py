"""What the configuration and the tier together mean for the items."""

from __future__ import annotations

import pytest

from flux_speedup.config import Config, Source, load
from flux_speedup.items import direct_share
from flux_speedup.memory import MemoryPlan, Tier


@pytest.mark.parametrize(
    ("asked", "tier", "pinning", "share"),
    [
        ("auto", Tier.LARGE, True, 0.25),
        ("auto", Tier.LARGE, False, 0.0),  # nothing is to be pinned
        ("auto", Tier.STANDARD, True, 0.0),
        ("auto", Tier.NONE, True, 0.0),
        (True, Tier.STANDARD, False, 0.5),
        ("off", Tier.LARGE, True, 0.0),
        (False, Tier.LARGE, True, 0.0),
    ],
)
def test_how_much_ram_registered_files_may_take(
    asked: object, tier: Tier, pinning: bool, share: float
) -> None:
    loaded = load([Source("a file", {"direct": asked, "pinning": pinning})])
    assert loaded.problems == ()
    assert direct_share(MemoryPlan(tier, ""), loaded.config) == share


def test_by_default_it_is_decided_by_the_card() -> None:
    assert Config().direct == "auto"
