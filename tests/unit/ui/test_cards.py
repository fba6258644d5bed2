"""The page's parts as HTML."""

from __future__ import annotations

import html.parser
import math

import pytest
from flux_speedup.patches import Outcome, State
from flux_speedup.stats.events import Event, Totals
from flux_speedup.ui import cards

from tests.fake_view import NASTY, FakeView


class Tags(html.parser.HTMLParser):
    """The tags of a page, its text, and whether every tag is closed in order."""

    def __init__(self, page: str) -> None:
        super().__init__()
        self.seen: set[str] = set()
        self.text = ""
        self.open: list[str] = []
        self.feed(page)
        self.close()

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        self.seen.add(tag)
        if tag != "br":
            self.open.append(tag)

    def handle_endtag(self, tag: str) -> None:
        assert self.open.pop() == tag

    def handle_data(self, data: str) -> None:
        self.text += data


def stage(what: str, seconds: float) -> Event:
    return Event("startup", what, 0, seconds, "", "")


def test_every_state_has_its_badge() -> None:
    rows = cards.outcome_rows([Outcome(s.value, s.name, s, "because") for s in State])
    for state in State:
        assert f'fsu-{state.value.replace(" ", "-")}">{state.value}</span>' in rows


def test_status_says_tier_card_and_why() -> None:
    text = Tags(cards.status_card(FakeView().status())).text
    for expected in ("Memory tier: large", "NVIDIA H100", "over 50 GiB", "CUDA was initialised before"):
        assert expected in text


@pytest.mark.parametrize("simulated", [True, False])
def test_a_simulated_device_is_headed_so_and_a_real_one_is_not(simulated: bool) -> None:
    view = FakeView(simulated=simulated)
    shown = cards.head(view.status(), view.totals(), [])
    assert ("simulated device, our stand-in" in shown) is simulated


@pytest.mark.parametrize("name", NASTY)
def test_no_name_becomes_markup(name: str) -> None:
    status = FakeView().status()
    nasty = type(status)(
        name, name, True, name, name, name, False, (Outcome(name, name, State.FAILED, name),)
    )
    for page in (
        cards.head(nasty, Totals(), [stage(name, 1.0)]),
        cards.status_card(nasty),
        cards.start_card([stage(name, 1.0)]),
    ):
        read = Tags(page)
        assert not {"script", "img"} & read.seen
        assert read.open == []


def test_tiles_show_the_sums() -> None:
    text = Tags(cards.tiles(FakeView().totals(), [])).text
    for expected in ("77.3 GB", "7 moves in 1.7 s, 46.0 GB/s", "Checkpoints built2in 3.1 s", "Unloads5"):
        assert expected in text


def test_only_the_newest_start_is_shown_in_its_order() -> None:
    newest_first = FakeView().events(kind="startup")
    start = cards.latest_start(newest_first)
    assert [event.what for event in start] == ["launcher", "import torch", "load scripts", "create ui", "total"]
    assert start[1].seconds == 6.6


def test_the_hosts_own_sum_counts_once() -> None:
    start = [stage("a", 1.0), stage("b", 2.0), stage("total", 3.5)]
    assert cards.start_seconds(start) == 3.5
    assert cards.start_seconds(start[:2]) == 3.0
    assert [event.what for event in cards.stages(start)] == ["a", "b"]


@pytest.mark.parametrize("seconds", [0.0, -1.0, math.nan, math.inf])
def test_bars_stay_within_the_card_whatever_a_stage_took(seconds: float) -> None:
    page = cards.start_card([stage("odd", seconds), stage("fine", 2.0)])
    widths = [float(part.split("%")[0]) for part in page.split("width:")[1:]]
    assert len(widths) == 2
    assert all(1.0 <= width <= 100.0 for width in widths)


def test_counts_line_adds_up() -> None:
    assert cards.counts_line(FakeView().outcomes) == "1 pending, 4 applied, 1 skipped, 1 failed"
    assert cards.counts_line(()) == "nothing is changed"
