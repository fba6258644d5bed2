"""What the first image waited for: told once, for the first request that made one."""

from __future__ import annotations

import logging

import pytest

from flux_speedup.stats.events import STARTUP, WHOLE, Event
from flux_speedup.stats.first_image import FirstImage
from flux_speedup.stats.statistics import Statistics

GB = 10**9


@pytest.mark.parametrize(
    ("first", "waited_for", "said"),
    [
        (
            FirstImage(9.8, 34 * GB, 21 * GB, 13 * GB, 8.4),
            "disk",
            "the first image waited for the disk: 21.0 GB of 34.0 GB were read when it was asked for, "
            "it read 13.0 GB by itself; 8.40 s of the image were for models",
        ),
        (
            FirstImage(9.8, 34 * GB, 34 * GB, 0, 0.6),
            "start",
            "the first image waited for the WebUI's start of 9.80 s alone: its 34.0 GB were read before it; "
            "0.60 s of the image were for models",
        ),
        (
            FirstImage(None, 0, 0, 0, 0.6),
            "start",
            "the first image waited for the WebUI's start alone: its files were in RAM already; "
            "0.60 s of the image were for models",
        ),
        (
            FirstImage(9.8, 0, 0, GB, 0.6),
            "disk",
            "the first image waited for the disk: it read 1.0 GB by itself; 0.60 s of the image were for models",
        ),
    ],
)
def test_disk_or_start(first: FirstImage, waited_for: str, said: str) -> None:
    assert (first.waited_for, first.sentence()) == (waited_for, said)


def test_it_is_told_once_with_what_was_read_when_it_was_asked_for(caplog: pytest.LogCaptureFixture) -> None:
    read = [(20, 30)]
    statistics = Statistics(lambda: (None, 10), lambda: read[-1])
    statistics.record(Event(STARTUP, WHOLE, 0, 9.5, "", ""))
    with caplog.at_level(logging.INFO, logger="flux_speedup"):
        with statistics.tracking.request("txt2img", "API"):
            read.append((25, 30))
        assert statistics.first_image() is None  # it made no image
        for _ in range(2):
            with statistics.tracking.request("txt2img", "API") as request:
                statistics.record(Event("move", "transformer", 7, 0.0, "disk", "GPU", detail="bf16"))
                read.append((30, 30))
                request.images = 1
    found = statistics.first_image()
    assert found is not None
    assert (found.start, found.read, found.wanted, found.cold) == (9.5, 25, 30, 7)
    assert sum("the first image waited for the disk" in each.message for each in caplog.records) == 1
