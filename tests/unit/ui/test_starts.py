"""Starts before and after."""

from __future__ import annotations

import math

from flux_speedup.facts.view import Start
from flux_speedup.stats.events import Query
from flux_speedup.ui import starts
from tests.fake_view import FakeView
from tests.page import Tags

NOW = 1_000_000.0


def test_before_is_the_median_and_now_is_the_newest() -> None:
    begun = [
        Start(NOW, 6.2, "pruning"),
        Start(NOW, 9.0, "pruning"),
        *(Start(0, s, "") for s in (20, 17, 90)),
    ]
    assert starts.before_and_after(begun) == "20.0 s before, 6.20 s now"
    assert starts.before_and_after(begun[:1]) == "6.20 s now, no start without us was seen"
    assert starts.before_and_after(begun[2:]) == "20.0 s before"
    assert starts.before_and_after([]) == ""


def test_starts_are_bars_on_one_scale_told_apart_by_colour() -> None:
    view = FakeView()
    read = Tags(starts.start_card(view.starts(), [], NOW))
    before = read.classed("fsu-before")
    assert [bar["style"] for bar in before] == ["width:94.3%", "width:100.0%"]
    assert "25.4 s before, 9.80 s now" in read.text


def test_a_start_that_took_no_number_is_left_out() -> None:
    page = starts.start_card([Start(NOW, math.nan, ""), Start(NOW, 2.0, "")], [], NOW)
    assert len(Tags(page).classed("fsu-before")) == 1


def test_the_stages_of_the_newest_start_are_there() -> None:
    view = FakeView()
    page = starts.start_card([], view.events(Query(kind="startup", limit=5))[::-1], NOW)
    assert "import torch" in page
    assert "stages, 9.80 s" in page
