"""Loads over time, as pictures."""

from __future__ import annotations

import math

import pytest
from hypothesis import given
from hypothesis import strategies as st

from flux_speedup.stats.events import Event
from flux_speedup.stats.machine import Machine
from flux_speedup.ui import rates
from tests.fake_view import MACHINE, FakeView
from tests.page import Tags

NOW = 1_000_000.0


def move(size: int, seconds: float, source: str = "page cache") -> Event:
    return Event("move", "transformer", size, seconds, source, "GPU", NOW)


def test_every_load_is_a_dot_and_two_columns_oldest_left() -> None:
    view = FakeView()
    events = view.events()
    page = rates.chart_card(events, MACHINE, NOW)
    read = Tags(page)
    assert len(read.classed("fsu-dot")) == 9
    assert len(read.classed("fsu-column")) == 18
    xs = [float(dot["cx"].rstrip("%")) for dot in read.classed("fsu-dot")]
    assert xs == sorted(xs)
    assert "transformer: 23.8 GB in 0.50 s, 47.6 GB/s, page cache -&gt; GPU" in page


def test_cold_and_warm_differ_and_are_explained() -> None:
    events = [move(10**9, 0.1, "disk"), move(10**9, 0.1, "RAM"), move(10**9, 0.1, "elsewhere")]
    read = Tags(rates.chart_card(events, None, NOW))
    found = [dot["class"].split()[-1] for dot in read.classed("fsu-dot")]
    assert found == ["fsu-p-other", "fsu-p-warm", "fsu-p-cold"]
    for expected in (
        "cold: read from the disk",
        "warm: page cache or RAM",
        "disk or page cache: not told apart",
    ):
        assert expected in read.text
    assert "disk or page cache: not told apart" not in rates.chart_card(events[:2], None, NOW)


def test_faster_is_higher_and_limits_are_lines_at_their_speed() -> None:
    machine = Machine(0.0, "card", disk=3.0, bus=50.0)
    slow, fast = move(3 * 10**9, 1.0), move(50 * 10**9, 1.0)
    read = Tags(rates.chart_card([fast, slow], machine, NOW))
    ys = [float(dot["cy"]) for dot in read.classed("fsu-dot")]
    assert ys[0] > ys[1]
    lines = [float(line["y1"]) for line in read.classed("fsu-limit")]
    assert lines == [ys[1], ys[0]]
    assert "bus 50" in read.drawn
    assert "disk 3" in read.drawn


@pytest.mark.parametrize("bad", [None, math.nan, math.inf, 0.0, -1.0])
def test_a_limit_that_was_not_measured_is_no_line(bad: float | None) -> None:
    machine = Machine(0.0, "card", disk=bad, bus=bad)
    read = Tags(rates.chart_card([move(10**9, 1.0)], machine, NOW))
    assert read.classed("fsu-limit") == []
    assert "measure this machine" in read.text


def test_a_freak_speed_does_not_press_the_others_flat() -> None:
    top = rates.top_of_scale([9000.0, 40.0], [("bus", 50.0)])
    assert top == pytest.approx(81.0)
    assert rates.top_of_scale([9.0, 4.0], [("bus", 50.0)]) == pytest.approx(54.0)
    assert rates.top_of_scale([9.0, 4.0], [("disk", 0.5)]) == pytest.approx(9.72)
    assert rates.top_of_scale([9.0], []) == pytest.approx(9.72)


@given(st.floats(min_value=1e-6, max_value=1e6))
def test_ticks_are_few_and_within_the_scale(top: float) -> None:
    found = rates.ticks(top)
    assert 2 <= len(found) <= 6
    assert found[0] == 0
    assert found[-1] <= top * (1 + 1e-9)


def test_unloads_and_what_has_no_speed_are_left_out() -> None:
    events = [Event("unload", "vae", 10, 1.0, "GPU", ""), move(0, 1.0), move(10, 0.0), move(10, math.nan)]
    assert rates.loads(events) == []
    assert "Nothing was loaded" in rates.chart_card(events, None, NOW)


def test_a_dots_area_is_its_bytes() -> None:
    read = Tags(rates.chart_card([move(4 * 10**9, 1.0), move(10**9, 1.0)], None, NOW))
    small, big = (float(dot["r"]) for dot in read.classed("fsu-dot"))
    assert big == 2 * small


def test_only_the_newest_are_drawn() -> None:
    events = [move(10**9 + i, 1.0) for i in range(200)]
    assert rates.loads(events) == events[: rates.NEWEST][::-1]
