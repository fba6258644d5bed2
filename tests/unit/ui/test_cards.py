"""The page's parts as HTML."""

from __future__ import annotations

import logging

import pytest

from flux_speedup.log import Ring
from flux_speedup.patching.table import Outcome, State
from flux_speedup.stats.events import Event, Totals
from flux_speedup.stats.machine import Savings
from flux_speedup.ui import cards
from tests.fake_view import NASTY, FakeView
from tests.page import Tags


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
    shown = cards.head(view.status(), view.savings(), view.totals(), [])
    assert ("simulated device, our stand-in" in shown) is simulated


@pytest.mark.parametrize("name", NASTY)
def test_no_name_becomes_markup(name: str) -> None:
    status = FakeView().status()
    nasty = type(status)(
        name, name, True, name, name, name, False, (Outcome(name, name, State.FAILED, name),)
    )
    for page in (
        cards.head(nasty, Savings(1.0, None, True, name), Totals(), [Event("startup", name, 0, 1.0, "", "")]),
        cards.status_card(nasty),
    ):
        read = Tags(page)
        assert not {"script", "img"} & read.seen
        assert read.open == []


def test_tiles_show_the_sums() -> None:
    text = Tags(cards.tiles(FakeView().totals(), [])).text
    for expected in ("77.3 GB", "7 moves in 1.68 s, 46.0 GB/s", "Checkpoints built2in 3.10 s", "Unloads5"):
        assert expected in text


def test_counts_line_adds_up() -> None:
    assert cards.counts_line(FakeView().outcomes) == "1 pending, 4 applied, 1 skipped, 1 failed"
    assert cards.counts_line(()) == "nothing is changed"


def test_the_headline_says_what_was_saved_and_whether_that_is_an_estimate() -> None:
    text = Tags(cards.saved(Savings(412.3, 61.4, True, "against 6.4 GB/s"))).text
    assert text == "412 s saved since the start61.4 s of it in the last requestestimate against 6.4 GB/s"
    measured = Tags(cards.saved(Savings(0.0, None, False, "against 6.4 GB/s"))).text
    assert measured == "0 s saved since the startagainst 6.4 GB/s"
    nothing = Tags(cards.saved(Savings(0.0, 0.0, True, "there is no GPU here"))).text
    assert nothing == "0 s saved since the startthere is no GPU here"
    assert "estimate" not in cards.saved(Savings(0.0, None, True, ""))
    assert "estimate" in cards.saved(Savings(0.0, -2.0, True, ""))


def test_seconds_lost_are_not_called_a_gain() -> None:
    shown = cards.saved(Savings(-3.0, None, False, ""))
    assert "fsu-plain" in shown
    assert Tags(shown).text == "3.00 s lost since the start"
    in_request = Tags(cards.saved(Savings(5.0, -1.5, False, ""))).text
    assert in_request == "5.00 s saved since the start1.50 s lost in the last request"


def test_the_log_keeps_its_order_and_marks_what_went_wrong() -> None:
    ring, log = Ring(), logging.Logger("test", logging.INFO)
    log.addHandler(ring)
    log.info("WARNING.safetensors: 23.8 GB in 0.50 s")
    log.warning("not on this machine")
    log.error("CUDA was initialised before")
    read = Tags(cards.log_card(ring.lines(10)))
    assert read.text.index("0.50 s") < read.text.index("not on this") < read.text.index("CUDA")
    assert len(read.classed("fsu-warning")) == 1
    assert len(read.classed("fsu-error")) == 1
    assert "empty" in cards.log_card([])
