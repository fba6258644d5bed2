"""The start as bars."""

from __future__ import annotations

import math

import pytest

from flux_speedup.stats.events import Event, Query
from flux_speedup.stats.starts import Start, before_and_after
from flux_speedup.ui import start
from tests.fake_view import FakeView
from tests.page import Tags


def stage(what: str, seconds: float) -> Event:
    return Event("startup", what, 0, seconds, "", "")


FORGE = [
    stage("import torch", 9.4),
    stage("load scripts/xyz_grid.py", 0.03),
    stage("load scripts/controlnet.py", 1.7),
    stage("load scripts", 8.5),
    stage("scripts list_unets", 0.001),
    stage("total", 20.0),
]


def test_only_the_newest_start_is_shown_in_its_order() -> None:
    newest_first = FakeView().events(Query(kind="startup"))
    found = start.latest(newest_first)
    names = ["launcher", "import torch", "load scripts", "create ui", "total"]
    assert [event.what for event in found] == names
    assert found[1].seconds == 6.6


def test_neither_the_hosts_sum_nor_a_stages_parts_count_twice() -> None:
    names = ["import torch", "load scripts", "scripts list_unets"]
    assert [event.what for event in start.stages(FORGE)] == names
    assert [event.what for event in start.parts(FORGE)] == [event.what for event in FORGE[1:3]]
    assert start.total(FORGE) == 20.0
    assert start.total(FORGE[:-1]) == pytest.approx(17.901)


def test_parts_without_their_stage_are_stages() -> None:
    alone = [stage("app_started_callback/controlnet.py", 1.0)]
    assert start.stages(alone) == alone
    assert start.parts(alone) == []


def test_short_stages_are_one_line_and_parts_behind_a_click() -> None:
    page = start.body(FORGE)
    assert "and 1 under 0.05 s" in page
    assert "scripts list_unets" not in page
    assert "<summary>inside <bdi>load scripts</bdi>: 2 parts</summary>" in page


@pytest.mark.parametrize("seconds", [1e9, math.nan, math.inf])
def test_bars_stay_within_the_card_whatever_a_stage_took(seconds: float) -> None:
    page = start.body([stage("odd", seconds), stage("fine", 2.0)])
    widths = [float(part.split("%")[0]) for part in page.split("width:")[1:]]
    assert len(widths) == 2
    assert all(1.0 <= width <= 100.0 for width in widths)


def test_no_stages_is_said() -> None:
    assert "reported no stages" in start.body([])


NOW = 1_000_000.0


def test_before_is_the_median_and_now_is_the_newest() -> None:
    begun = [
        Start(NOW, 6.2, "pruning"),
        Start(NOW, 9.0, "pruning"),
        *(Start(0, s, "") for s in (20, 17, 90)),
    ]
    assert before_and_after(begun) == "20.0 s before, 6.20 s now"
    assert before_and_after(begun[:1]) == "6.20 s now, no start without us was seen"
    assert before_and_after(begun[2:]) == "20.0 s before"
    assert before_and_after([]) == ""


def test_starts_are_bars_on_one_scale_told_apart_by_colour() -> None:
    view = FakeView()
    read = Tags(start.start_card(view.starts(), [], NOW))
    before = read.classed("fsu-before")
    assert [bar["style"] for bar in before] == ["width:94.3%", "width:100.0%"]
    assert "25.4 s before, 9.80 s now" in read.text


def test_a_start_that_took_no_number_is_left_out() -> None:
    page = start.start_card([Start(NOW, math.nan, ""), Start(NOW, 2.0, "")], [], NOW)
    assert len(Tags(page).classed("fsu-before")) == 1


def test_the_stages_of_the_newest_start_are_there() -> None:
    view = FakeView()
    page = start.start_card([], view.events(Query(kind="startup", limit=5))[::-1], NOW)
    assert "import torch" in page
    assert "stages, 9.80 s" in page
