"""Starts before and after, from recorded events."""

from __future__ import annotations

import pytest

from flux_speedup.stats.starts import InForce

PLAIN = InForce(0, False, False, True)
FULL = InForce(36, True, True, True)


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
