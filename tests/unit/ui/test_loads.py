"""The table of loads."""

from __future__ import annotations

import math

import pytest

from flux_speedup.stats.events import Event
from flux_speedup.ui import loads
from flux_speedup.ui.words import NOTHING
from tests.fake_view import NASTY, FakeView
from tests.page import Tags


def test_newest_first_without_stages_and_at_most_fifty() -> None:
    view = FakeView()
    view.kept = [Event("move", f"m{i}", 1, 1.0, "", "", float(i)) for i in range(100)]
    view.kept += [Event("startup", f"s{i}", 0, 1.0, "", "", 1000.0 + i) for i in range(200)]
    view.kept.append(Event("unload", "last", 1, 1.0, "", "", 500.0))
    found = loads.newest(view)
    assert len(found) == loads.NEWEST
    assert [event.what for event in found[:3]] == ["last", "m99", "m98"]


def test_a_time_that_is_no_number_comes_last() -> None:
    view = FakeView()
    view.kept = [Event("move", "odd", 1, 1.0, "", "", math.nan), Event("move", "fine", 1, 1.0, "", "", 5.0)]
    assert [event.what for event in loads.newest(view)] == ["fine", "odd"]


def test_a_row_has_what_the_header_says() -> None:
    event = Event("move", "transformer", 23_812_345_678, 0.5134, "page cache", "GPU", 1000.0)
    names = [name for name, _ in loads.COLUMNS]
    row = dict(zip(names, (Tags(cell).text for cell in loads.cells(event, 1000.0)), strict=True))
    row.pop("when")
    assert row == {
        "what": "transformer",
        "GB": "23.8",
        "seconds": "0.513",
        "GB/s": "46.4",
        "from → to": "page cache → GPU",
        "kind": "move",
    }


def test_the_table_has_a_row_for_every_event_and_a_region_that_scrolls_with_the_keyboard() -> None:
    view = FakeView()
    read = Tags(loads.table_card(loads.newest(view), 0.0))
    tags = [tag for tag, _ in read.all]
    assert tags.count("tr") == 15
    assert tags.count("td") == 14 * len(loads.COLUMNS)
    assert tags.count("th") == len(loads.COLUMNS)
    (region,) = read.classed("fsu-scroll")
    assert region["tabindex"] == "0"
    assert read.open == []


def test_an_unload_has_no_speed() -> None:
    assert loads.speed(Event("unload", "vae", 10**9, 0.001, "GPU", "")) == ""
    assert loads.speed(Event("move", "vae", 0, 0.0, "RAM", "GPU")) == ""


def test_what_is_no_number_is_a_question() -> None:
    assert loads.figure(math.nan) == "?"


@pytest.mark.parametrize("name", NASTY)
def test_names_stay_text_on_one_line(name: str) -> None:
    page = loads.table_card([Event("move", name, 1, 1.0, name, name, 0.0)], 0.0)
    read = Tags(page)
    assert not {"script", "img"} & read.seen
    assert "\n" not in page
    assert "\u202e" not in page
    page.encode("utf-8")
    if name.isprintable():
        assert f"{name} → {name}" in read.text


def test_an_empty_table_says_so() -> None:
    assert NOTHING in loads.table_card([], 0.0)
