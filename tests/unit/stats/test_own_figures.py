"""Figures of this process, beside those of others that use the same file."""

from __future__ import annotations

from pathlib import Path

from flux_speedup.api.metrics import metrics
from flux_speedup.facts.view import MemoryUse, Status
from flux_speedup.stats.events import STARTUP, WHOLE, Event
from flux_speedup.stats.machine import Savings
from flux_speedup.stats.statistics import Statistics

STATUS = Status("0.1.0", "Forge", True, "", "", "", False, ())


def test_the_seconds_of_a_start_count_once(tmp_path: Path) -> None:
    statistics = Statistics(lambda: (tmp_path / "s.sqlite3", 1000))
    for stage, seconds in (
        ("import torch", 4.0),
        ("load scripts", 3.0),
        ("load scripts/a.py", 2.0),
        (WHOLE, 7.5),
    ):
        statistics.record(Event(STARTUP, stage, 0, seconds, "", ""))
    found = statistics.totals().kind(STARTUP)
    assert (found.count, found.seconds) == (1, 7.5)


def test_the_last_request_is_one_of_this_process(tmp_path: Path) -> None:
    place = (tmp_path / "s.sqlite3", 1000)
    one, other = Statistics(lambda: place), Statistics(lambda: place)

    def shown(statistics: Statistics) -> str:
        nothing = Savings(0, None, True, ""), MemoryUse(), None
        return metrics(STATUS, statistics.totals(), statistics.newest_here(), *nothing)

    assert one.newest_here() is None
    with one.tracking.request("txt2img", "API"):
        pass
    with other.tracking.request("img2img", "API"), other.tracking.stage("sampling"):
        assert other.newest_here() is not None
    one._made().flush()
    other._made().flush()
    assert [(each.kind, each.here) for each in one.requests(9)] == [("img2img", False), ("txt2img", True)]
    assert [(each.kind, each.here) for each in other.requests(9)] == [("img2img", True), ("txt2img", False)]
    newest = one.newest_here()
    assert newest is not None
    assert newest.kind == "txt2img"
    assert 'part="sampling"' not in shown(one)
    assert 'part="sampling"' in shown(other)
    one.forget()
    assert one.newest_here() is None


def test_what_was_saved_may_be_a_loss() -> None:
    totals = Statistics(lambda: (None, 1)).totals()
    text = metrics(STATUS, totals, None, Savings(-2.5, None, True, ""), MemoryUse(), None)
    assert "flux_speedup_saved_seconds -2.5" in text
    assert "saved_seconds_total" not in text
