"""Starts before and after, local weights, the log."""

from __future__ import annotations

import math

from flux_speedup.ui import local, log_lines, starts
from flux_speedup.view import LocalWeight, Start
from tests.fake_view import LOG, WEIGHTS, FakeView
from tests.page import Tags

NOW = 1_000_000.0


def test_before_is_the_median_and_now_is_the_newest() -> None:
    begun = [
        Start(NOW, 6.2, "pruning"),
        Start(NOW, 9.0, "pruning"),
        *(Start(0, s, "") for s in (20, 17, 90)),
    ]
    assert starts.before_and_after(begun) == "20.0 s before, 6.2 s now"
    assert starts.before_and_after(begun[:1]) == "6.2 s now, no start without us was seen"
    assert starts.before_and_after(begun[2:]) == "20.0 s before"
    assert starts.before_and_after([]) == ""


def test_starts_are_bars_on_one_scale_told_apart_by_colour() -> None:
    view = FakeView()
    read = Tags(starts.start_card(view.starts(), [], NOW))
    before = read.classed("fsu-before")
    assert [bar["style"] for bar in before] == ["width:94.3%", "width:100.0%"]
    assert "25.4 s before, 9.8 s now" in read.text


def test_a_start_that_took_no_number_is_left_out() -> None:
    page = starts.start_card([Start(NOW, math.nan, ""), Start(NOW, 2.0, "")], [], NOW)
    assert len(Tags(page).classed("fsu-before")) == 1


def test_the_stages_of_the_newest_start_are_there() -> None:
    view = FakeView()
    page = starts.start_card([], view.events(kind="startup", limit=5)[::-1], NOW)
    assert "import torch" in page
    assert "stages, 9.8 s" in page


def test_every_weight_has_its_state_and_reason() -> None:
    read = Tags(local.local_card(WEIGHTS))
    assert "1 found, 1 redirected, 1 downloaded, 1 missing, 1 refused" in read.text
    badges = [badge["class"] for badge in read.classed("fsu-badge")]
    assert badges[0] == "fsu-badge fsu-applied"
    assert badges[-1] == "fsu-badge fsu-failed"
    for expected in ("face_yolov8n.pt", "6 MB", "models/ESRGAN/ESRGAN_4x.pth", "too small"):
        assert expected in read.text
    assert "No script asked" in local.local_card([])


def test_a_state_we_do_not_know_is_shown_as_it_is() -> None:
    odd = LocalWeight("a", "detector", "<odd>", "", 0, "")
    assert "&lt;odd&gt;" in local.local_card([odd])


def test_the_log_keeps_its_order_and_marks_what_went_wrong() -> None:
    read = Tags(log_lines.log_card(LOG))
    assert read.text.index("0.50 s") < read.text.index("WARNING") < read.text.index("ERROR")
    assert len(read.classed("fsu-warning")) == 1
    assert len(read.classed("fsu-error")) == 1
    assert "empty" in log_lines.log_card([])
