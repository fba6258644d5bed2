"""The log's own handlers: one to be seen, one to be shown."""

from __future__ import annotations

import logging
import re

import pytest

from flux_speedup.log import Ring, set_up_log


def said(ring: Ring, *lines: str) -> None:
    log = logging.Logger("test", logging.INFO)
    log.addHandler(ring)
    for line in lines:
        log.info("%s", line)


def test_the_newest_lines_are_kept_oldest_first() -> None:
    ring = Ring(3)
    said(ring, "one", "two", "three", "four")
    assert [line.partition(" ")[2] for line in ring.lines(10)] == ["two", "three", "four"]
    assert [line.partition(" ")[2] for line in ring.lines(1)] == ["four"]
    assert ring.lines(0) == []
    assert re.fullmatch(r"\d\d:\d\d:\d\d four", ring.lines(1)[0])


def test_a_warning_is_marked_as_one() -> None:
    ring = Ring()
    log = logging.Logger("test", logging.INFO)
    log.addHandler(ring)
    log.warning("out of luck")
    log.debug("not worth it")
    (line,) = ring.lines(5)
    assert line.endswith("out of luck [warning]")


def test_setting_up_twice_adds_nothing() -> None:
    log = logging.getLogger("flux_speedup")
    before = list(log.handlers)
    level, propagate = log.level, log.propagate
    try:
        set_up_log()
        once = list(log.handlers)
        set_up_log()
        assert log.handlers == once
        assert sum(isinstance(handler, Ring) for handler in once) == 1
    finally:
        log.handlers[:] = before
        log.setLevel(level)
        log.propagate = propagate


def test_a_line_that_cannot_be_made_is_told_to_the_log_itself_and_is_none(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    ring, handled = Ring(), []
    monkeypatch.setattr(ring, "handleError", handled.append)
    log = logging.Logger("test", logging.INFO)
    log.addHandler(ring)
    log.info("%d", "no number")
    log.info("the next")
    assert [record.msg for record in handled] == ["%d"]
    assert [line.partition(" ")[2] for line in ring.lines(5)] == ["the next"]
