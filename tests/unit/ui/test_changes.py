"""The panel: what its buttons do, through the functions they call."""

from __future__ import annotations

import logging
from dataclasses import replace

import pytest

from flux_speedup.facts.view import Status
from flux_speedup.patching.table import Outcome, State
from flux_speedup.ui import changes
from tests.fake_view import NASTY, FakeView

OFFERED = ["tier.vram_state", "tier.inference", "streams", "pinning"]


def test_what_is_applied_is_offered_and_ticked() -> None:
    choices, items = changes.ticks(FakeView())
    assert items == OFFERED
    assert choices[2] == ("Copy streams", "streams")


def test_unticking_puts_that_one_back_and_leaves_the_rest_pending_ones_too() -> None:
    view = FakeView()
    shown = changes.apply(view, view, OFFERED, ["tier.vram_state", "tier.inference", "pinning"])
    assert view.calls == [("keep_only", ("tier.vram_state", "tier.inference", "pinning", "timing"))]
    assert "Put back: <bdi>Copy streams</bdi>" in shown
    assert changes.ticks(view)[1] == ["tier.vram_state", "tier.inference", "pinning"]


def test_what_was_applied_after_the_page_was_loaded_stays() -> None:
    view = FakeView()
    changes.apply(view, view, ["streams", "pinning"], ["pinning"])
    assert view.calls[0][1] == ("tier.vram_state", "tier.inference", "pinning", "timing")


def test_nothing_unticked_touches_nothing() -> None:
    view = FakeView()
    assert "Nothing was unticked" in changes.apply(view, view, OFFERED, OFFERED)
    assert view.calls == []


def test_everything_back_names_what_it_put_back() -> None:
    view = FakeView()
    shown = changes.put_everything_back(view, view)
    assert view.calls == [("put_everything_back", ())]
    assert "Copy streams" in shown
    assert "Pinned weights" in shown
    assert "Attention kernels" not in shown
    assert changes.ticks(view) == ([], [])


def test_everything_back_can_be_taken_back() -> None:
    view = FakeView()
    before = changes.ticks(view)
    changes.put_everything_back(view, view)
    assert not view.status().enabled
    assert "In force again" in changes.apply_again(view, view)
    assert changes.ticks(view) == before
    assert view.status().enabled


def test_everything_back_twice_says_that_there_is_nothing_left() -> None:
    view = FakeView()
    view.outcomes = tuple(replace(o, state=State.UNDONE) for o in view.outcomes)
    assert "nothing to put back" in changes.put_everything_back(view, view)
    assert view.calls == []


def test_what_could_not_be_put_back_is_said() -> None:
    class Stubborn(FakeView):
        def keep_only(self, items: object) -> Status:
            return self.status()

    view = Stubborn()
    shown = changes.apply(view, view, OFFERED, OFFERED[1:])
    assert "Still in force: <bdi>VRAM mode: high</bdi>" in shown
    assert "fsu-wrong" in shown


def test_an_error_is_shown_escaped_and_logged(caplog: pytest.LogCaptureFixture) -> None:
    view = FakeView()
    view.error = RuntimeError("<script>broken</script>")
    with caplog.at_level(logging.ERROR, "flux_speedup"):
        shown = changes.put_everything_back(view, view)
    assert "&lt;script&gt;broken" in shown
    assert "<script>" not in shown
    assert "fsu-wrong" in shown
    assert caplog.records[0].exc_info is not None


def test_the_list_has_a_line_for_every_item_and_the_figures() -> None:
    shown = changes.list_html(FakeView(), with_list=True)
    assert shown.count("fsu-row") - shown.count("fsu-rows") - shown.count(".fsu-row ") >= 7
    assert "7 moves, 77.3 GB in 1.68 s; 2 checkpoints in 3.10 s" in shown


@pytest.mark.parametrize("name", NASTY)
def test_titles_stay_text(name: str) -> None:
    view = FakeView()
    view.outcomes = (Outcome("odd", name, State.APPLIED, name),)
    assert "<script>" not in changes.list_html(view, True)
    assert "<img" not in changes.list_html(view, True)
    assert changes.ticks(view)[0][0][0].encode("utf-8")
    assert "<script>" not in changes.apply(view, view, ["odd"], [])
