"""Where a request's time went, as a picture."""

from __future__ import annotations

import math
from dataclasses import replace

import pytest

from flux_speedup.stats.requests import PARTS, Pass, Request
from flux_speedup.ui import requests
from tests.fake_view import FakeView
from tests.page import Tags

NOW = 1_000_000.0


def request(**given: object) -> Request:
    plain = Request(7, "txt2img", "page", NOW - 60, 10.0, {"load": 2.5, "sampling": 7.5})
    return replace(plain, **given)  # type: ignore[arg-type]


def widths(page: str) -> list[float]:
    return [float(part["width"].rstrip("%")) for part in Tags(page).classed("fsu-part")]


def test_the_bar_is_in_the_order_of_parts_and_as_wide_as_its_seconds() -> None:
    page = requests.bar({"sampling": 7.5, "load": 2.5, "vae": 0.0}, 34)
    assert widths(page) == [25.0, 75.0]
    assert 'aria-label="load from files 2.50 s, sampling 7.50 s"' in page
    assert [part["class"] for part in Tags(page).classed("fsu-part")] == [
        "fsu-part fsu-p-load",
        "fsu-part fsu-p-sampling",
    ]


def test_every_part_has_a_colour_and_one_we_do_not_know_counts_as_other() -> None:
    assert len({requests.css(part) for part in PARTS}) == len(PARTS)
    assert requests.css("<b>") == "fsu-p-other"
    assert requests.ordered({"<b>": 1.0, "other": 2.0}) == [("other", 2.0), ("<b>", 1.0)]


@pytest.mark.parametrize("odd", [math.nan, math.inf, -1.0, 0.0])
def test_what_is_no_time_is_not_drawn(odd: float) -> None:
    page = requests.bar({"load": odd, "sampling": 4.0}, 34)
    assert widths(page) == [100.0]


def test_a_bar_never_leaves_its_place() -> None:
    page = requests.bar({"load": 9.0, "sampling": 9.0}, 14, longest=10.0)
    assert widths(page) == [90.0, 10.0]


def test_the_legend_gives_seconds_and_shares() -> None:
    text = Tags(requests.request_card([request()], None, NOW)).text
    for expected in ("10.0 s", "2.50 s of it (25%)", "load from files2.50 s25%", "sampling7.50 s75%"):
        assert expected in text


def test_an_iteration_and_what_of_it_waited_for_weights() -> None:
    made = FakeView().made
    for chosen, said in (
        (2, "0.252 s/it36 steps"),
        (1, "0.714 s/it20 steps13.6 GB of weights a step, 19.0 GB/s"),
    ):
        text = Tags(requests.request_card(made, made[chosen].key, NOW)).text
        assert said in text
        assert ("0.02 s of a step (3%) waited for weights" in text) is (chosen == 1)


def test_the_newest_is_shown_until_another_one_is_chosen() -> None:
    made = FakeView().made
    newest = Tags(requests.request_card(made, None, NOW))
    assert "the last request went" in newest.text
    assert "5.90 s so far" in newest.text
    chosen = Tags(requests.request_card(made, made[2].key, NOW))
    assert "request 13 went" in chosen.text
    assert "4 images" in chosen.text
    for expected in (
        "txt2img 0.252 s/it12.9 s",
        "hires 0.714 s/it16.0 s",
        "ADetailer 119.1 s",
        "67.5 GB moved to the device",
    ):
        assert expected in chosen.text
    pressed = [b["data-fsu-do"] for b in chosen.classed("fsu-request") if b["aria-pressed"] == "true"]
    assert pressed == [f"request:{made[2].key}"]


def test_a_chosen_one_that_is_gone_gives_way_to_the_newest() -> None:
    made = FakeView().made
    assert requests.find(made, "gone") is made[0]
    assert requests.find(made, made[-1].key) is made[-1]


def test_running_and_failed_are_said() -> None:
    assert "running" in requests.state(request(running=True))
    assert "failed" in requests.state(request(failed=True))
    assert requests.state(request()) == ""


def test_no_request_is_said() -> None:
    assert "No image was made" in requests.request_card([], None, NOW)


def test_a_request_without_any_part_is_shown_as_its_seconds() -> None:
    read = Tags(requests.request_card([request(parts={}, seconds=0.2)], None, NOW))
    assert "0.20 s" in read.text
    assert read.open == []


def test_two_requests_of_one_number_are_two() -> None:
    # Numbers count up in each process anew, and the list has those of all.
    one, two = replace(request(), began=1.0), replace(request(), began=2.0, seconds=7.0)
    shown = Tags(requests.request_card([two, one], one.key, NOW))
    assert [b["aria-pressed"] for b in shown.classed("fsu-request")] == ["false", "true"]
    assert "10.0 s" in shown.text


def test_a_request_with_a_thousand_passes_is_a_page_like_any_other() -> None:
    spent = {part: 1.0 for part in PARTS}
    passes = tuple(Pass(f"img2img {number}", 8.0, spent) for number in range(1000))
    many = [replace(request(), began=float(number), passes=passes) for number in range(20)]
    html = requests.request_card(many, None, NOW)
    assert len(html.encode()) < 100_000
    assert f"and {1000 - requests.PASSES} more, 7680 s together" in Tags(html).text
    assert "more" not in Tags(requests.request_card([replace(request(), passes=passes[:40])], None, NOW)).text


@pytest.mark.parametrize(("percent", "told"), [(13, True), (14, True), (12, False)])
def test_a_figure_stands_where_there_is_room_for_it(percent: int, told: bool) -> None:
    parts = {"load": float(percent), "sampling": 100.0 - percent}
    drawn = requests.bar(parts, 34, figures=True)
    assert (f">{percent}.0 s</text>" in drawn) is told
    assert "</text>" not in requests.bar(parts, 34)
