"""Starts before and after, from recorded events."""

from __future__ import annotations

import pytest

from flux_speedup.stats.events import Event
from flux_speedup.stats.starts import InForce, Starts, compare

PLAIN = InForce(0, False, False, True)
FULL = InForce(36, True, True, True)


def start(seconds: float, was: InForce | None, at: float) -> list[Event]:
    text = was.text() if was else ""
    return [
        Event("startup", "load scripts", 0, 99.0, "", "", at),
        Event("startup", "total", 0, seconds, "", "", at, text),
    ]


@pytest.mark.parametrize(
    "was",
    [
        PLAIN,
        FULL,
        InForce(1, False, False, False),
        InForce(0, True, False, True),
        InForce(0, False, True, True),
    ],
)
def test_what_was_in_force_survives_as_text(was: InForce) -> None:
    assert InForce.parse(was.text()) == was


@pytest.mark.parametrize("text", ["", "x", "a; b; c; d", "36 scripts; fast callbacks; x; headless", "; ; ; "])
def test_other_text_is_none(text: str) -> None:
    assert InForce.parse(text) is None


def test_medians_of_the_newest_starts_of_the_same_kind() -> None:
    events = [
        *start(40.0, PLAIN, 1),
        *(e for at, s in enumerate((18.0, 19.0, 18.7, 30.0, 18.5), 2) for e in start(s, PLAIN, at)),
        *start(14.0, InForce(20, True, True, True), 7),
        *start(9.0, InForce(36, True, True, False), 8),
        *start(5.0, None, 9),
        *start(11.6, FULL, 10),
        *start(12.6, FULL, 11),
        Event("move", "total", 0, 1.0, "", "", 12, FULL.text()),
    ]
    found = compare(reversed(events), page=True)
    assert found == Starts(18.7, pytest.approx(12.1))
    assert found.sentence() == "start 18.7 s -> 12.1 s"
    assert compare(events, page=False) == Starts(None, 9.0)


def test_one_side_alone_says_nothing() -> None:
    assert compare(start(10.0, FULL, 1), page=True).sentence() == ""
    assert compare([], page=True) == Starts()
