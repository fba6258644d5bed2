"""Whose second it is: requests by thread, events in them, failures."""

from __future__ import annotations

import threading
from collections.abc import Iterator
from itertools import count

import pytest

from flux_speedup.stats.events import Event
from flux_speedup.stats.requests import Request
from flux_speedup.stats.savings import Tally
from flux_speedup.stats.tracking import Tracking

MOVE = Event("move", "transformer", 24, 0.5, "page cache", "GPU", detail="24 file")


@pytest.fixture
def ended() -> list[tuple[Request, Tally]]:
    return []


@pytest.fixture
def tracking(ended: list[tuple[Request, Tally]]) -> Tracking:
    ticks = count(0, 1)
    return Tracking(lambda request, tally: ended.append((request, tally)), clock=lambda: float(next(ticks)))


def test_a_request_has_its_passes_its_bytes_and_its_tally(
    tracking: Tracking, ended: list[tuple[Request, Tally]]
) -> None:
    with tracking.request("txt2img", "API") as request:
        with tracking.run("txt2img", "p"), tracking.stage("sampling"):
            tracking.charge(MOVE)
            tracking.charge(Event("startup", "total", 0, 9.0, "", ""))
        request.images = 2
        ((running, _),) = tracking.running()
        assert running.running
    assert tracking.running() == []
    ((done, tally),) = ended
    assert (done.number, done.kind, done.via, done.images, done.bytes) == (1, "txt2img", "API", 2, 24)
    assert (done.running, done.failed) == (False, False)
    assert done.parts["move"] == 0.5
    assert sum(done.parts.values()) == done.seconds
    assert tally == Tally(moved=24, moving=0.5)
    assert [each.name for each in done.passes] == ["txt2img"]


def test_a_request_inside_a_request_is_a_part_of_it(
    tracking: Tracking, ended: list[tuple[Request, Tally]]
) -> None:
    with tracking.request("txt2img", "page") as outer, tracking.request("img2img", "API") as inner:
        assert inner is outer
    assert [done.kind for done, _ in ended] == ["txt2img"]


def test_one_that_raises_has_failed_and_the_next_has_not(
    tracking: Tracking, ended: list[tuple[Request, Tally]]
) -> None:
    def fail() -> None:
        with tracking.request("txt2img", "API"), tracking.run("txt2img", "p"), tracking.stage("vae"):
            raise ValueError("no such thing")

    with pytest.raises(ValueError, match="no such thing"):
        fail()
    with tracking.request("txt2img", "API"):
        pass
    assert [(done.number, done.failed) for done, _ in ended] == [(1, True), (2, False)]
    assert tracking.current() is None


def test_outside_a_request_nothing_counts(tracking: Tracking, ended: list[tuple[Request, Tally]]) -> None:
    with tracking.stage("load"), tracking.run("txt2img", "p"):
        tracking.charge(MOVE)
    assert tracking.loading_seconds() == 0
    assert ended == []


def test_another_thread_has_requests_of_its_own(
    tracking: Tracking, ended: list[tuple[Request, Tally]]
) -> None:
    def other() -> None:
        tracking.charge(MOVE)
        with tracking.request("img2img", "API"):
            tracking.charge(MOVE)

    with tracking.request("txt2img", "page"):
        thread = threading.Thread(target=other)
        thread.start()
        thread.join()
    assert [(done.kind, done.bytes) for done, _ in ended] == [("img2img", 24), ("txt2img", 0)]


def test_what_a_detector_begins_is_named_after_it(
    tracking: Tracking, ended: list[tuple[Request, Tally]]
) -> None:
    def passes() -> Iterator[str]:
        with tracking.request("txt2img", "page"), tracking.run("txt2img", "p"):
            for _ in range(2):
                with tracking.stage("adetailer"), tracking.run("img2img", "p2"):
                    pass
        yield from (each.name for each in ended[0][0].passes)

    assert list(passes()) == ["txt2img", "ADetailer 1", "ADetailer 2"]
