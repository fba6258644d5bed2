"""Rates and sums."""

from __future__ import annotations

import math

import pytest

from flux_speedup.stats.events import Event, KindTotal, Totals


def event(kind: str = "move", size: int = 0, seconds: float = 0.0) -> Event:
    return Event(kind, "transformer", size, seconds, "page cache", "GPU")


@pytest.mark.parametrize(
    ("size", "seconds", "rate"),
    [
        (23_800_000_000, 0.5, 47.6),
        (1_000_000_000, 2.0, 0.5),
        (0, 1.0, None),
        (10, 0.0, None),
        (-10, 1.0, None),
        (10, -1.0, None),
        (10, math.nan, None),
        (10, math.inf, None),
        (2**62, 5e-324, None),
    ],
)
def test_rate_is_gb_a_second_or_nothing(size: int, seconds: float, rate: float | None) -> None:
    assert event(size=size, seconds=seconds).rate == rate


def test_at_is_now_unless_told() -> None:
    early, late = event(), event()
    assert 0 < early.at <= late.at


def test_totals_sum_by_kind_in_the_order_of_first_events() -> None:
    found = Totals.of([event("move", 10**9, 0.5), event("unload", 0, 0.1), event("move", 3 * 10**9, 0.5)])
    assert list(found.by_kind) == ["move", "unload"]
    assert found.kind("move") == KindTotal(2, 4 * 10**9, 1.0)
    assert found.kind("move").rate == 4.0
    assert found.kind("unload").rate is None
    assert found.kind("startup") == KindTotal(0, 0, 0.0)
