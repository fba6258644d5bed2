"""The pieces of pictures."""

from __future__ import annotations

import pytest

from flux_speedup.ui import svg
from tests.fake_view import NASTY
from tests.page import Tags


@pytest.mark.parametrize("name", NASTY)
def test_words_in_pictures_are_escaped_everywhere(name: str) -> None:
    body = svg.rect(0, 0, 1, 1, "a", name) + svg.dot(0, 0, 1, "a", name) + svg.text(0, 0, name)
    page = svg.picture(name, 10, body)
    read = Tags(page)
    assert read.seen == {"svg", "rect", "circle", "text", "title"}
    assert read.open == []
    assert "\u202e" not in page
    page.encode("utf-8")
    if name.isprintable():
        assert read.drawn == 3 * name
        assert read.all[0][1]["aria-label"] == name


def test_a_picture_says_what_it_is_to_a_screen_reader() -> None:
    (_, attributes), *_ = Tags(svg.picture("two loads", 10, "")).all
    assert attributes["role"] == "img"
    assert attributes["aria-label"] == "two loads"


def test_a_width_below_nothing_is_nothing() -> None:
    assert 'width="0.000%"' in svg.rect(0, 0, -3, 5, "a")
