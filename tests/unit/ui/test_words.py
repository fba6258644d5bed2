"""Figures and names as the page shows them."""

from __future__ import annotations

import math
import time

import pytest

from flux_speedup.stats.events import Event, Totals
from flux_speedup.ui import words
from tests.fake_view import NASTY


def test_headline_names_moves_checkpoints_and_unloads() -> None:
    events = [
        Event("move", "transformer", 66_500_000_000, 1.4, "", ""),
        Event("move", "vae", 100_000_000, 0.01, "", ""),
        Event("checkpoint", "dev", 0, 3.1, "", ""),
        Event("unload", "vae", 0, 0.25, "", ""),
    ]
    expected = "2 moves, 66.6 GB in 1.41 s; 1 checkpoint in 3.10 s; 1 unload in 0.25 s"
    assert words.headline(Totals.of(events)) == expected


def test_headline_of_nothing_says_so() -> None:
    assert words.headline(Totals()) == words.NOTHING


def test_when_is_a_clock_today_and_a_date_before() -> None:
    at = time.mktime((2026, 3, 4, 5, 6, 7, 0, 0, -1))
    assert words.when(at, at + 60) == "05:06:07"
    assert words.when(at, at + 200_000) == "2026-03-04 05:06"


@pytest.mark.parametrize("at", [math.nan, math.inf, 1e30])
def test_when_survives_what_is_no_time(at: float) -> None:
    assert words.when(at, 0.0) == "?"


@pytest.mark.parametrize("name", NASTY)
def test_safe_text_has_no_markup_no_line_break_and_no_direction_override(name: str) -> None:
    shown = words.safe(name).removeprefix("<bdi>").removesuffix("</bdi>")
    assert not set("<>\"'\n\u202e") & set(shown)
    assert shown.encode("utf-8")


def test_safe_text_keeps_letters_of_any_script_and_emoji() -> None:
    assert words.safe("מודל 🚀 模型") == "<bdi>מודל 🚀 模型</bdi>"


@pytest.mark.parametrize(
    ("value", "shown"),
    [(46.71, "46.7 GB/s"), (0.416, "0.42 GB/s"), (None, "not measured"), (math.nan, "not measured")],
)
def test_a_speed_is_told_or_said_to_be_missing(value: float | None, shown: str) -> None:
    assert words.gb_s(value) == shown


@pytest.mark.parametrize(
    ("part", "whole", "share"),
    [(1, 4, 0.25), (9, 4, 1.0), (-1, 4, 0.0), (1, 0, 0.0), (math.nan, 4, 0.0), (1, math.inf, 0.0)],
)
def test_a_share_is_always_one(part: float, whole: float, share: float) -> None:
    assert words.share(part, whole) == share
