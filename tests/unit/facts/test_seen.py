"""What tab and API see: put together from what the rooms know."""

from __future__ import annotations

import logging
import sqlite3
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from flux_speedup.configuration import config
from flux_speedup.configuration.config import Source
from flux_speedup.control.acts import Acts
from flux_speedup.facts.seen import Decided, Seen
from flux_speedup.hosts.common.inside import Inside, Refused
from flux_speedup.hosts.common.webui import WebUI
from flux_speedup.local_models.report import LocalWeight, WeightState
from flux_speedup.measuring.measured import Measured, Place
from flux_speedup.memory import MemoryPlan, Tier
from flux_speedup.patching.table import PatchTable
from flux_speedup.stats.events import Event, Totals
from flux_speedup.stats.starts import InForce
from flux_speedup.stats.statistics import Statistics


class Host(WebUI):
    """A host with options, and memory that counts how often it is asked."""

    def __init__(self) -> None:
        super().__init__()
        self.chosen: dict[str, object] = {}
        self.asked = 0

    def settings(self) -> dict[str, object]:
        return self.chosen

    def inside(self) -> Inside:
        host = self

        class Counting(Inside):
            def vram_by_model(self) -> tuple[tuple[str, int], ...]:
                host.asked += 1
                return (("transformer", host.asked),)

            def free_vram(self) -> str:
                return "all of it"

        return Counting()


WEIGHTS = (LocalWeight("face_yolov8n.pt", "adetailer", WeightState.FOUND, "/models/face_yolov8n.pt", 6),)
Make = Callable[..., tuple[Seen, Statistics, Host]]


@pytest.fixture
def make(tmp_path: Path) -> Make:
    def seen(source: str = "config.json", **values: Any) -> tuple[Seen, Statistics, Host]:
        loaded = config.load([Source(source, values)])
        decided = Decided(loaded, MemoryPlan(Tier.NONE, "no GPU"), "cpu", page=True)
        statistics = Statistics(lambda: (tmp_path / "statistics.sqlite3", 1000))
        host = Host()
        nowhere = Place(lambda: None, lambda: None, lambda: None, lambda: "cpu", lambda: False)
        table = PatchTable(logging.getLogger("flux_speedup.test"))
        return (
            Seen(host, table, statistics, Measured(nowhere), lambda: decided, lambda: WEIGHTS),
            statistics,
            host,
        )

    return seen


def acts(seen: Seen) -> Acts:
    """What can be done to what `seen` shows."""
    return Acts(seen._host, seen._table, seen._statistics, seen._measured, seen.look_again)


def event(kind: str = "move", what: str = "transformer", at: float = 5.0, detail: str = "") -> Event:
    return Event(kind, what, 24, 0.5, "page cache", "GPU", at=at, detail=detail)


def test_what_a_start_shows(make: Make) -> None:
    view = make()[0]
    assert view.status().tier == "none"
    assert view.local_weights() == list(WEIGHTS)
    assert view.left_out().summary == "All scripts are loaded."
    assert view.requests() == []
    assert view.machine() is None
    assert view.measuring().state == "idle"


def test_running_requests_come_first_and_all_can_be_forgotten(make: Make) -> None:
    seen, statistics, _ = make()
    with statistics.tracking.request("txt2img", "API"):
        statistics.record(event(detail="file"))
    with statistics.tracking.request("img2img", "page"):
        assert [(each.number, each.running) for each in seen.requests()] == [(2, True), (1, False)]
        assert len(seen.requests(1)) == 1
    assert seen.requests(1)[0].kind == "img2img"
    assert len(seen.events()) == 1
    assert seen.totals().found == {"in use": 2}
    acts(seen).forget_statistics()
    assert (seen.requests(), seen.events(), seen.totals()) == ([], [], Totals())


def test_a_request_knows_its_own_savings(make: Make) -> None:
    seen, statistics, _ = make()
    assert seen.savings().in_request is None
    with statistics.tracking.request("txt2img", "API"):
        statistics.record(event(detail="file"))
    found = seen.savings()
    assert (found.since_start, found.in_request) == (0, 0)
    assert "no GPU" in found.how


def test_what_cannot_be_forgotten_now_is_refused(make: Make, tmp_path: Path) -> None:
    seen, statistics, _ = make()
    statistics.record(event())
    assert len(seen.events()) == 1
    with sqlite3.connect(tmp_path / "statistics.sqlite3", isolation_level=None) as other:
        other.execute("BEGIN IMMEDIATE")
        with pytest.raises(Refused, match="cannot be deleted now"):
            acts(seen).forget_statistics()
    other.close()


def test_starts_are_the_totals_of_starts(make: Make) -> None:
    seen, statistics, _ = make()
    nothing = InForce(0, fast_callbacks=False, lazy_apps=False, page=True)
    all_of_it = InForce(36, fast_callbacks=True, lazy_apps=True, page=True)
    headless = InForce(36, fast_callbacks=True, lazy_apps=True, page=False)
    for at, (stage, was) in enumerate(
        [
            ("import torch", None),
            ("total", nothing),
            ("totally else", all_of_it),
            ("total", all_of_it),
            ("total", headless),
            ("total", None),
        ]
    ):
        statistics.record(Event("startup", stage, 0, at, "", "", at, was.text() if was else ""))
    found = [(each.at, each.seconds, each.what) for each in seen.starts()]
    assert found == [(3.0, 3.0, all_of_it.told()), (1.0, 1.0, "")]
    assert all_of_it.told() == "36 scripts left out, fast callbacks, apps when needed"


def test_without_statistics_nothing_is_kept_and_no_file_is_made(make: Make, tmp_path: Path) -> None:
    seen, _, _ = make(statistics=False)
    assert (seen.events(), seen.requests(), seen.starts()) == ([], [], [])
    acts(seen).forget_statistics()
    assert seen.savings().since_start == 0
    assert list(tmp_path.iterdir()) == []


def test_memory_is_asked_for_once_a_second_and_after_it_was_freed(make: Make) -> None:
    seen, _, host = make()
    assert seen.memory() is seen.memory()
    assert host.asked == 1
    assert acts(seen).drop(None) == "all of it"
    assert seen.memory().vram_by_model == (("transformer", 2),)
    with pytest.raises(Refused):
        acts(seen).drop("unknown")


@pytest.mark.parametrize(
    ("source", "chosen", "expected"),
    [
        ("config.json", None, 3.0),
        ("config.json", "as configured", 3.0),
        ("config.json", "off", 0.0),
        ("settings", "30 s", 30.0),
        ("config.json", "soon", 3.0),
        ("command line", "30 s", 3.0),
        ("environment", "30 s", 3.0),
    ],
)
def test_the_rate_of_refreshing_is_the_one_chosen_now(
    make: Make, source: str, chosen: str | None, expected: float
) -> None:
    seen, _, host = make(source, refresh_s=3)
    if chosen is not None:
        host.chosen["flux_speedup_refresh_s"] = chosen
    assert seen.refresh_seconds() == expected


def test_the_bug_report_is_put_together(make: Make) -> None:
    seen, statistics, _ = make(refresh_s=3, streams=True, allowed_hosts=["my-own.example.org"])
    statistics.record(event())
    statistics.record(event("checkpoint", "my own.safetensors"))
    text = seen.bug_report()
    assert "move transformer" in text
    assert (
        "changed from the defaults:\n  refresh_s = 3.0 (a file)\n  allowed_hosts = set (a file)\n\n" in text
    )
    assert "my-own" not in text
    assert "my own" not in text
