"""The table of loads."""

from __future__ import annotations

import math

from flux_speedup.stats.events import Event
from flux_speedup.ui import loads
from flux_speedup.ui.words import NOTHING
from tests.fake_view import NASTY, FakeView


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
    row = dict(zip(loads.HEADERS, loads.rows([event], 1000.0)[0], strict=True))
    row.pop("when")
    assert row == {
        "what": "transformer",
        "GB": 23.8,
        "seconds": 0.513,
        "GB/s": 46.4,
        "from → to": "page cache → GPU",
        "kind": "move",
    }
    assert len(loads.HEADERS) == len(loads.TYPES)


def test_an_unload_has_no_speed() -> None:
    assert loads.speed(Event("unload", "vae", 10**9, 0.001, "GPU", "")) is None
    assert loads.speed(Event("move", "vae", 0, 0.0, "RAM", "GPU")) is None


def test_names_stay_text_on_one_line() -> None:
    rows = loads.rows([Event("move", name, 1, 1.0, name, name, 0.0) for name in NASTY], 0.0)
    for name, row in zip(NASTY, rows, strict=True):
        text = "".join(cell for cell in row if isinstance(cell, str))
        assert "\n" not in text
        assert "\u202e" not in text
        assert text.encode("utf-8")
        if name.isprintable():
            assert row[1] == name


def test_an_empty_table_says_so() -> None:
    assert loads.rows([], 0.0)[0][1] == NOTHING
