"""What this machine can do, and a measurement under way."""

from __future__ import annotations

import math

import pytest

from flux_speedup.stats.events import Totals
from flux_speedup.stats.machine import Machine, Measuring
from flux_speedup.ui import machine
from tests.fake_view import MACHINE, FakeView
from tests.page import Tags


def test_limits_the_webuis_way_and_ours_are_bars_on_one_scale() -> None:
    page = machine.machine_card(MACHINE, FakeView().totals(), 100.0)
    read = Tags(page)
    for expected in (
        "bus: RAM to card55.2 GB/s",
        "WebUI's own load6.4 GB/s",
        "mean46.0 GB/s",
        "disk, cold3.1",
    ):
        assert expected in read.text
    assert [fill["style"] for fill in read.classed("fsu-fill")][:2] == ["width:100.0%", "width:93.7%"]


def test_what_was_not_measured_is_said_row_by_row() -> None:
    text = Tags(machine.machine_card(Machine(0.0, "CPU", page_cache=9.0, disk=math.nan), Totals(), 0.0)).text
    assert "bus: RAM to cardnot measured" in text
    assert "page cache9.0 GB/s" in text


def test_a_machine_without_measurement_says_what_one_is_for() -> None:
    assert "Not measured yet" in machine.machine_card(None, Totals(), 0.0)


def test_progress_is_a_bar_that_a_screen_reader_can_read() -> None:
    page = machine.progress(Measuring("running", 0.254, "reading <x>"))
    (bar,) = [a for _, a in Tags(page).all if a.get("role") == "progressbar"]
    assert bar["aria-valuenow"] == "25"
    assert "width:25%" in page
    assert "reading &lt;x&gt;" in page


@pytest.mark.parametrize(
    ("state", "words"),
    [("done", "is measured"), ("cancelled", "was cancelled"), ("failed", "disk &lt;full&gt;")],
)
def test_the_end_of_a_measurement_is_said(state: str, words: str) -> None:
    assert words in machine.progress(Measuring(state, 1.0, "", "disk <full>"))


def test_nothing_is_said_where_none_was_asked_for() -> None:
    assert machine.progress(Measuring("idle")) == ""
