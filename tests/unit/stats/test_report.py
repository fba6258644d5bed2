"""What people read."""

from __future__ import annotations

import math

import pytest

from flux_speedup.stats import report
from flux_speedup.stats.events import Event


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
        (Event("checkpoint", "a.gguf", 0, 0.07, "kept", "RAM"), "a.gguf was kept and is used again (0.07 s)"),
        (Event("move", "a\nb\ud83d\x1b[2J é", 0, 1.0, "", ""), "a\\nb\\ud83d\\x1b[2J é: 1.00 s"),
    ],
)
def test_sentence(event: Event, text: str) -> None:
    assert report.sentence(event) == text


@pytest.mark.parametrize(
    ("value", "shown"),
    [
        (0, "0.00 s"),
        (0.0034, "3 ms"),
        (0.514, "0.51 s"),
        (1.41, "1.41 s"),
        (9.996, "10.0 s"),
        (25.04, "25.0 s"),
        (378, "378 s"),
        (-3.0, "-3.00 s"),
        (math.nan, "?"),
    ],
)
def test_seconds_show_the_digits_that_matter(value: float, shown: str) -> None:
    assert report.seconds(value) == shown


@pytest.mark.parametrize(
    ("value", "shown"),
    [
        (0.514, "0.51 s"),
        (412.3, "412 s"),
        (1234.0, "20 min 34 s"),
        (12_100.0, "3 h 21 min"),
        (-3.0, "−3.00 s"),  # noqa: RUF001
        (0.0, "0 s"),
        (math.inf, "?"),
        (math.nan, "?"),
    ],
)
def test_a_long_time_is_told_in_minutes_and_hours(value: float, shown: str) -> None:
    assert report.span(value) == shown
