"""Statistics as JSON and CSV."""

from __future__ import annotations

import csv
import io
import json
import math
from types import MappingProxyType

import pytest

from flux_speedup.facts.plain import text
from flux_speedup.stats.events import Event
from flux_speedup.stats.requests import Request
from flux_speedup.ui import export
from tests.fake_view import NASTY, FakeView


def lines(view: FakeView) -> list[dict[str, str]]:
    return list(csv.DictReader(io.StringIO(export.as_csv(view))))


def test_json_has_the_views_own_figures() -> None:
    view = FakeView()
    view.made = [Request(3, "txt2img", "API", 5.0, 2.0, MappingProxyType({"load": 2.0}))]
    found = json.loads(export.as_json(view, 0.0))
    assert found["exported"] == "1970-01-01T00:00:00Z"
    assert found["totals"]["by_kind"]["move"]["bytes"] == view.totals().kind("move").bytes
    assert found["requests"] == [
        {
            "number": 3,
            "kind": "txt2img",
            "via": "API",
            "began": 5.0,
            "seconds": 2.0,
            "parts": {"load": 2.0},
            "passes": [],
            "bytes": 0,
            "images": 0,
            "running": False,
            "failed": False,
            "here": True,
        }
    ]
    assert len(found["events"]) == len(view.kept)
    assert found["status"]["outcomes"][0]["state"] == "applied"
    assert found["machine"]["bus"] == 55.2


def test_csv_has_every_event() -> None:
    view = FakeView()
    found = lines(view)
    assert len(found) == len(view.kept)
    assert found[1] == {
        "at": export.iso(view.events()[1].at),
        "kind": "move",
        "what": "vae",
        "bytes": "168000000",
        "seconds": "0.010000",
        "gb_per_s": "16.800",
        "source": "page cache",
        "target": "GPU",
        "detail": "",
    }


@pytest.mark.parametrize("name", [*NASTY, "=HYPERLINK(1)", "+1", "-1", "@x"])
def test_names_stay_text_in_every_program(name: str) -> None:
    view = FakeView()
    view.kept = [Event("move", name, 1, 1.0, name, name, 0.0, name)]
    export.as_json(view, 0.0).encode("utf-8")
    # As in the API: what no JSON reader takes is escaped.
    assert json.loads(export.as_json(view, 0.0))["events"][0]["what"] == text(name)
    (found,) = lines(view)
    assert found["what"][0] not in "=+-@"
    assert "\n" not in found["what"]
    export.as_csv(view).encode("utf-8")


def test_what_is_no_number_is_null() -> None:
    view = FakeView()
    view.kept = [Event("move", "odd", 1, math.nan, "", "", math.inf)]
    (found,) = json.loads(export.as_json(view, 0.0))["events"]
    assert found["seconds"] is None
    assert lines(view)[0]["at"] == ""
