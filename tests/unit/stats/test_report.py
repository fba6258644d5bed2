"""What people read."""

from __future__ import annotations

import pytest

from flux_speedup.stats import report
from flux_speedup.stats.events import Event, KindTotal


@pytest.mark.parametrize(
    ("event", "text"),
    [
        (
            Event("move", "transformer", 23_800_000_000, 0.51, "page cache", "GPU"),
            "transformer: 23.8 GB in 0.51 s, 46.7 GB/s, page cache -> GPU",
        ),
        (Event("unload", "vae", 0, 0.02, "GPU", ""), "vae unloaded: 0.02 s, from GPU"),
        (
            Event("unload", "vae", 335_000_000, 0.0096, "GPU", "RAM"),
            "vae unloaded: 335 MB in 0.01 s, GPU -> RAM",
        ),
        (Event("move", "vae", 335_000_000, 0.0, "", ""), "vae: 335 MB in 0.00 s"),
        (Event("move", "vae", 487_180, 0.0002, "", ""), "vae: 487 kB in 0.2 ms, 2.4 GB/s"),
        (Event("move", "vae", 550_000_000, 1.0, "", ""), "vae: 550 MB in 1.00 s, 0.55 GB/s"),
        (Event("move", "x", 900, 1.0, "", "", detail="cold"), "x: 900 bytes in 1.00 s, 0.0009 MB/s, cold"),
        (Event("move", "a\nb\ud83d\x1b[2J é", 0, 1.0, "", ""), "a\\nb\\ud83d\\x1b[2J é: 1.00 s"),
    ],
)
def test_sentence(event: Event, text: str) -> None:
    assert report.sentence(event) == text


def test_total_sentence() -> None:
    assert report.total_sentence("move", KindTotal(3, 71_400_000_000, 1.5)) == (
        "move: 3 times, 71.4 GB in 1.50 s, 47.6 GB/s"
    )
    assert report.total_sentence("unload", KindTotal(1, 0, 0.25)) == "unload: once, 0.25 s"


def test_startup_table_is_in_order_of_time_and_has_stages_only() -> None:
    events = [
        Event("startup", "load scripts", 0, 3.0, "", "", at=20.0),
        Event("move", "vae", 1, 9.0, "", "", at=15.0),
        Event("startup", "import torch", 0, 1.0, "", "", at=10.0, detail="warm"),
    ]
    assert report.startup_table(events) == [
        report.Stage("import torch", 1.0, 0.25, "warm"),
        report.Stage("load scripts", 3.0, 0.75, ""),
    ]
    assert report.startup_lines(report.startup_table(events)) == [
        "import torch     1.00 s   25%",
        "load scripts     3.00 s   75%",
        "all stages       4.00 s  100%",
    ]


def test_startup_table_of_nothing_and_of_zero_seconds() -> None:
    assert report.startup_lines(report.startup_table([])) == []
    assert report.startup_table([Event("startup", "a", 0, 0.0, "", "", at=1.0)])[0].share == 0.0
