"""What was saved: against measured rates, against documented ones, and never less than nothing."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from flux_speedup.stats.events import Event
from flux_speedup.stats.machine import Machine
from flux_speedup.stats.savings import DOCUMENTED_LOAD, DOCUMENTED_UNLOAD, Tally, savings

GB = 10**9
MACHINE = Machine(1.0, "card", disk=2.0, host_load=8.0, host_unload=4.0)


def built(source: str) -> Event:
    return Event("checkpoint", "x", 9, 1.0, source, "RAM")


def tally(*events: Event) -> Tally:
    made = Tally()
    for event in events:
        made = made.plus(event)
    return made


def move(size: int, seconds: float, source: str = "page cache", detail: str = "file") -> Event:
    return Event("move", "transformer", size, seconds, source, "GPU", detail=detail)


def unload(size: int, seconds: float, target: str = "") -> Event:
    return Event("unload", "transformer", size, seconds, "GPU", target)


def test_measured_rates_are_used_and_named() -> None:
    found = savings(tally(move(24 * GB, 0.5), unload(24 * GB, 0.1)), None, MACHINE, "")
    assert found.since_start == pytest.approx(24 / 8 - 0.5 + 24 / 4 - 0.1)
    assert (found.in_request, found.estimated) == (None, False)
    assert "8.0 GB/s" in found.how
    assert "4.0 GB/s" in found.how


def test_without_a_measurement_it_is_an_estimate_and_says_so() -> None:
    found = savings(Tally(), tally(move(24 * GB, 0.5), unload(12 * GB, 0.1)), None, "")
    expected = 24 / DOCUMENTED_LOAD - 0.5 + 12 / DOCUMENTED_UNLOAD - 0.1
    assert found.in_request == pytest.approx(expected)
    assert found.estimated
    assert found.how.startswith("the WebUI's own moves are taken to do 8.2 GB/s")
    partly = Machine(1.0, "card", host_load=8.0)
    assert savings(Tally(), None, partly, "").estimated


def test_what_the_webui_moved_itself_saves_nothing() -> None:
    theirs = tally(move(24 * GB, 3.0, "RAM", ""), unload(24 * GB, 5.0, "RAM"), built(""))
    assert theirs == Tally()


@pytest.mark.parametrize(
    ("events", "found"),
    [
        ([move(1, 0.1)], "in use"),
        ([built("kept"), move(1, 0.1)], "kept"),
        ([built("file"), move(1, 0.1)], "page cache"),
        ([built("file"), move(1, 0.1, "page cache"), move(1, 0.1, "disk")], "disk"),
        ([built("file"), move(1, 0.1, "RAM", "")], "file"),
    ],
)
def test_where_a_request_found_its_checkpoint(events: list[Event], found: str) -> None:
    assert tally(*events).found == found


def test_the_disk_is_as_slow_for_everybody() -> None:
    cold = tally(move(24 * GB, 11.0, "disk"))
    assert savings(cold, None, MACHINE, "").since_start == pytest.approx(1.0)
    assert savings(cold, None, None, "").since_start == 0, "without a measured disk nothing is known"


def test_where_moves_mean_nothing_nothing_is_saved_and_it_says_why() -> None:
    found = savings(tally(move(24 * GB, 0.5)), Tally(), MACHINE, "there is no GPU")
    assert (found.since_start, found.in_request, found.how) == (0, 0, "there is no GPU")


@given(st.integers(0, 10**12), st.floats(0, 1e6), st.integers(0, 10**12), st.floats(0, 1e6))
def test_it_is_what_it_is_and_a_loss_is_below_zero(
    moved: int, moving: float, unloaded: int, unloading: float
) -> None:
    found = savings(tally(move(moved, moving), unload(unloaded, unloading)), Tally(), MACHINE, "")
    theirs = moved / GB / MACHINE.host_load + unloaded / GB / MACHINE.host_unload  # type: ignore[operator]
    assert found.since_start == pytest.approx(theirs - moving - unloading)
